"""Runs that failed for good: how that is told, and what is then still compared with what.

The rule is fixed before anybody knows which runs fail: the registered question takes the training
seeds that both its arms have, all else takes the same seeds, and an arm that lacks one of them is
left out and named. Nothing is compared over different seeds, and no side arm that failed makes the
registered question weaker.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import func, select

from api_schemas.evaluation import MACRO, AbsencePost, AbsenceView, Flag, PlanPost, ResultRow
from services.evaluation.models import Absence, Prediction
from services.evaluation.service import plans
from services.evaluation.service.completion import submit_if_complete
from services.evaluation.service.problems import NothingAbsent, NothingToCompare, NotInPlan
from services.evaluation.statistics.analysis import TestEstimates
from services.evaluation.statistics.contrasts import references
from services.evaluation.statistics.lines import counts_of
from services.evaluation.views import absence_view
from services.kit.auth import Caller
from services.kit.db import Database
from services.kit.jobs import Jobs, lineage


class Absences:
    """The use case of whoever trains: what will never come is not waited for."""

    def __init__(self, db: Database, jobs: Jobs) -> None:
        self._db = db
        self._jobs = jobs

    def forgo(self, caller: Caller, plan: UUID, what: AbsencePost) -> AbsenceView:
        """The predictions of an arm and seed will never come. Saying so again changes nothing. Only
        the training service says it of its own runs.

        Raises `NothingAbsent` (409) when they have all come, or when the evaluation has begun.
        """
        with self._db.transaction() as tx:
            lineage.share(tx.session, caller.project)
            row = plans.find_open(tx.session, caller, plan, lock=True)
            plans.check_told(caller, row)
            _check_named(plans.plan_of(row), what)
            known = tx.session.get(Absence, (row.id, what.arm, what.seed))
            if known is not None:
                return absence_view(known)
            came = select(func.count()).where(
                Prediction.plan == row.id, Prediction.arm == what.arm, Prediction.seed == what.seed
            )
            if row.job is not None or tx.session.scalar(came) == len(plans.plan_of(row).tests):
                raise NothingAbsent("All its predictions were received", field="arm")
            made = Absence(plan=row.id, **what.model_dump())
            tx.session.add(made)
            tx.session.flush()
            tx.session.refresh(made)
            submit_if_complete(tx, self._jobs, caller, row)
            return absence_view(made)


def _check_named(plan: PlanPost, what: AbsencePost) -> None:
    if what.arm not in [a.name for a in plan.arms]:
        raise NotInPlan("The plan has no such arm", field="arm")
    if what.seed not in plan.seeds:
        raise NotInPlan("The plan has no such seed", field="seed", accepted=plan.seeds)


def what_is_left(
    plan: PlanPost, absent: Sequence[Absence], received: Collection[Prediction] = ()
) -> PlanPost:
    """The plan without what cannot be compared, which it says among its waivers; also where
    predictions were `received` of a run that was said to have failed.

    Raises `NothingToCompare` when the primary arm and its reference share no seed.
    """
    if not absent:
        return plan
    missing = {(a.arm, a.seed) for a in absent}
    asked = (plan.primary, plan.reference)
    seeds = [s for s in plan.seeds if not any((arm, s) in missing for arm in asked)]
    if not seeds:
        raise NothingToCompare(f"{plan.primary} and {plan.reference} share no training seed")
    arms = [a for a in plan.arms if not any((a.name, s) in missing for s in seeds)]
    told = [*_contradicted(plan, absent, received), *_told(plan, absent, seeds)]
    left = {"arms": arms, "seeds": seeds, "waived": [*plan.waived, *told]}
    return plan.model_copy(update=left)


def _contradicted(
    plan: PlanPost, absent: Sequence[Absence], received: Collection[Prediction]
) -> list[str]:
    """Whoever leaves out a run that has predictions may have looked at them."""
    came = Counter((each.arm, each.seed) for each in received)
    return [
        f"contradicted: {a.arm}, seed {a.seed} was said to have failed, but predictions of it were"
        f" received for {came[a.arm, a.seed]} of {len(plan.tests)} test sets; it is left out of"
        " every number"
        for a in absent
        if came[a.arm, a.seed]
    ]


def _told(plan: PlanPost, absent: Sequence[Absence], seeds: Collection[int]) -> list[str]:
    failed = [f"runs: {a.arm}, seed {a.seed} failed for good ({a.reason})" for a in absent]
    if len(seeds) == len(plan.seeds):
        return failed
    kept = ", ".join(map(str, seeds))
    return [*failed, f"runs: everything is compared over the seeds that are left: {kept}"]


def lines_of_left_out(
    plan: PlanPost, left: PlanPost, tests: Sequence[TestEstimates]
) -> list[ResultRow]:
    """A line without numbers for every arm, label and test set that the plan asked for and the
    evaluation had to leave out.
    """
    evaluated = {arm.name for arm in left.arms}
    flags: list[Flag] = ["not_estimable", "runs_missing"]
    if any(said.startswith("contradicted") for said in left.waived):
        flags.append("runs_contradicted")
    return [
        _empty_line(plan, arm.name, of.test, label, of, flags)
        for of in tests
        for arm in plan.arms
        if arm.name not in evaluated
        for label in (MACRO, *of.cases.labels)
    ]


def _empty_line(
    plan: PlanPost, arm: str, test: str, label: str, of: TestEstimates, flags: Sequence[Flag]
) -> ResultRow:
    nothing = dict.fromkeys(
        ("auroc", "low", "high", "difference", "difference_low", "difference_high")
    )
    counts = counts_of(of.cases, label)
    return ResultRow.model_validate(
        {
            "experiment": plan.experiment,
            "arm": arm,
            "test": test,
            "label": label,
            "images": counts.images,
            "positives": counts.positives,
            "patients": counts.patients,
            "seeds": 0,
            "reference": references(plan)[arm],
            **nothing,
            **dict.fromkeys(("p", "p_holm", "dof")),
            "flags": flags,
        }
    )
