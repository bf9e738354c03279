"""What each person is granted, and what they have used of it."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from api_schemas.jobs import ShareRequest, ShareView
from services.kit.db import Tx
from services.kit.jobs.models import Share, Usage


def view(tx: Tx, person: UUID) -> ShareView:
    """A person's share; who was granted none has the common one."""
    row = tx.session.get(Share, person)
    granted = (
        ShareRequest()
        if row is None
        else ShareRequest(weight=row.weight, running_cap=row.running_cap, queued_cap=row.queued_cap)
    )
    used = tx.session.execute(
        select(Usage.queue, func.jobs.decayed(Usage.seconds, Usage.as_of)).where(
            Usage.owner == person
        )
    ).all()
    return ShareView(
        person=person,
        **granted.model_dump(),
        used_s={queue: round(float(seconds), 1) for queue, seconds in used},
    )


def grant(tx: Tx, person: UUID, request: ShareRequest) -> ShareView:
    """Replace a person's share."""
    values = request.model_dump()
    tx.session.execute(
        insert(Share)
        .values(owner=person, **values)
        .on_conflict_do_update(index_elements=["owner"], set_=values)
    )
    tx.session.expire_all()
    return view(tx, person)
