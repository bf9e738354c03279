"""What may be said of one quantity of one arm, without the influences behind it; as rows.

A test set of many patients has too many influences to keep for every group and metric, so an
arm's are dropped once they have been held against the reference's.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from api_schemas.evaluation import MACRO, Flag, MetricRow, PlanPost, ResultRow
from services.evaluation.statistics.cases import Cases, Counts
from services.evaluation.statistics.estimate import Estimate
from services.evaluation.statistics.inference import (
    FEWEST_FOR_P,
    Inference,
    auroc_inference,
    difference_inference,
    holm,
    logit_inference,
    share_inference,
)
from services.evaluation.statistics.measures import OF_PROBABILITIES, Measured, Part, Quantity

FEW_SEEDS = 5
FEW_DEGREES_OF_FREEDOM = 10
CHANCE = 0.5
COEFFICIENTS = ("calibration_intercept", "calibration_slope")
"""Any number may be one; everything else lies between 0 and 1, a gap between -1 and 1."""
STEPPED = ("average_precision", "brier")
"""At 0 or 1 there is no exact limit for these."""


@dataclass(frozen=True)
class Line:
    """`fewest` patients bear it, None where it cannot be estimated; `difference` is the arm's to
    its `reference`, None of an arm that has none or whose reference was not evaluated.
    """

    arm: str
    reference: str | None
    quantity: Quantity
    against: str | None
    counts: Counts
    fewest: int | None
    level: Inference | None
    difference: Inference | None
    probabilities: bool = True

    @property
    def said(self) -> Inference | None:
        """What the line is about: the difference where it has one."""
        return self.difference or self.level

    @property
    def p(self) -> float | None:
        return self.difference and self.difference.p


def counts_of(cases: Cases, label: str) -> Counts:
    return cases.counts if label == MACRO else cases.counts_of(label)


def line_of(
    arm: str,
    reference: str | None,
    quantity: Quantity,
    counts: Counts,
    A: Estimate | None,
    R: Estimate | None = None,
    *,
    against: str | None = None,
    probabilities: bool = True,
) -> Line:
    """A line of the estimate `A`, and of `A` minus the `R` of the arm's `reference`."""
    D = None if A is None or R is None else A - R
    return Line(
        arm,
        reference,
        quantity,
        against,
        counts,
        A and A.fewest,
        A and level_inference(quantity.metric, A),
        D and difference_inference(D, _reach(quantity.metric)),
        probabilities,
    )


def lines_of(
    arm: str,
    reference: str | None,
    cases: Cases,
    parts: Sequence[Part],
    ours: Measured,
    theirs: Measured | None,
    *,
    probabilities: bool,
) -> list[Line]:
    """Everything measured of an arm, and what was measured of its `reference`: `theirs`, None where
    it has none or where that was not evaluated.

    What is missed of each label inside a group is there for its mean alone.
    """
    inside = {part.group.name: part for part in parts}
    lines: list[Line] = []
    for quantity, A in ours.items():
        metric, label, group = quantity
        if metric == "missed" and group is not None and label != MACRO:
            continue
        part = None if group is None else inside[group]
        lines.append(
            line_of(
                arm,
                reference,
                quantity,
                counts_of(cases if part is None else part.cases, label),
                A,
                None if theirs is None else theirs[quantity],
                against=part.group.against if part and metric.endswith("_gap") else None,
                probabilities=probabilities or metric not in OF_PROBABILITIES,
            )
        )
    return lines


def level_inference(metric: str, A: Estimate) -> Inference:
    """The interval of a value on the scale that its metric has."""
    if metric in COEFFICIENTS or metric.endswith("_gap"):
        return difference_inference(A, _reach(metric))
    if metric in STEPPED:
        return logit_inference(A)
    return auroc_inference(A) if metric == "auroc" else share_inference(A)


def _reach(metric: str) -> float:
    return math.inf if metric in COEFFICIENTS else 1.0


def holm_within(
    lines: Sequence[Line], family: Callable[[Line], Hashable | None]
) -> dict[Quantity, dict[str, float | None]]:
    """Holm's p by quantity and arm, within the families; a line whose family is None has none."""
    members: dict[Hashable, list[Line]] = {}
    for line in lines:
        of = family(line)
        if of is not None and line.difference is not None:
            members.setdefault(of, []).append(line)
    adjusted: dict[Quantity, dict[str, float | None]] = {}
    for of_family in members.values():
        for line, p in zip(of_family, holm([line.p for line in of_family]), strict=True):
            adjusted.setdefault(line.quantity, {})[line.arm] = p
    return adjusted


def family_of(line: Line) -> Hashable | None:
    """One family for each metric: the labels of an arm on all images, its groups' means, or the
    labels of its groups; and over all images the means of all arms with one reference.
    """
    metric, label, group = line.quantity
    of_means = label == MACRO and group is None
    return line.reference if of_means else line.arm, metric, group is None, label == MACRO


@dataclass(frozen=True)
class Circumstances:
    """What every line of a test set shares; `fewer`: its mean leaves out labels that were to be
    averaged; `shown` are flags of images that are no patients'; `dominated`: one patient has a
    large share of its images.
    """

    plan: PlanPost
    test: str
    shown: tuple[Flag, ...]
    fewer: bool
    dominated: bool = False

    def result(self, line: Line, p_holm: float | None, kind: Flag | None) -> ResultRow:
        a, d, said = line.level, line.difference, line.said
        return ResultRow(
            experiment=self.plan.experiment,
            arm=line.arm,
            test=self.test,
            label=line.quantity.label,
            group=line.quantity.group,
            images=line.counts.images,
            positives=line.counts.positives,
            patients=line.counts.patients,
            seeds=len(self.plan.seeds),
            auroc=a and a.value,
            low=a and a.low,
            high=a and a.high,
            reference=line.reference,
            **_difference(d),
            p_holm=p_holm,
            dof=said and said.nu,
            test_sd=said and said.test_sd,
            seed_sd=said and said.seed_sd,
            flags=self._flags(line, kind),
        )

    def metric(self, line: Line, p_holm: float | None) -> MetricRow:
        a, d, said = line.level, line.difference, line.said
        metric, label, group = line.quantity
        assert metric != "auroc"  # noqa: S101 - those are results
        flags = self._flags(line, "exploratory")
        return MetricRow(
            experiment=self.plan.experiment,
            arm=line.arm,
            test=self.test,
            label=label,
            group=group,
            against=line.against,
            metric=metric,
            images=line.counts.images,
            positives=line.counts.positives,
            patients=line.counts.patients,
            seeds=len(self.plan.seeds),
            value=a and a.value,
            low=a and a.low,
            high=a and a.high,
            reference=line.reference,
            **_difference(d),
            p_holm=p_holm,
            dof=said and said.nu,
            flags=flags if line.probabilities else [*flags, "not_probabilities"],
        )

    def _flags(self, line: Line, kind: Flag | None) -> list[Flag]:
        exact = any(each is not None and each.exact for each in (line.level, line.difference))
        of_labels = line.quantity.label == MACRO
        flags = self.flags(
            line.fewest,
            line.said,
            kind,
            arms=[line.arm] if line.reference is None else [line.arm, line.reference],
            exact=exact,
            of_labels=of_labels,
            dominated=line.counts.dominated,
        )
        worse = line.quantity.metric == "auroc" and is_below_chance(line.level)
        return ["below_chance", *flags] if worse else flags

    def question(
        self, D: Estimate | None, said: Inference | None, kind: Flag, arms: Sequence[str]
    ) -> list[Flag]:
        """The flags of a registered question about `arms`."""
        exact = D is not None and D.exact
        return self.flags(
            D and D.fewest, said, kind, arms=arms, exact=exact, dominated=self.dominated
        )

    def flags(
        self,
        fewest: int | None,
        said: Inference | None,
        kind: Flag | None,
        *,
        arms: Sequence[str],
        exact: bool = False,
        of_labels: bool = True,
        dominated: bool = False,
    ) -> list[Flag]:
        """All that a reader must know of what is said of `arms`; `of_labels`: of a mean over
        labels.

        A question that was asked after results had been seen is none of those registered.
        """
        if any(word.startswith("extended") for word in self.plan.waived):
            kind = kind and "exploratory"
        facts: list[tuple[Flag, bool]] = [
            ("fewer_labels", self.fewer and of_labels),
            ("dominant_patient", dominated),
            ("few_seeds", len(self.plan.seeds) < FEW_SEEDS),
            ("primary", kind == "primary"),
            ("registered", kind == "registered"),
            ("exploratory", kind == "exploratory"),
            ("images_withheld", any(_withheld(self.plan, arm) for arm in arms)),
            ("leakage_waived", any(word.startswith("leakage") for word in self.plan.waived)),
            ("runs_missing", not {arm.name for arm in self.plan.arms}.issuperset(arms)),
            ("runs_contradicted", any(w.startswith("contradicted") for w in self.plan.waived)),
        ]
        of_numbers = flags_of(fewest, said, exact=exact)
        return [*of_numbers, *(flag for flag, holds in facts if holds), *self.shown]


def is_below_chance(level: Inference | None) -> bool:
    """Whether the whole interval of an AUROC lies below .5."""
    return level is not None and level.high is not None and level.high < CHANCE


def _withheld(plan: PlanPost, arm: str) -> int:
    """Images that the arm lacks because they were withheld from its cohort."""
    trained = None if plan.training is None else plan.training.arms.get(arm)
    return 0 if trained is None else trained.withheld


def is_few(said: Inference) -> bool:
    """Whether a handful of patients or seeds carry the uncertainty, which is then poorly known."""
    known = (said.nu, said.carriers)
    return any(each is not None and each < FEW_DEGREES_OF_FREEDOM for each in known)


def flags_of(fewest: int | None, said: Inference | None, *, exact: bool) -> list[Flag]:
    """What a reader must know of the numbers themselves. `fewest` patients bear them, None where
    there are none; without degrees of freedom there are few of them.
    """
    nu = said.nu if said else None
    few_nu = fewest is not None and (not exact if said is None or nu is None else is_few(said))
    facts: list[tuple[Flag, bool]] = [
        ("not_estimable", fewest is None),
        ("exact", exact),
        ("no_variation", few_nu and nu is None and fewest != 1),
        ("few_degrees_of_freedom", few_nu),
        ("few_patients", fewest is not None and fewest < FEWEST_FOR_P),
    ]
    return [flag for flag, holds in facts if holds]


def _difference(d: Inference | None) -> dict[str, Any]:
    return {
        "difference": d and d.value,
        "difference_low": d and d.low,
        "difference_high": d and d.high,
        "p": d and d.p,
    }
