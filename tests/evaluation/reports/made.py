"""Reports on made-up predictions."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import cast
from uuid import UUID

import numpy as np
from scipy.special import expit

from api_schemas.base import DatasetRef
from api_schemas.evaluation import Flag, PlannedArm, PlannedTest, PlanPost, Question, TrainingNote
from api_schemas.screening import Screening
from services.evaluation.reports.facts import (
    ArmCurves,
    Contact,
    Kind,
    Pair,
    PredictionFacts,
    Report,
    TestFacts,
)
from services.evaluation.statistics.analysis import (
    METHOD,
    comparisons,
    estimate,
    group_rows,
    metric_rows,
    result_rows,
    trends,
)
from services.evaluation.statistics.cases import UNKNOWN, Cases
from services.evaluation.statistics.curves import curves
from services.evaluation.statistics.groups import Group
from services.evaluation.statistics.questions import answers
from services.kit.objects import sha256

EFFECT = {"real": 0.9, "real_equal_steps": 1.0, "real+100%": 1.2, "real+300%": 1.5, "shuffled": 0.4}
DOSES = {"real": 0.0, "real+100%": 1.0, "real+300%": 3.0}
NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


def cases_of(*, one_class: bool = False, nothing_known: bool = False) -> Cases:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(120), rng.integers(1, 4, 120))
    truth = (rng.random((120, 2)) < 0.3)[patient].astype(np.int8)
    if one_class:
        truth[truth[:, 1] == 1, 1] = UNKNOWN
    if nothing_known:
        truth[:] = UNKNOWN
    return Cases(("Edema", "Lung Opacity"), truth, patient, 120)


def report_of(
    *,
    name: str = "does it help?",
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    tests: tuple[str, ...] = ("internal",),
    kind: Kind = "real",
    waived: tuple[str, ...] = (),
    one_class: bool = False,
    nothing_known: bool = False,
    training: TrainingNote | None = None,
    questions: tuple[Question, ...] = (),
    references: Mapping[str, str] = MappingProxyType({}),
) -> Report:
    """A report on made-up predictions whose effects are known."""
    data = DatasetRef(dataset=UUID(int=2))
    plan = PlanPost(
        experiment=UUID(int=1),
        name=name,
        arms=[
            PlannedArm(name=arm, dose=DOSES.get(arm), reference=references.get(arm))
            for arm in EFFECT
        ],
        seeds=list(seeds),
        tests=[PlannedTest(name=t, data=data, split="test") for t in tests],
        reference="real_equal_steps",
        primary="real+300%",
        margin=0.005,
        waived=list(waived),
        training=training,
        questions=list(questions),
    )
    cases = cases_of(one_class=one_class, nothing_known=nothing_known)
    noise = np.random.default_rng(1).normal(size=cases.truth.shape)

    def scores(arm: str, seed: int) -> np.ndarray:
        jitter = np.random.default_rng([seed, list(EFFECT).index(arm)]).normal(size=noise.shape)
        return expit(EFFECT[arm] * (cases.truth == 1) + noise + 0.1 * jitter - 1)

    women = cases.patient % 3 == 0
    parted = [Group("sex: Female", "sex: Male", women), Group("sex: Male", None, ~women)]
    found = [estimate(plan, t, cases, scores, parted) for t in tests]
    shown: dict[str, list[Flag]] = {}
    if kind in {"phantom", "synthetic"}:
        shown = {t: [cast("Flag", kind)] for t in tests}
    drawn = {
        a: curves(cases, [scores(a, s) for s in seeds]) for a in (plan.primary, plan.reference)
    }
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    return Report(
        plan=plan,
        plan_id=UUID(int=3),
        plan_digest="a" * 64,
        registered_at=NOW,
        evaluated_at=NOW,
        method=METHOD,
        versions={"numpy": np.__version__},
        inputs_digest="b" * 64,
        rows=result_rows(plan, found, shown),
        comparisons=comparisons(plan, found, shown),
        trends=trends(plan, found),
        groups=group_rows(plan, found, shown),
        metrics=metric_rows(plan, found, shown),
        answers=answers(plan, found, shown),
        tests=[
            TestFacts(t, kind, "test", len(cases.patient), cases.G, "Site A", "c" * 64)
            for t in tests
        ],
        predictions=[
            PredictionFacts(t, arm, s, sha256(f"{t} {arm} {s}".encode()), 1200, 900 + s)
            for t in tests
            for arm in EFFECT
            for s in seeds
        ],
        contact=Contact(
            [Pair("Male, 50 years: Edema", image, 255 - image)],
            kind,
            mirrored=True,
            screening=Screening(),
        ),
        curves=[ArmCurves(t, arm, found) for t in tests for arm, found in drawn.items()],
    )
