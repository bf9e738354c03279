"""The evaluation itself: predictions in, result lines and a report out, as one slice."""

import importlib.metadata
import importlib.resources
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

import numpy as np
from sqlalchemy import select

from api_schemas.evaluation import BaselineRow, Flag, PlannedTest, PlanPost
from services.evaluation import models, statistics
from services.evaluation.reports.facts import ArmCurves, PredictionFacts, Report, TestFacts
from services.evaluation.service import plans, record
from services.evaluation.service.absences import lines_of_left_out, what_is_left
from services.evaluation.service.baselines import Baselines
from services.evaluation.service.completion import UNIT, absent
from services.evaluation.service.matching import differences
from services.evaluation.service.particulars import detailed
from services.evaluation.service.problems import PredictionsDamaged
from services.evaluation.service.record import Page
from services.evaluation.service.sources import Sources
from services.evaluation.service.stock import Stock
from services.evaluation.service.tables import restore
from services.evaluation.statistics.analysis import (
    METHOD,
    TestEstimates,
    comparisons,
    estimate,
    group_rows,
    metric_rows,
    result_rows,
    trends,
)
from services.evaluation.statistics.averaged import Averaged, averaged_over, complements
from services.evaluation.statistics.cases import Cases, Floats, Ints
from services.evaluation.statistics.curves import curves
from services.evaluation.statistics.groups import Group, Grouping, attributes_of, groups_of
from services.evaluation.statistics.predictions import Predictions
from services.evaluation.statistics.questions import answers
from services.kit.db import Database
from services.kit.jobs import Lease, step_of
from services.kit.objects import DigestMismatch, ObjectMissing, ObjectStore, sha256

HTML = "text/html; charset=utf-8"
LIBRARIES = ("numpy", "scipy", "pyarrow")


@dataclass(frozen=True)
class Stored:
    """A plan and every set of predictions it asked for; `left` is what can be compared of it."""

    row: models.Plan
    plan: PlanPost
    left: PlanPost
    predictions: dict[tuple[str, str, int], models.Prediction]


@dataclass(frozen=True, eq=False)
class Scored:
    """All arms on one test set, and the curves of the two that are compared."""

    estimates: TestEstimates
    curves: list[ArmCurves]


@dataclass(frozen=True)
class Evaluate:
    """Handler of `evaluate`: the plan is the job's resource. `method` is what the numbers go on
    record under.
    """

    db: Database
    store: ObjectStore
    sources: Sources
    render: Callable[[Report], str]
    method: str = METHOD

    def __call__(self, lease: Lease) -> None:
        step_of(lease)
        stored = self._stored(lease)
        firsts = {test.name: self._first(stored, test.name) for test in stored.plan.tests}
        orders = {test: first.by_content() for test, first in firsts.items()}
        firsts = {test: first.take(orders[test]) for test, first in firsts.items()}
        plan = stored.left
        averaged = averaged_over(
            {test: first.cases() for test, first in firsts.items()},
            plan.averaged,
            plan.fewest_patients,
        )
        groups = self._groups(lease, stored.left, firsts)
        scored = [
            self._scored(
                lease,
                stored,
                test.name,
                replace(firsts[test.name].cases(), mean_over=averaged.labels),
                orders[test.name],
                groups,
            )
            for test in stored.plan.tests
        ]
        # looked at before the images are read: what changes in between shows as changed
        shown = self.sources.shown(lease.caller, stored.plan)
        report = self._with_baselines(
            lease, self._report(lease, stored, scored, averaged, firsts), firsts
        )
        with self.db.transaction() as tx:
            known = record.is_known(tx.session, report)
        if known:
            with lease.finishing():
                return
        html = self.render(report).encode()
        digest = sha256(html)
        key = plans.report_key(stored.row, digest)
        self.store.put(key, html, HTML)
        with lease.finishing() as tx:
            record.write(tx.session, lease, report, Page(key, digest, shown))

    def _with_baselines(
        self, lease: Lease, report: Report, firsts: Mapping[str, Predictions]
    ) -> Report:
        """The report with what trivial features tell of every test set."""
        stock = Stock(self.store, self.sources.datasets, self.sources.generations)
        made = Baselines(stock, lease, report.plan)
        rows: list[BaselineRow] = []
        unmeasured: dict[str, str] = {}
        for test in report.plan.tests:
            found = made.of_test(test, firsts[test.name])
            if isinstance(found, str):
                unmeasured[test.name] = found
            else:
                rows += found
        return replace(report, baselines=rows, unmeasured=unmeasured)

    def _stored(self, lease: Lease) -> Stored:
        with self.db.transaction() as tx:
            row = plans.find(tx.session, lease.caller, lease.resource)
            sets = tx.session.scalars(select(models.Prediction).filter_by(plan=row.id)).all()
            missing = absent(tx.session, row)
            plan = detailed(tx.session, row)
        left = what_is_left(plan, missing, sets)
        used = {(arm.name, seed) for arm in left.arms for seed in left.seeds}
        compared = {(p.test, p.arm, p.seed): p for p in sets if (p.arm, p.seed) in used}
        return Stored(row, plan, left, compared)

    def _first(self, stored: Stored, test: str) -> Predictions:
        """The samples and truth that all sets of a test share."""
        plan = stored.left
        return self._read(stored.predictions[test, plan.reference, plan.seeds[0]])

    def _groups(
        self, lease: Lease, plan: PlanPost, firsts: Mapping[str, Predictions]
    ) -> Mapping[str, list[Group]]:
        """The groups of every test set; of data that is gone nobody knows who was on it."""
        groupings: dict[str, Grouping] = {}
        for test in plan.tests:
            manifest = self.sources.demographics(lease.caller, test)
            if manifest is not None:
                first = firsts[test.name]
                attributes = attributes_of(manifest, first.samples)
                groupings[test.name] = Grouping(attributes, first.cases().patient)
        return {test.name: [] for test in plan.tests} | groups_of(groupings)

    def _scored(
        self,
        lease: Lease,
        stored: Stored,
        test: str,
        cases: Cases,
        order: Ints,
        groups: Mapping[str, list[Group]],
    ) -> Scored:
        plan, sets = stored.left, stored.predictions
        per_test = len(plan.arms) * len(plan.seeds)
        done = [each.name for each in plan.tests].index(test) * per_test
        compared: dict[str, list[Floats]] = {plan.primary: [], plan.reference: []}

        def scores(arm: str, seed: int) -> Floats:
            nonlocal done
            lease.stop_now()
            done += 1
            lease.progress(done, per_test * len(plan.tests), UNIT, f"{test}: {arm}, seed {seed}")
            found = self._read(sets[test, arm, seed]).scores[order]
            if arm in compared:
                compared[arm].append(found)
            return found

        estimates = estimate(plan, test, cases, scores, groups[test])
        return Scored(
            estimates, [ArmCurves(test, arm, curves(cases, runs)) for arm, runs in compared.items()]
        )

    def _differences(
        self, lease: Lease, stored: Stored, test: PlannedTest, sent: Predictions
    ) -> tuple[str, ...]:
        """The training service takes images, patients and truth from the manifest itself."""
        if stored.row.by_service:
            return ()
        stock = Stock(self.store, self.sources.datasets, self.sources.generations)
        return differences(stock, lease.caller, test, sent)

    def _read(self, row: models.Prediction) -> Predictions:
        try:
            return restore(self.store.get(row.key, row.sha256))
        except (ObjectMissing, DigestMismatch) as error:
            detail = f"Test set {row.test}, arm {row.arm}, seed {row.seed}"
            raise PredictionsDamaged(detail) from error

    def _report(
        self,
        lease: Lease,
        stored: Stored,
        scored: list[Scored],
        averaged: Averaged,
        firsts: Mapping[str, Predictions],
    ) -> Report:
        plan, predictions = stored.left, stored.predictions
        estimates = [each.estimates for each in scored]
        tests: list[TestFacts] = []
        shown: dict[str, list[Flag]] = {}
        for test, of in zip(plan.tests, estimates, strict=True):
            images, patients = len(of.cases.patient), of.cases.G
            facts, shown[test.name] = self.sources.facts(lease.caller, test, images, patients)
            largest = int(np.bincount(of.cases.patient).max())
            differing = self._differences(lease, stored, test, firsts[test.name])
            if differing:
                shown[test.name].append("unlike_its_data")
            tests.append(replace(facts, largest=largest, differences=differing))
        return Report(
            plan=plan,
            plan_id=stored.row.id,
            plan_digest=stored.row.digest,
            registered_at=stored.row.created_at,
            evaluated_at=datetime.now(UTC),
            method=self.method,
            versions=_versions(),
            inputs_digest=plans.inputs_digest(
                stored.row.digest,
                list(predictions.values()),
                {test.name: test.manifest for test in tests},
            ),
            rows=[
                *result_rows(plan, estimates, shown),
                *lines_of_left_out(stored.plan, plan, estimates),
            ],
            comparisons=comparisons(plan, estimates, shown, averaged.left_out),
            trends=trends(plan, estimates),
            tests=tests,
            predictions=[
                PredictionFacts(*key, row.digest, row.steps, row.best_step)
                for key, row in sorted(predictions.items())
            ],
            contact=self.sources.contact(lease.caller, plan),
            curves=[each for test in scored for each in test.curves],
            licence=self.sources.licence(lease.caller, plan),
            groups=group_rows(plan, estimates, shown),
            metrics=metric_rows(plan, estimates, shown),
            answers=answers(plan, estimates, shown),
            complements={of.test: complements(of.cases, of.cases.averaged) for of in estimates},
        )


def _versions() -> dict[str, str]:
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"Python": platform.python_version(), **libraries, "statistics": _code_digest()}


@cache
def _code_digest() -> str:
    """The start of a SHA-256 over the source of the statistics: which code made the numbers."""
    files = importlib.resources.files(statistics).iterdir()
    sources = sorted((f.name, f.read_bytes()) for f in files if f.name.endswith(".py"))
    return sha256(b"\0".join(name.encode() + content for name, content in sources))[:16]
