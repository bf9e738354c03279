"""How a job came to a bad end, in words for whoever needed what it was to make."""

from sqlalchemy.orm import Session

from api_schemas.base import Problem
from services.kit.errors import Conflict
from services.kit.jobs.models import Job, Resource

NOUNS = {"generation": "cohort"}
"""What people call a kind of resource, where that is another word."""


def noun(kind: str) -> str:
    """What people call a kind of resource."""
    return NOUNS.get(kind, kind)


class DependencyFailed(Conflict):
    slug = "dependency-failed"
    title = "What this job waited for did not succeed"


def ending(state: str, problem: Problem | None) -> str:
    """The state as the end of a sentence, with the reason where there is one."""
    words = {"cancelled": "was cancelled", "quarantined": "is quarantined"}.get(state, "has failed")
    why = problem and (problem.detail or problem.title)
    return f"{words}: {why}" if why else words


def dependency_failed(session: Session, awaited: Job) -> DependencyFailed:
    """Names the resource that was not made, and says why."""
    made = session.get(Resource, awaited.resource)
    what = awaited.kind if made is None else noun(made.kind)
    name = f" '{made.name}'" if made is not None and made.name else ""
    problem = None if awaited.problem is None else Problem.model_validate(awaited.problem)
    return DependencyFailed(
        f"{what.capitalize()}{name} {ending(awaited.state, problem)}",
        resource=str(awaited.resource),
        job=str(awaited.id),
    )
