"""What an import left out, where that is so much that the dataset may not be what was wanted."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api_schemas.datasets import RejectionCode
from services.datasets.models import Rejection

REASONS = 3
"""So many of the most frequent reasons are told."""


def warnings(
    session: Session, dataset: UUID, planned: Mapping[str, int], kept: Mapping[str, int]
) -> list[str]:
    """Warnings about the rows of a source that have become no image of the dataset.

    `planned` are the rows of each split, as the source states it or the hash of the patient
    decides; `kept` are the images of each. Patients who were withdrawn are not counted.
    """
    told: list[str] = []
    left_out, rows = _left_out(session, dataset), sum(kept.values())
    rows += left_out
    if left_out * 2 > rows:
        told.append(
            f"more than half of the rows were left out: {left_out} of {rows}; most often because: "
            + "; ".join(f"{reason} ({count})" for reason, count in _reasons(session, dataset))
        )
    told += [
        f"no image of the {split} split was imported; rows of it that were left out: {count}"
        for split, count in planned.items()
        if count and not kept.get(split)
    ]
    return told


def _left_out(session: Session, dataset: UUID) -> int:
    counted = select(func.count()).where(
        Rejection.dataset == dataset, Rejection.code != RejectionCode.WITHDRAWN
    )
    return session.scalar(counted) or 0


def _reasons(session: Session, dataset: UUID) -> list[tuple[str, int]]:
    counted = func.count()
    found = session.execute(
        select(Rejection.reason, counted)
        .where(Rejection.dataset == dataset, Rejection.code != RejectionCode.WITHDRAWN)
        .group_by(Rejection.reason)
        .order_by(counted.desc(), Rejection.reason)
        .limit(REASONS)
    )
    return [(reason, count) for reason, count in found]
