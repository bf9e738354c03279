"""Where a dataset's objects lie in the store."""

import re
from uuid import UUID


def folder(project: UUID, dataset: UUID) -> str:
    return f"projects/{project}/datasets/{dataset}/"


def upload_key(project: UUID, upload: UUID, sha256: str) -> str:
    return f"projects/{project}/uploads/{upload}/{sha256[:16]}"


def image_key(project: UUID, dataset: UUID, ordinal: int, sha256: str) -> str:
    """A thousand images a folder; the digest makes other bytes another object."""
    name = f"{ordinal // 1000:04d}/{ordinal:06d}-{sha256[:16]}.png"
    return f"{folder(project, dataset)}images/{name}"


def ordinal_of(key: str) -> int | None:
    """The ordinal of the sample whose image has this key; None for other objects."""
    found = re.fullmatch(r".*/images/\d+/(\d+)-[0-9a-f]+\.png", key)
    return None if found is None else int(found[1])


def manifest_key(project: UUID, dataset: UUID, digest: str) -> str:
    return f"{folder(project, dataset)}manifest-{digest[:16]}.parquet"
