"""What a plan must be, and how its rows are found."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api_schemas.base import DataRef, DatasetRef
from api_schemas.evaluation import MACRO, PlanPost
from services.evaluation.models import Plan, Prediction
from services.evaluation.service.keeping import plan_folder
from services.evaluation.service.problems import (
    OnlyTrainingTells,
    PlanClosed,
    PlanInconsistent,
    PlanRegistered,
    PlanUnknown,
)
from services.evaluation.statistics.contrasts import in_circles
from services.evaluation.statistics.contrasts import references as named
from services.kit.auth import Caller
from services.kit.jobs import lineage


def check(plan: PlanPost) -> None:
    """Raise `PlanInconsistent` for a plan that no experiment could fulfil."""
    arms = [a.name for a in plan.arms]
    _check_once(plan)
    for field in ("reference", "primary"):
        if getattr(plan, field) not in arms:
            raise PlanInconsistent("It must be one of the arms", field=field, accepted=arms)
    if plan.primary == plan.reference:
        raise PlanInconsistent("It must differ from the reference", field="primary")
    _check_references(plan, arms)
    _check_labels(plan)
    if not 0 < plan.margin < 1:
        raise PlanInconsistent("A difference in AUROC above 0 and below 1", field="margin")
    if any(a.dose is not None and not 0 <= a.dose < math.inf for a in plan.arms):
        raise PlanInconsistent("A number of synthetic images per real one", field="arms")
    if MACRO in arms:
        raise PlanInconsistent(f"'{MACRO}' is the mean over the labels", field="arms")
    for index, question in enumerate(plan.questions):
        found = question.contradiction(arms)
        if found is not None:
            name, reason = found
            accepted = arms if name != "margin" else None
            raise PlanInconsistent(reason, field=f"questions.{index}.{name}", accepted=accepted)


def _check_references(plan: PlanPost, arms: list[str]) -> None:
    """The primary arm's is the plan's: one question has one reference."""
    for i, arm in enumerate(plan.arms):
        field = f"arms.{i}.reference"
        if arm.reference not in {None, *arms}:
            raise PlanInconsistent("It must be one of the arms", field=field, accepted=arms)
        if arm.name == plan.primary and arm.reference not in {None, plan.reference}:
            detail = "The primary arm is compared with the plan's reference"
            raise PlanInconsistent(detail, field=field, accepted=plan.reference)
    circle = next(in_circles(named(plan)), None)
    if circle is not None:
        raise PlanInconsistent(
            "References lead back to the same arm; an arm that names itself is compared with none",
            field=f"arms.{arms.index(circle)}.reference",
        )


def _check_labels(plan: PlanPost) -> None:
    for field, labels in (("labels", plan.labels), ("averaged", plan.averaged)):
        if labels is not None and not labels:
            raise PlanInconsistent("Name at least one, or leave it out for all", field=field)
    if plan.labels is not None and not set(plan.averaged or []) <= set(plan.labels):
        raise PlanInconsistent("They must be among the labels", field="averaged")


def _check_once(plan: PlanPost) -> None:
    for field, values in (
        ("arms", [a.name for a in plan.arms]),
        ("seeds", plan.seeds),
        ("tests", [t.name for t in plan.tests]),
        ("labels", plan.labels or []),
        ("averaged", plan.averaged or []),
        ("questions", [(q.arm, q.reference, q.kind) for q in plan.questions]),
    ):
        if len(set(values)) < len(values):
            raise PlanInconsistent("Each at most once", field=field)


def digest_of(plan: PlanPost) -> str:
    """SHA-256 of the plan as JSON with sorted keys."""
    content = json.dumps(plan.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def plan_of(row: Plan) -> PlanPost:
    return PlanPost.model_validate(row.content)


def expected(plan: PlanPost) -> int:
    return len(plan.arms) * len(plan.seeds) * len(plan.tests)


def inputs_digest(
    plan_digest: str,
    predictions: Sequence[Prediction],
    manifests: Mapping[str, str | None] | None = None,
) -> str:
    """SHA-256 over the plan's digest, every set's, and those of the manifests (by test set) that
    say who is in which group: what the results follow from.
    """
    lines = sorted(f"{p.test}\n{p.arm}\n{p.seed}\n{p.digest}" for p in predictions)
    lines += sorted(f"{test}\n{digest}" for test, digest in (manifests or {}).items())
    return hashlib.sha256("\n\n".join([plan_digest, *lines]).encode()).hexdigest()


def find(session: Session, caller: Caller, plan: UUID, *, lock: bool = False) -> Plan:
    query = select(Plan).filter_by(id=plan, project=caller.project)
    row = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise PlanUnknown("There is no such plan")
    return row


def find_open(session: Session, caller: Caller, plan: UUID, *, lock: bool = False) -> Plan:
    """A plan that still takes predictions; raises `PlanClosed` (409) for another."""
    row = find(session, caller, plan, lock=lock)
    if lineage.is_deleted(session, row.id):
        raise PlanClosed("It takes no more predictions", field="plan")
    return row


def check_told(caller: Caller, row: Plan) -> None:
    """Raise `OnlyTrainingTells` (403) when a person tells of runs of the training service."""
    if row.by_service and not caller.by_service:
        raise OnlyTrainingTells(f"Experiment {row.experiment} is trained here")


def registered(session: Session, caller: Caller, plan: PlanPost) -> UUID | None:
    """The same plan, if it was registered before; raises `PlanRegistered` (409) for another."""
    query = select(Plan).filter_by(experiment=plan.experiment, project=caller.project)
    row = session.scalars(query).one_or_none()
    if row is not None and plan_of(row) != plan:
        raise PlanRegistered(f"Its plan is {row.id}", field="experiment")
    return None if row is None else row.id


def sources_of(plan: PlanPost) -> dict[UUID, str]:
    """The ids of what the plan is made from, with the field that names each."""
    ids = {
        ref.dataset if isinstance(ref, DatasetRef) else ref.generation: field
        for field, ref in references(plan)
    }
    return {plan.experiment: "experiment", **ids}


def references(plan: PlanPost) -> Iterator[tuple[str, DataRef]]:
    """All data that the plan names, with the field that does."""
    for i, test in enumerate(plan.tests):
        yield f"tests.{i}.data", test.data
    sheet = plan.contact_sheet
    if sheet is not None:
        yield "contact_sheet.real", sheet.real
        if sheet.synthetic is not None:
            yield "contact_sheet.synthetic", sheet.synthetic


def find_of_experiment(session: Session, caller: Caller, experiment: UUID) -> Plan:
    query = select(Plan).filter_by(experiment=experiment, project=caller.project)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise PlanUnknown("There is no plan of such an experiment")
    return row


def received(session: Session, plan: UUID) -> int:
    query = select(func.count()).select_from(Prediction).where(Prediction.plan == plan)
    return session.scalars(query).one()


def report_key(plan: Plan, sha256: str) -> str:
    return f"{plan_folder(plan.project, plan.id)}reports/{sha256[:16]}.html"
