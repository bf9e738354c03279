"""How many images a person may hold."""

from uuid import UUID

from sqlalchemy import case, func, select, text

from services.generation.models import Generation, Image
from services.generation.service.problems import ImageQuota
from services.kit.db import Tx
from services.kit.jobs import lineage

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")


def check_quota(tx: Tx, owner: UUID, more: int, quota: int, field: str) -> None:
    """Raise `ImageQuota` when `more` images are too many beside those of the owner's cohorts.

    Every cohort that is not deleted counts: as large as it was ordered, or, where its job has
    failed or was cancelled, as many images as it has. Of two orders at once the second waits for
    the first one's transaction.
    """
    tx.session.execute(_ONE_AT_A_TIME, {"key": f"images:{owner}"})
    rendered = (
        select(func.count())
        .where(Image.generation == Generation.id, Image.image_key.is_not(None))
        .scalar_subquery()
    )
    size = case((lineage.ended_early(Generation.job), rendered), else_=Generation.images)
    held = tx.session.scalar(
        select(func.coalesce(func.sum(size), 0)).where(
            Generation.owner == owner, lineage.visible(Generation.id)
        )
    )
    left = max(0, quota - int(held or 0))
    if more > left:
        raise ImageQuota(
            f"{more} images were asked for, and your cohorts hold {held} of {quota}; "
            "delete some that nobody needs",
            field=field,
            accepted=f"at most {left} images",
        )
