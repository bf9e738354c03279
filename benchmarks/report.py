"""Time of the report of a large study, part by part: statistics, curves, every figure, the page.

Run from the repository's root: `python -m benchmarks.report [--images 3000] [--seeds 3]`.
Predictions are made up; reading them from the store is not part of it.
"""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import numpy as np
from scipy.special import expit

from api_schemas.base import DatasetRef
from api_schemas.evaluation import PlannedArm, PlannedTest, PlanPost
from api_schemas.findings import FINDINGS
from services.evaluation.reports import page
from services.evaluation.reports.facts import ArmCurves, PredictionFacts, Report, TestFacts
from services.evaluation.reports.tables import Study, table_csv, table_tex
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
from services.evaluation.statistics.cases import UNKNOWN, Cases, Floats
from services.evaluation.statistics.curves import curves
from services.evaluation.statistics.groups import NOT_STATED, Group, Grouping, groups_of
from services.evaluation.statistics.predictions import Names

SITES = ("internal", "external-a", "external-b")
ARMS, PREVALENCE, MISSING = 21, 0.1, 0.3
NOW = datetime(2026, 1, 1, tzinfo=UTC)

T = TypeVar("T")


class Clock:
    """Seconds by part; what is asked for again adds up."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}

    def __call__(self, part: str, do: Callable[[], T]) -> T:
        began = time.perf_counter()
        done = do()
        self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - began
        return done


def plan_of(seeds: int) -> PlanPost:
    """Doses up to ten times the real images, and the controls."""
    doses = [0.0, *np.linspace(0.5, 10, ARMS - 4).tolist()]
    arms = [PlannedArm(name=f"real+{100 * d:g}%", dose=d) for d in doses]
    others = [PlannedArm(name=n) for n in ("real_equal_steps", "synthetic_only", "shuffled")]
    data = DatasetRef(dataset=UUID(int=1))
    return PlanPost(
        experiment=UUID(int=2),
        name="a large study",
        arms=[*arms, *others],
        seeds=list(range(seeds)),
        tests=[PlannedTest(name=site, data=data, split="test") for site in SITES],
        reference="real_equal_steps",
        primary="real+1000%",
        margin=0.005,
    )


def cases_of(images: int, site: int) -> Cases:
    """About so many images, 1-6 a patient, 30 % of the labels unknown."""
    rng = np.random.default_rng(site)
    patients = round(images / 3.5)
    patient = np.repeat(np.arange(patients), rng.integers(1, 7, patients))
    truth = (rng.random((patients, len(FINDINGS))) < PREVALENCE)[patient].astype(np.int8)
    truth[rng.random(truth.shape) < MISSING] = UNKNOWN
    return Cases(tuple(str(f) for f in FINDINGS), truth, patient, patients)


def groups_of_sites(of_sites: dict[str, Cases]) -> dict[str, list[Group]]:
    """By sex, age, race and view, and two by two, as a manifest would say."""

    def attributes(cases: Cases) -> dict[str, Names]:
        rng = np.random.default_rng(cases.G)
        one_of = {
            "sex": ("Female", "Male"),
            "age": ("0-39", "40-59", "60-79", "80+"),
            "race": ("Asian", "Black", "White", NOT_STATED),
            "view": ("AP", "PA"),
        }
        single = {name: rng.choice(v, cases.G)[cases.patient] for name, v in one_of.items()}
        crossed = {
            f"sex, {name}": np.char.add(np.char.add(single["sex"], ", "), single[name])
            for name in ("age", "race")
        }
        return single | crossed

    return groups_of(
        {site: Grouping(attributes(cases), cases.patient) for site, cases in of_sites.items()}
    )


def report_of(plan: PlanPost, images: int, clock: Clock) -> Report:
    of_sites = {t.name: cases_of(images, i) for i, t in enumerate(plan.tests)}
    groups = groups_of_sites(of_sites)
    estimates: list[TestEstimates] = []
    drawn: list[ArmCurves] = []
    for site, cases in of_sites.items():
        noise = np.random.default_rng(cases.G).normal(size=cases.truth.shape)

        def scores(arm: str, seed: int, cases: Cases = cases, noise: Floats = noise) -> Floats:
            rank = [a.name for a in plan.arms].index(arm)
            jitter = np.random.default_rng([rank, seed]).normal(size=noise.shape)
            shown = (1 + 0.02 * rank) * (cases.truth == 1) + noise + 0.3 * jitter
            return np.asarray(expit(shown - 2))

        estimates.append(
            clock(
                "statistics",
                lambda s=site, c=cases, f=scores: estimate(plan, s, c, f, groups[s]),
            )
        )
        for arm in (plan.primary, plan.reference):
            runs = [scores(arm, seed) for seed in plan.seeds]
            found = clock("curves", lambda c=cases, r=runs: curves(c, r))
            drawn.append(ArmCurves(site, arm, found))
    return Report(
        plan=plan,
        plan_id=UUID(int=3),
        plan_digest="a" * 64,
        registered_at=NOW,
        evaluated_at=NOW,
        method=METHOD,
        versions={"numpy": np.__version__},
        inputs_digest="b" * 64,
        rows=clock("rows", lambda: result_rows(plan, estimates)),
        groups=clock("rows", lambda: group_rows(plan, estimates)),
        metrics=clock("rows", lambda: metric_rows(plan, estimates)),
        comparisons=comparisons(plan, estimates),
        trends=trends(plan, estimates),
        tests=[
            TestFacts(site, "real", "test", len(c.patient), c.G, site, "c" * 64)
            for site, c in of_sites.items()
        ],
        predictions=[
            PredictionFacts(t.name, a.name, s, "d" * 64)
            for t in plan.tests
            for a in plan.arms
            for s in plan.seeds
        ],
        contact="No images.",
        curves=drawn,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=3000, help="a site")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the page there")
    given = parser.parse_args()
    clock = Clock()
    plan = plan_of(given.seeds)
    report = report_of(plan, given.images, clock)
    html = clock("figures and page", lambda: page.render(report))
    study = Study(plan, "a" * 64, METHOD, "b" * 64, report.rows, report.comparisons)
    clock("tables", lambda: table_csv(study) + table_tex(study))
    print(
        f"{len(plan.arms)} arms x {given.seeds} seeds x {len(SITES)} sites of {given.images}"
        f" images x {len(FINDINGS)} labels, {len({r.group for r in report.groups})} groups:"
        f" {len(report.rows) + len(report.groups)} results, {len(report.metrics)} metrics"
    )
    for part, seconds in clock.parts.items():
        print(f"  {part:<17} {seconds:6.2f} s")
    print(
        f"  all               {sum(clock.parts.values()):6.2f} s; page {len(html) / 2**20:.1f} MiB"
    )
    if given.out:
        given.out.write_text(html, encoding="utf-8")


if __name__ == "__main__":
    main()
