"""The last step of a cohort's job: what is too like a training image is flagged, the rest is its
manifest.
"""

from collections.abc import Sequence

import numpy as np
from sqlalchemy import select, update

from api_schemas.manifest import content_digest, to_parquet
from api_schemas.screening import Calibration, Screening
from services.copies.calibration import above
from services.generation.models import Calibrated, Generation, Generator, Image
from services.generation.service.keys import generation_folder
from services.generation.service.screening import IMAGES_GONE, TOO_FEW, reason_against
from services.generation.views import cohort_table
from services.kit.db import Database, Tx, new_id
from services.kit.jobs import Lease
from services.kit.objects import ObjectStore, sha256


class Publish:
    """Writes the cohort's manifest: from here on it is a dataset.

    A cohort that is screened again keeps its manifest's version where nothing changes.
    """

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store

    def __call__(self, lease: Lease, row: Generation, generator: Generator) -> None:
        with self._db.transaction() as tx:
            known = tx.session.get(Calibrated, generator.id)
            images = tx.session.scalars(
                select(Image).where(Image.generation == row.id).order_by(Image.index)
            ).all()
        calibration = None if known is None else Calibration.model_validate(known.calibration)
        screening, flagged = judged(row, generator, images, calibration)
        table = cohort_table([each for each in images if each.index not in flagged], generator)
        digest = content_digest(table)
        content = to_parquet(table)
        key = f"{generation_folder(row.project, row.id)}manifest-{digest[:16]}.parquet"
        self._store.put(key, content)
        lease.progress(row.images, row.images, "images")
        with lease.finishing() as tx:
            self._flag(tx, row, flagged)
            row = tx.session.get_one(Generation, row.id)
            row.screening = screening.model_dump(mode="json", exclude={"job"})
            if digest == row.manifest_digest:
                return
            if row.manifest_key is not None:
                before = [row.manifest_key]
                tx.after_commit(lambda: self._store.remove(before))
            row.manifest = new_id()
            row.manifest_digest = digest
            row.manifest_key = key
            row.manifest_sha256 = sha256(content)

    def _flag(self, tx: Tx, row: Generation, flagged: set[int]) -> None:
        is_flagged = Image.index.in_(flagged)
        tx.session.execute(
            update(Image)
            .where(Image.generation == row.id, Image.flagged != is_flagged)
            .values(flagged=is_flagged)
        )


def judged(
    row: Generation,
    generator: Generator,
    images: Sequence[Image],
    calibration: Calibration | None,
) -> tuple[Screening, set[int]]:
    """What is known of a cohort now, and the indices of what is withheld."""
    if calibration is None or any(each.likeness is None for each in images):
        return Screening(reason=reason_against(row, generator) or IMAGES_GONE), set()
    limit = calibration.threshold
    like = np.array([each.likeness for each in images], np.float32)
    flags = above(like, limit) if limit is not None else like >= 1.0
    screening = Screening(
        state="uncalibrated" if limit is None else "screened",
        reason=TOO_FEW if limit is None else "",
        flagged=int(flags.sum()),
        flagged_rate=float(flags.mean()),
        calibration=calibration,
    )
    return screening, {each.index for each, flag in zip(images, flags, strict=True) if flag}
