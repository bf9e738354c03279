"""Where the objects of generation lie."""

import re
from uuid import UUID

from services.generation.models import Generation, Generator


def generator_folder(project: UUID, generator: UUID) -> str:
    return f"projects/{project}/generators/{generator}/"


def generator_key(row: Generator, name: str, digest: str) -> str:
    """`population` -> `projects/.../generators/{id}/population-{sha16}.parquet` and the like."""
    stem, _, ending = name.partition(".")
    return f"{generator_folder(row.project, row.id)}{stem}-{digest[:16]}.{ending}"


def checkpoint_key(row: Generator, step: int, name: str, digest: str) -> str:
    stem, _, ending = name.partition(".")
    folder = f"{generator_folder(row.project, row.id)}checkpoints/{step:08d}"
    return f"{folder}/{stem}-{digest[:16]}.{ending}"


def preview_key(row: Generator, step: int, digest: str) -> str:
    folder = f"{generator_folder(row.project, row.id)}previews"
    return f"{folder}/{step:08d}-{digest[:16]}.png"


def generation_folder(project: UUID, generation: UUID) -> str:
    return f"projects/{project}/generations/{generation}/"


def image_key(row: Generation, index: int, digest: str) -> str:
    folder = f"{generation_folder(row.project, row.id)}images/{index // 1000:04d}"
    return f"{folder}/{index:06d}-{digest[:16]}.png"


def index_of(key: str) -> int | None:
    """The index of the image that has this key; None for other objects."""
    found = re.fullmatch(r".*/images/\d+/(\d+)-[0-9a-f]+\.png", key)
    return None if found is None else int(found[1])
