"""How many images a person may hold."""

from uuid import UUID

from sqlalchemy import func, select, text

from services.generation.models import Generation
from services.generation.service.problems import ImageQuota
from services.kit.db import Tx
from services.kit.jobs import lineage

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")


def check_quota(tx: Tx, owner: UUID, more: int, quota: int, field: str) -> None:
    """Raise `ImageQuota` when `more` images are too many beside those of the owner's cohorts.

    Every cohort that is not deleted counts, as large as it was ordered. Of two orders at once the
    second waits for the first one's transaction.
    """
    tx.session.execute(_ONE_AT_A_TIME, {"key": f"images:{owner}"})
    held = tx.session.scalar(
        select(func.coalesce(func.sum(Generation.images), 0)).where(
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
