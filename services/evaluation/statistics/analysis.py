"""The registered analysis of one experiment: its result lines, comparisons and dose trends.

Knows the plan's vocabulary; does not know where predictions come from.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from api_schemas.evaluation import MACRO, Comparison, Flag, PlanPost, ResultRow, Verdict
from services.evaluation.statistics.cases import Cases, Floats
from services.evaluation.statistics.estimate import Estimate, combine, over_seeds
from services.evaluation.statistics.inference import (
    FEWEST_FOR_P,
    Inference,
    auroc_inference,
    difference_inference,
    holm,
    is_equivalent,
)
from services.evaluation.statistics.influence import label_aurocs, macro

METHOD = "auroc-influence-logit-t/1"
"""Name and version of the method: it changes whenever a number could."""

FEW_SEEDS = 5
FEW_DEGREES_OF_FREEDOM = 10
ALPHA = 0.05
DOSES_FOR_TREND = 3

Scores = Callable[[str, int], Floats]
"""The scores (N, L) of an arm and training seed on a test set."""


@dataclass(frozen=True, eq=False)
class TestEstimates:
    """Every arm on one test set: label (or `macro`) to estimate over all training seeds."""

    __test__ = False  # not a test of pytest

    test: str
    cases: Cases
    arms: dict[str, dict[str, Estimate | None]]


@dataclass(frozen=True)
class Trend:
    """Change of macro AUROC per doubling of the training set, over all doses of a test set."""

    test: str
    doses: tuple[float, ...]
    slope: Inference


def estimate(plan: PlanPost, test: str, cases: Cases, scores: Scores) -> TestEstimates:
    arms = {
        arm.name: _estimate_arm(cases, [scores(arm.name, seed) for seed in plan.seeds])
        for arm in plan.arms
    }
    return TestEstimates(test, cases, arms)


def _estimate_arm(cases: Cases, runs: list[Floats]) -> dict[str, Estimate | None]:
    by_run = [_with_macro(cases, scores) for scores in runs]
    return {label: _over_known([run[label] for run in by_run]) for label in by_run[0]}


def _over_known(runs: list[Estimate | None]) -> Estimate | None:
    """All runs or none can be estimated: they share the truth."""
    known = [run for run in runs if run is not None]
    return over_seeds(known) if known else None


def _with_macro(cases: Cases, scores: Floats) -> dict[str, Estimate | None]:
    aurocs = label_aurocs(cases, scores)
    return {MACRO: macro(cases, aurocs), **dict(zip(cases.labels, aurocs, strict=True))}


def difference(of: TestEstimates, arm: str, reference: str, label: str) -> Estimate | None:
    ours, theirs = of.arms[arm][label], of.arms[reference][label]
    return None if ours is None or theirs is None else ours - theirs


def comparisons(
    plan: PlanPost, tests: list[TestEstimates], phantom: Collection[str] = ()
) -> list[Comparison]:
    """The primary question on every test set, with Holm's p over them.

    `phantom` names the test sets that hold drawn phantoms.
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
            margin=plan.margin,
            verdict=_verdict(D, a, p_holm, plan.margin),
            seeds=len(plan.seeds),
            flags=_flags(
                plan,
                D,
                a,
                _registered(plan),
                phantom=t.test in phantom,
                fewer=_lacks_labels(t.cases),
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
    plan: PlanPost, tests: list[TestEstimates], phantom: Collection[str] = ()
) -> list[ResultRow]:
    """Every test set x arm x (macro and labels), in the plan's order."""
    p_holm = {c.test: c.p_holm for c in comparisons(plan, tests)}
    return [
        _row(plan, t, arm.name, label, p_holm[t.test], phantom=t.test in phantom)
        for t in tests
        for arm in plan.arms
        for label in (MACRO, *t.cases.labels)
    ]


def _row(
    plan: PlanPost, of: TestEstimates, arm: str, label: str, p_holm: float | None, *, phantom: bool
) -> ResultRow:
    A = of.arms[arm][label]
    D = None if arm == plan.reference else difference(of, arm, plan.reference, label)
    a, d = A and auroc_inference(A), D and difference_inference(D)
    primary = arm == plan.primary and label == MACRO
    other = "exploratory" if label != MACRO or d else None
    kind = _registered(plan) if primary else other
    images, positives, patients = _counts(of.cases, label)
    return ResultRow(
        experiment=plan.experiment,
        arm=arm,
        test=of.test,
        label=label,
        images=images,
        positives=positives,
        patients=patients,
        seeds=len(plan.seeds),
        auroc=a and a.value,
        low=a and a.low,
        high=a and a.high,
        reference=None if arm == plan.reference else plan.reference,
        difference=d and d.value,
        difference_low=d and d.low,
        difference_high=d and d.high,
        p=d and d.p,
        p_holm=p_holm if primary else None,
        dof=d.nu if d else a and a.nu,
        flags=_flags(
            plan,
            A,
            d or a,
            kind,
            phantom=phantom,
            exact=bool(a and a.exact),
            fewer=label == MACRO and _lacks_labels(of.cases),
        ),
    )


def _lacks_labels(cases: Cases) -> bool:
    """Whether the macro AUROC is of fewer labels than were asked for: some lack a class."""
    return any(not label.n1 or not label.n0 for label in cases.by_label)


def _registered(plan: PlanPost) -> Flag:
    """What the registered question is: no longer that, once results had been seen before it."""
    seen = any(word.startswith("exploratory") for word in plan.waived)
    return "exploratory" if seen else "primary"


def _counts(cases: Cases, label: str) -> tuple[int, int | None, int]:
    if label == MACRO:
        return len(cases.patient), None, cases.G
    of_label = cases.by_label[cases.labels.index(label)]
    return len(of_label.rows), of_label.n1, of_label.patients


def _flags(
    plan: PlanPost,
    E: Estimate | None,
    said: Inference | None,
    kind: Flag | None,
    *,
    phantom: bool,
    exact: bool = False,
    fewer: bool = False,
) -> list[Flag]:
    """What a reader must know of a line. Without degrees of freedom there are few of them."""
    nu = said.nu if said else None
    few_nu = E is not None and not exact and (nu is None or nu < FEW_DEGREES_OF_FREEDOM)
    facts: list[tuple[Flag, bool]] = [
        ("not_estimable", E is None),
        ("fewer_labels", fewer),
        ("exact", exact),
        ("few_degrees_of_freedom", few_nu),
        ("few_patients", E is not None and E.fewest < FEWEST_FOR_P),
        ("few_seeds", len(plan.seeds) < FEW_SEEDS),
        ("primary", kind == "primary"),
        ("exploratory", kind == "exploratory"),
        ("leakage_waived", any(word.startswith("leakage") for word in plan.waived)),
        ("phantom", phantom),
    ]
    return [flag for flag, holds in facts if holds]


def trends(plan: PlanPost, tests: list[TestEstimates]) -> list[Trend]:
    """One linear contrast over log2(1 + dose) per test set, instead of a test per dose.

    The zero dose is the reference where it has one (equal steps), not the shorter `real` run.
    Empty with fewer than three doses.
    """
    doses = _trend_doses(plan)
    if len(doses) < DOSES_FOR_TREND:
        return []
    x = np.array([math.log2(1 + dose) for dose in doses.values()])
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    found: list[Trend] = []
    for t in tests:
        macros = [t.arms[arm][MACRO] for arm in doses]
        known = [m for m in macros if m is not None]
        if len(known) == len(doses):
            slope = difference_inference(combine(list(weights), known))
            found.append(Trend(t.test, tuple(doses.values()), slope))
    return found


def _trend_doses(plan: PlanPost) -> dict[str, float]:
    """One arm a dose, by rising dose; of several with the same dose the reference."""
    doses = {a.name: a.dose for a in plan.arms if a.dose is not None}
    doses.setdefault(plan.reference, 0.0)
    ordered = sorted(doses.items(), key=lambda item: (item[1], item[0] != plan.reference))
    first: dict[float, str] = {}
    for arm, dose in ordered:
        first.setdefault(dose, arm)
    return {arm: dose for dose, arm in first.items()}
