"""What datasets keep: which objects a row names, and how it all goes."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from services.datasets.models import Dataset, Manifest, Sample, Upload
from services.datasets.service.keys import folder, ordinal_of
from services.kit.collector import Named
from services.kit.db import Tx
from services.kit.deletion import Kept

KIND = "dataset"


def _forget(session: Session, dataset: UUID) -> None:
    session.execute(delete(Dataset).where(Dataset.id == dataset))


KEPT: Mapping[str, Kept] = {KIND: Kept(folder, _forget)}


def _named(tx: Tx, dataset: UUID, keys: Sequence[str]) -> set[str]:
    ordinals = [n for n in map(ordinal_of, keys) if n is not None]
    images = select(Sample.image_key).where(
        Sample.dataset == dataset, Sample.ordinal.in_(ordinals), Sample.image_key.is_not(None)
    )
    manifests = select(Manifest.key).where(Manifest.dataset == dataset)
    named = set(tx.session.scalars(manifests))
    return named.union(key for key in tx.session.scalars(images) if key is not None)


def _named_uploads(tx: Tx, upload: UUID, _: Sequence[str]) -> set[str]:
    return set(tx.session.scalars(select(Upload.key).where(Upload.id == upload)))


NAMED: Mapping[str, Named] = {"datasets": _named, "uploads": _named_uploads}
"""Which keys of a dataset's, or an upload's, folder their rows name."""
