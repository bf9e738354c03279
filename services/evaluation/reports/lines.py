"""The lines of the page's tables: which row stands where. Knows rows; not how they are printed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from api_schemas.evaluation import (
    MACRO,
    BaselineRow,
    MetricRow,
    PlannedArm,
    PlanPost,
    ResultRow,
    TrainedArm,
)
from services.evaluation.reports.facts import PredictionFacts
from services.evaluation.statistics.contrasts import references

METRICS = {
    "average_precision": "Average precision",
    "sensitivity_at_90_specificity": "Sensitivity at 90 % specificity",
    "sensitivity_at_95_specificity": "Sensitivity at 95 % specificity",
    "specificity_at_90_sensitivity": "Specificity at 90 % sensitivity",
    "specificity_at_95_sensitivity": "Specificity at 95 % sensitivity",
    "underdiagnosis": "Underdiagnosis rate",
    "missed": "Missed findings",
    "brier": "Brier score",
    "calibration_intercept": "Calibration intercept",
    "calibration_slope": "Calibration slope",
}
GAPS = {
    "auroc_gap": "AUROC",
    "underdiagnosis_gap": "Underdiagnosis rate",
    "missed_gap": "Missed findings",
}


@dataclass(frozen=True)
class ArmLine:
    """An arm of the table with its macro row on each test set, in the plan's order; None where
    it has none. `reference` is the arm that it is compared with, if any.
    """

    arm: PlannedArm
    role: str
    reference: str | None
    rows: Sequence[ResultRow | None]


@dataclass(frozen=True)
class LabelLine:
    """A label with the reference's and the primary's row on each test set that has it."""

    label: str
    pairs: Sequence[tuple[ResultRow, ResultRow] | None]


Beside = tuple[BaselineRow, tuple[float, float] | None]
"""What trivial features tell of a label, and the lowest and highest AUROC of the arms."""


@dataclass(frozen=True)
class BaselineLine:
    """A label with what trivial features alone tell of it on each test set that was measured."""

    label: str
    tests: Sequence[Beside | None]


@dataclass(frozen=True)
class MetricLine:
    """The same for something else than AUROC, of all images or (a gap) of a group."""

    name: str
    beside: str
    pairs: Sequence[tuple[MetricRow, MetricRow] | None]


@dataclass(frozen=True)
class TrainingLine:
    """How the runs of an arm were trained. `planned` is None where the plan does not say it;
    `taken` and `kept` are the fewest and the most steps over its seeds, None where unknown.
    """

    arm: PlannedArm
    planned: TrainedArm | None
    taken: tuple[int, int] | None
    kept: tuple[int, int] | None


def training_lines(plan: PlanPost, predictions: Sequence[PredictionFacts]) -> list[TrainingLine]:
    """The arms of which anything is known."""
    planned = {} if plan.training is None else plan.training.arms
    lines = [
        TrainingLine(
            arm,
            planned.get(arm.name),
            _range(p.steps for p in predictions if p.arm == arm.name),
            _range(p.best_step for p in predictions if p.arm == arm.name),
        )
        for arm in plan.arms
    ]
    return [line for line in lines if line.planned or line.taken or line.kept]


def _range(steps: Iterable[int | None]) -> tuple[int, int] | None:
    known = [step for step in steps if step is not None]
    return (min(known), max(known)) if known else None


def arm_lines(plan: PlanPost, rows: Sequence[ResultRow]) -> list[ArmLine]:
    macros = {(r.arm, r.test): r for r in rows if r.label == MACRO}
    roles, own = roles_of(plan), references(plan)
    return [
        ArmLine(
            arm,
            roles.get(arm.name, ""),
            own[arm.name],
            [macros.get((arm.name, t.name)) for t in plan.tests],
        )
        for arm in plan.arms
    ]


def roles_of(plan: PlanPost) -> dict[str, str]:
    """What the primary arm, and every arm that another is compared with, is to the plan."""
    named = [each for each in references(plan).values() if each is not None]
    return dict.fromkeys([plan.reference, *named], "reference") | {plan.primary: "primary"}


def label_lines(plan: PlanPost, rows: Sequence[ResultRow]) -> list[LabelLine]:
    """One line a label that any test set has."""
    by_key = {(r.label, r.arm, r.test): r for r in rows if r.label != MACRO}

    def pair(label: str, test: str) -> tuple[ResultRow, ResultRow] | None:
        reference = by_key.get((label, plan.reference, test))
        primary = by_key.get((label, plan.primary, test))
        return None if reference is None or primary is None else (reference, primary)

    labels = dict.fromkeys(label for label, _, _ in by_key)
    return [LabelLine(label, [pair(label, t.name) for t in plan.tests]) for label in labels]


def baseline_lines(
    plan: PlanPost, baselines: Sequence[BaselineRow], rows: Sequence[ResultRow]
) -> list[BaselineLine]:
    """A line for every label of which any test set has a baseline."""
    by_key = {(each.test, each.label): each for each in baselines}

    def classifiers(test: str, label: str) -> tuple[float, float] | None:
        known = [
            r.auroc for r in rows if (r.test, r.label) == (test, label) and r.auroc is not None
        ]
        return (min(known), max(known)) if known else None

    def beside(test: str, label: str) -> Beside | None:
        found = by_key.get((test, label))
        return None if found is None else (found, classifiers(test, label))

    labels = dict.fromkeys(each.label for each in baselines)
    return [BaselineLine(label, [beside(t.name, label) for t in plan.tests]) for label in labels]


def metric_lines(plan: PlanPost, rows: Sequence[MetricRow]) -> list[MetricLine]:
    """What was measured over all images: the mean over the labels, or the one label there is."""
    of_metric = {
        name: [r for r in rows if r.metric == name and r.group is None] for name in METRICS
    }
    return [
        MetricLine(METRICS[name], "", _pairs(plan, _means(found)))
        for name, found in of_metric.items()
        if found
    ]


def gap_lines(plan: PlanPost, rows: Sequence[MetricRow]) -> list[MetricLine]:
    """The gaps of groups to the largest of their attribute, by what the gap is in."""
    lines: list[MetricLine] = []
    for name, said in GAPS.items():
        found = _means([r for r in rows if r.metric == name])
        for group in dict.fromkeys(r.group for r in found):
            of_group = [r for r in found if r.group == group]
            beside = f"{said}, minus {of_group[0].against}"
            lines.append(MetricLine(group or "", beside, _pairs(plan, of_group)))
    return lines


def too_small(groups: Sequence[ResultRow], metrics: Sequence[MetricRow]) -> list[str]:
    """The groups of which no test set has anything to show: a line of them would be dashes."""
    estimated = {r.group for r in groups if r.label == MACRO and r.auroc is not None}
    estimated |= {m.group for m in _means(metrics) if m.value is not None}
    named = dict.fromkeys(r.group for r in groups if r.group is not None)
    return [group for group in named if group not in estimated]


def _means(rows: Sequence[MetricRow]) -> list[MetricRow]:
    """Those of the mean over the labels where there is one; a metric of one label has none."""
    return [r for r in rows if r.label == MACRO] or list(rows)


def _pairs(plan: PlanPost, rows: Iterable[MetricRow]) -> list[tuple[MetricRow, MetricRow] | None]:
    by_key = {(r.arm, r.test): r for r in rows}
    pairs: list[tuple[MetricRow, MetricRow] | None] = []
    for t in plan.tests:
        reference = by_key.get((plan.reference, t.name))
        primary = by_key.get((plan.primary, t.name))
        pairs.append(None if reference is None or primary is None else (reference, primary))
    return pairs
