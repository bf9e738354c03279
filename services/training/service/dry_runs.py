"""An experiment's plan before it runs. Makes nothing but, where speed is unknown, a calibration."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from api_schemas.arms import Arm
from api_schemas.base import JobView
from api_schemas.findings import Finding
from api_schemas.planning import (
    Contrast,
    Estimate,
    ExperimentPlan,
    PlannedTraining,
    TestPlan,
)
from api_schemas.training import ExperimentRequest
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.jobs import Jobs, NewJob
from services.training.models import Calibration
from services.training.service import checks, speeds
from services.training.service.arms import (
    contrasts_of,
    expand,
    planned_arms,
    primary_of,
    questions_of,
    reference_of,
)
from services.training.service.calibrating import CALIBRATE, STEPS
from services.training.service.catalogue import Catalogue
from services.training.service.counting import TestCounts, averaged
from services.training.service.experiments import check_extended, synthetic_of
from services.training.service.inputs import digests, finished_twins
from services.training.service.materials import cadence
from services.training.service.planning import Planned, Planner
from services.training.service.power import no_verdict, smallest_difference
from services.training.service.speeds import Work

QUEUE = SERVICE = "training"
AGAIN_AFTER = timedelta(hours=1)
"""A calibration that failed is not asked for again by every look."""


class DryRuns:
    """The use case of `POST /experiments` with `dry_run`."""

    def __init__(self, db: Database, jobs: Jobs, catalogue: Catalogue) -> None:
        self._db = db
        self._jobs = jobs
        self._catalogue = catalogue

    def plan(self, caller: Caller, request: ExperimentRequest) -> ExperimentPlan:
        """Refuses what creating the experiment would refuse, with the same problems."""
        with self._db.transaction() as tx:
            check_extended(tx.session, caller, request)
        arms = expand(request)
        primary = primary_of(request, arms)
        listed = self._catalogue.list_all(caller, request, arms)
        checks.one_size(list(listed.values()))
        waits_for = [each.job.id for each in listed.values() if not each.ready]
        planned = Planner(self._catalogue).plan_if_ready(caller, request, listed)
        plan = ExperimentPlan(
            arms=_arms(request, arms, primary, planned),
            reference=reference_of(request),
            primary=primary,
            contrasts=list(_contrasts(request, arms, primary)),
            seeds=request.seeds,
            runs=len(arms) * len(request.seeds),
            waits_for=waits_for,
            power=request.power,
        )
        if planned is None:
            return plan
        known = planned.blueprint
        labels, not_averaged = averaged(
            planned.tests, request.plan.averaged, request.plan.fewest_patients
        )
        with self._db.transaction() as tx:
            runs = {digest: arm for (arm, _), digest in digests(request, known, arms).items()}
            twins = finished_twins(tx.session, caller.project, runs)
            new = [arm for digest, arm in runs.items() if digest not in twins]
            estimate, calibration = self._estimate(tx, caller, request, planned, new)
        return plan.model_copy(
            update={
                "reused_runs": plan.runs - len(new),
                "total_steps": len(request.seeds) * sum(sum(a.steps) for a in known.arms.values()),
                "labels": known.labels,
                "left_out": known.left_out,
                "not_estimable": known.not_estimable,
                "averaged": labels,
                "not_averaged": not_averaged,
                "tests": [
                    _test(each, labels, request, len(planned.tests)) for each in planned.tests
                ],
                "waived": known.waived,
                "estimate": estimate,
                "calibration": calibration,
            }
        )

    def _estimate(
        self,
        tx: Tx,
        caller: Caller,
        request: ExperimentRequest,
        planned: Planned,
        new: Sequence[str],
    ) -> tuple[Estimate | None, JobView | None]:
        """Hours for the runs that are `new`, by their arms; or the job after which there will be
        an answer.
        """
        key = speeds.key_of(speeds.configuration(request.classifier, planned.blueprint.size_px))
        measured = speeds.newest(tx.session, key)
        if measured is not None:
            return speeds.estimate(measured, _work(request, planned, new)), None
        asked = speeds.asked_for(tx.session, caller, key)
        if asked is not None and asked.job is not None:
            job = self._jobs.view(tx, asked.job)
            if job.finished_at is None or datetime.now(UTC) - job.finished_at < AGAIN_AFTER:
                return None, job
        return None, self._jobs.view(tx, self._calibrate(tx, caller, request, planned))

    def _calibrate(
        self, tx: Tx, caller: Caller, request: ExperimentRequest, planned: Planned
    ) -> UUID:
        size_px = planned.blueprint.size_px
        configured = speeds.configuration(request.classifier, size_px)
        job = NewJob(
            SERVICE,
            CALIBRATE,
            QUEUE,
            caller,
            new_id(),
            inputs={"classifier": request.classifier.model_dump(mode="json"), "size_px": size_px},
            slices=[{}],
            total=STEPS,
            unit="steps",
            short=True,
        )
        tx.session.add(
            Calibration(
                id=job.resource,
                project=caller.project,
                key=speeds.key_of(configured),
                configuration=configured,
                job=job.id,
            )
        )
        return self._jobs.submit(tx, job)


def _arms(
    request: ExperimentRequest, arms: Sequence[Arm], primary: str, planned: Planned | None
) -> list[PlannedTraining]:
    blueprint = None if planned is None else planned.blueprint
    dosed = planned_arms(
        arms, contrasts_of(request, arms), primary, synthetic_of(request, blueprint), blueprint
    )
    doses = {arm.name: arm.dose for arm in dosed}
    known = {} if blueprint is None else blueprint.arms
    return [
        PlannedTraining(
            arm=arm,
            images=known[arm.name].images if known else None,
            withheld=known[arm.name].withheld if known else None,
            steps=sum(known[arm.name].steps) if known else None,
            dose=doses[arm.name],
        )
        for arm in arms
    ]


def _contrasts(request: ExperimentRequest, arms: Sequence[Arm], primary: str) -> Iterator[Contrast]:
    """In the order of the arms, then of the further questions."""
    for arm, reference in contrasts_of(request, arms).items():
        if reference is not None:
            family = "primary" if arm == primary else f"exploratory, {reference}"
            yield Contrast(arm=arm, reference=reference, family=family)
    for asked in questions_of(request, arms):
        yield Contrast(arm=asked.arm, reference=asked.reference, family="registered")


def _test(
    counts: TestCounts, averaged: Sequence[Finding], request: ExperimentRequest, tests: int
) -> TestPlan:
    in_mean = [each for each in counts.labels if each.label in averaged]
    return TestPlan(
        name=counts.name,
        images=counts.images,
        patients=counts.patients,
        labels=counts.labels,
        smallest_difference=smallest_difference(in_mean, len(request.seeds), request.power, tests),
        no_verdict=no_verdict(in_mean, len(request.seeds)),
        complements=[pair for pair in counts.complements if set(pair) <= set(averaged)],
    )


def _work(request: ExperimentRequest, planned: Planned, new: Sequence[str]) -> Iterator[Work]:
    """What every new run does. Patience may end one early: nobody knows when."""
    tested = sum(test.images for test in planned.tests)
    for arm in new:
        steps = sum(planned.blueprint.arms[arm].steps)
        validations = -(-steps // cadence(request.classifier, steps))
        yield Work(steps, validations * planned.validation_images + tested)
