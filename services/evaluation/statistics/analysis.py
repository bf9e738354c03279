"""The registered analysis of one experiment: its result lines, comparisons and dose trends.

Knows the plan's vocabulary; does not know where predictions come from.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from api_schemas.evaluation import (
    MACRO,
    Comparison,
    Flag,
    MetricRow,
    PlanPost,
    ResultRow,
    Verdict,
)
from services.evaluation.statistics.calibration import are_probabilities
from services.evaluation.statistics.cases import Cases, Floats
from services.evaluation.statistics.contrasts import compared_with, references
from services.evaluation.statistics.estimate import Estimate, combine
from services.evaluation.statistics.groups import Group
from services.evaluation.statistics.inference import (
    Inference,
    difference_inference,
    holm,
    is_equivalent,
)
from services.evaluation.statistics.influence import label_aurocs, macro
from services.evaluation.statistics.lines import (
    Circumstances,
    Line,
    counts_of,
    family_of,
    holm_within,
    line_of,
    lines_of,
)
from services.evaluation.statistics.measures import Measured, Part, Quantity, measure, over_runs

METHOD = "influence-logit-t/7"
"""Name and version of the method: it changes whenever a number could."""

ALPHA = 0.05
DOSES_FOR_TREND = 3

Scores = Callable[[str, int], Floats]
"""The scores (N, L) of an arm and training seed on a test set."""


@dataclass(frozen=True, eq=False)
class TestEstimates:
    """Every arm on one test set: label (or `macro`) to estimate over all training seeds; and
    `lines` of what else was measured, in the plan's order of arms.
    """

    __test__ = False  # not a test of pytest

    test: str
    cases: Cases
    arms: dict[str, dict[str, Estimate | None]]
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Trend:
    """Change of macro AUROC per doubling of the training set, over all doses that were added to the
    images of one reference, on a test set.
    """

    test: str
    reference: str
    doses: tuple[float, ...]
    slope: Inference


Shown = Mapping[str, Sequence[Flag]]
"""By test set, flags of images in it that are no patients'."""
NOTHING_SAID: Shown = {}


def circumstances(plan: PlanPost, of: TestEstimates, shown: Shown) -> Circumstances:
    wanted = of.cases.labels if plan.averaged is None else plan.averaged
    fewer = not set(wanted) <= set(of.cases.averaged)
    dominated = of.cases.counts.dominated
    return Circumstances(plan, of.test, tuple(shown.get(of.test, ())), fewer, dominated)


def estimate(
    plan: PlanPost, test: str, cases: Cases, scores: Scores, groups: Sequence[Group] = ()
) -> TestEstimates:
    """One arm after the other, each right after its reference, so that of all that is measured two
    arms are in memory at a time (and the reference's own reference, where it has one).
    """
    parts = [Part(group, cases) for group in groups]
    arms: dict[str, dict[str, Estimate | None]] = {}
    lines: dict[str, list[Line]] = {}
    own, those = references(plan), compared_with(plan)

    def with_those_compared(arm: str, theirs: Measured | None) -> None:
        runs = [scores(arm, seed) for seed in plan.seeds]
        arms[arm] = _aurocs(cases, runs)
        ours = measure(cases, parts, runs)
        sane = all(are_probabilities(run) for run in runs)
        lines[arm] = lines_of(arm, own[arm], cases, parts, ours, theirs, probabilities=sane)
        del runs
        for each in those.get(arm, []):
            with_those_compared(each, ours)

    for arm, reference in own.items():
        if reference not in own:  # it has none, or one that was not evaluated
            with_those_compared(arm, None)
    names = list(own)
    in_order = [line for name in names for line in lines[name]]
    return TestEstimates(test, cases, {name: arms[name] for name in names}, in_order)


def _aurocs(cases: Cases, runs: Sequence[Floats]) -> dict[str, Estimate | None]:
    found = over_runs(_with_macro(cases, scores) for scores in runs)
    return {quantity.label: estimate for quantity, estimate in found.items()}


def _with_macro(cases: Cases, scores: Floats) -> dict[Quantity, Estimate | None]:
    aurocs = label_aurocs(cases, scores)
    labels = (MACRO, *cases.labels)
    of = zip(labels, (macro(cases, aurocs), *aurocs), strict=True)
    return {Quantity("auroc", label): A for label, A in of}


def difference(of: TestEstimates, arm: str, reference: str, label: str) -> Estimate | None:
    """None where it cannot be estimated, or where one of the arms was not evaluated."""
    ours, theirs = (of.arms.get(name, {}).get(label) for name in (arm, reference))
    return None if ours is None or theirs is None else ours - theirs


def comparisons(
    plan: PlanPost,
    tests: list[TestEstimates],
    shown: Shown = NOTHING_SAID,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> list[Comparison]:
    """The primary question on every test set, with Holm's p over them.

    `shown` says of which test sets images are no patients' (`phantom`, `synthetic`); `left_out`
    names the labels that no mean is over, with the reason.
    """
    questions = [difference(t, plan.primary, plan.reference, MACRO) for t in tests]
    answers = [None if D is None else difference_inference(D) for D in questions]
    adjusted = holm([a and a.p for a in answers])
    return [
        Comparison(
            experiment=plan.experiment,
            test=t.test,
            primary=plan.primary,
            reference=plan.reference,
            difference=a and a.value,
            low=a and a.low,
            high=a and a.high,
            p=a and a.p,
            p_holm=p_holm,
            dof=a and a.nu,
            test_sd=a and a.test_sd,
            seed_sd=a and a.seed_sd,
            margin=plan.margin,
            verdict=_verdict(D, a, p_holm, plan.margin),
            seeds=len(plan.seeds),
            averaged=list(t.cases.averaged),
            left_out=dict(left_out),
            flags=circumstances(plan, t, shown).question(
                D, a, "primary", [plan.primary, plan.reference]
            ),
        )
        for t, D, a, p_holm in zip(tests, questions, answers, adjusted, strict=True)
    ]


def _verdict(
    D: Estimate | None, a: Inference | None, p_holm: float | None, margin: float
) -> Verdict:
    """Equivalence is asked first: a difference inside the margin does not matter, however small
    its p. One training seed decides nothing about a method.
    """
    if D is None or a is None:
        return "not_estimable"
    if p_holm is None or D.R == 1:
        return "inconclusive"
    if is_equivalent(D, margin):
        return "equivalent"
    if p_holm < ALPHA:
        return "better" if a.value > 0 else "worse"
    return "inconclusive"


def result_rows(
    plan: PlanPost, tests: list[TestEstimates], shown: Shown = NOTHING_SAID
) -> list[ResultRow]:
    """Every test set x arm x (macro and labels), in the plan's order, over all images."""
    primary = {c.test: c.p_holm for c in comparisons(plan, tests)}
    rows: list[ResultRow] = []
    for t in tests:
        of, lines = circumstances(plan, t, shown), _lines(plan, t)
        registered = [line for line in lines if _is_primary(plan, line)]
        p_holm = holm_within([line for line in lines if line not in registered], family_of)
        for line in lines:
            if line in registered:
                rows.append(of.result(line, primary[t.test], "primary"))
            else:
                alone = line.reference is None and line.quantity.label == MACRO
                p = p_holm.get(line.quantity, {}).get(line.arm)
                rows.append(of.result(line, p, None if alone else "exploratory"))
    return rows


def _is_primary(plan: PlanPost, line: Line) -> bool:
    return line.arm == plan.primary and line.quantity.label == MACRO


def _lines(plan: PlanPost, of: TestEstimates) -> list[Line]:
    labels = (MACRO, *of.cases.labels)
    counts = {label: counts_of(of.cases, label) for label in labels}
    return [
        line_of(
            arm,
            reference,
            Quantity("auroc", label),
            counts[label],
            of.arms[arm][label],
            of.arms.get(reference or "", {}).get(label),
        )
        for arm, reference in references(plan).items()
        for label in labels
    ]


def group_rows(
    plan: PlanPost, tests: list[TestEstimates], shown: Shown = NOTHING_SAID
) -> list[ResultRow]:
    """AUROC inside each group: macro, and labels that enough of its patients have and have not."""
    rows: list[ResultRow] = []
    for t in tests:
        of = circumstances(plan, t, shown)
        p_holm = holm_within(t.lines, family_of)
        rows += [
            of.result(line, p_holm.get(line.quantity, {}).get(line.arm), "exploratory")
            for line in t.lines
            if line.quantity.metric == "auroc"
        ]
    return rows


def metric_rows(
    plan: PlanPost, tests: list[TestEstimates], shown: Shown = NOTHING_SAID
) -> list[MetricRow]:
    """Everything that was measured beside AUROC, and the gaps between groups."""
    rows: list[MetricRow] = []
    for t in tests:
        of = circumstances(plan, t, shown)
        p_holm = holm_within(t.lines, family_of)
        rows += [
            of.metric(line, p_holm.get(line.quantity, {}).get(line.arm))
            for line in t.lines
            if line.quantity.metric != "auroc"
        ]
    return rows


def trends(plan: PlanPost, tests: list[TestEstimates]) -> list[Trend]:
    """One linear contrast over log2(1 + dose) for each reference and test set, instead of a test
    for every dose.

    The zero dose is the reference (equal steps), not the shorter `real` run. None of fewer than
    three doses.
    """
    found: list[Trend] = []
    for reference, arms in compared_with(plan).items():
        doses = _trend_doses(plan, reference, arms)
        if len(doses) < DOSES_FOR_TREND:
            continue
        x = np.array([math.log2(1 + dose) for dose in doses.values()])
        weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
        for t in tests:
            macros = [t.arms.get(arm, {}).get(MACRO) for arm in doses]
            known = [m for m in macros if m is not None]
            if len(known) == len(doses):
                slope = difference_inference(combine(list(weights), known))
                found.append(Trend(t.test, reference, tuple(doses.values()), slope))
    return found


def _trend_doses(plan: PlanPost, reference: str, arms: Sequence[str]) -> dict[str, float]:
    """One arm a dose, by rising dose; of several with the same dose the reference."""
    known = {a.name: a.dose for a in plan.arms}
    doses = {arm: dose for arm in arms if (dose := known[arm]) is not None}
    doses[reference] = known.get(reference) or 0.0
    ordered = sorted(doses.items(), key=lambda item: (item[1], item[0] != reference))
    first: dict[float, str] = {}
    for arm, dose in ordered:
        first.setdefault(dose, arm)
    return {arm: dose for dose, arm in first.items()}
