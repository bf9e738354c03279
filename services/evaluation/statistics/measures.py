"""Everything that is measured of one arm on one test set beside AUROC on all images: further
metrics, AUROC inside groups, and the gaps between groups.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, NamedTuple

import numpy as np

from api_schemas.evaluation import MACRO, Metric
from api_schemas.findings import Finding
from services.evaluation.statistics.calibration import (
    are_probabilities,
    brier,
    intercept,
    slope,
)
from services.evaluation.statistics.cases import Bools, Cases, Floats, LabelCases
from services.evaluation.statistics.estimate import Estimate, mean, over_seeds
from services.evaluation.statistics.groups import Group
from services.evaluation.statistics.inference import FEWEST_FOR_P
from services.evaluation.statistics.influence import label_aurocs, macro
from services.evaluation.statistics.operating import (
    break_even,
    false_alarms,
    missed,
    sensitivity_at,
    specificity_at,
)
from services.evaluation.statistics.precision import average_precision

NO_FINDING = str(Finding.NO_FINDING)
"""Calling a diseased patient this is underdiagnosis; any other label is missed instead."""

Measure = Callable[[LabelCases, Floats], Estimate | None]

OF_A_LABEL: Mapping[Metric, Measure] = {
    "average_precision": average_precision,
    "sensitivity_at_90_specificity": partial(sensitivity_at, specificity=0.90),
    "sensitivity_at_95_specificity": partial(sensitivity_at, specificity=0.95),
    "specificity_at_90_sensitivity": partial(specificity_at, sensitivity=0.90),
    "specificity_at_95_sensitivity": partial(specificity_at, sensitivity=0.95),
}
OF_PROBABILITIES: Mapping[Metric, Measure] = {
    "brier": brier,
    "calibration_intercept": intercept,
    "calibration_slope": slope,
}
GAPS: Mapping[Metric | Literal["auroc"], Metric] = {
    "auroc": "auroc_gap",
    "underdiagnosis": "underdiagnosis_gap",
    "missed": "missed_gap",
}


class Quantity(NamedTuple):
    metric: Metric | Literal["auroc"]
    label: str
    group: str | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """A group with the cases of a test set as they are inside it."""

    group: Group
    whole: Cases

    @cached_property
    def cases(self) -> Cases:
        return self.whole.within(self.group.members)


Measured = Mapping[Quantity, Estimate | None]
"""None of what cannot be estimated."""


def measure(cases: Cases, parts: Sequence[Part], runs: Sequence[Floats]) -> Measured:
    """All of it, over the training seeds; `runs` holds the scores (N, L) of each."""
    found: dict[Quantity, Estimate | None] = {}
    for part in parts:
        found |= over_runs(_aurocs(part, scores) for scores in runs)
    probabilities = all(are_probabilities(scores) for scores in runs)
    for column, label in enumerate(cases.labels):
        of = partial(_of_label, label, cases.by_label[column], parts, probabilities)
        found |= over_runs(of(scores[:, column]) for scores in runs)
    found |= _macros(cases, parts, found)
    return found | _gaps(parts, found)


def over_runs(
    runs: Iterable[Mapping[Quantity, Estimate | None]],
) -> dict[Quantity, Estimate | None]:
    """Each quantity over all seeds; None if a single run does not have it."""
    by_run = list(runs)
    return {quantity: _over_seeds([run[quantity] for run in by_run]) for quantity in by_run[0]}


def _over_seeds(runs: Sequence[Estimate | None]) -> Estimate | None:
    known = [run for run in runs if run is not None]
    return over_seeds(known) if len(known) == len(runs) else None


def _aurocs(part: Part, scores: Floats) -> dict[Quantity, Estimate | None]:
    """The macro of a group, over the labels of the whole test set's mean; and its labels that
    enough patients have and have not.
    """
    aurocs = label_aurocs(part.cases, scores)
    labels = {
        Quantity("auroc", label, part.group.name): A
        for label, A in zip(part.cases.labels, aurocs, strict=True)
        if A is not None and A.fewest >= FEWEST_FOR_P
    }
    return {Quantity("auroc", MACRO, part.group.name): macro(part.cases, aurocs), **labels}


def _of_label(
    label: str, cases: LabelCases, parts: Sequence[Part], probabilities: bool, score: Floats
) -> dict[Quantity, Estimate | None]:
    found = {Quantity(name, label): of(cases, score) for name, of in OF_A_LABEL.items()}
    for name, of in OF_PROBABILITIES.items():
        found[Quantity(name, label)] = of(cases, score) if probabilities else None
    return found | dict(_errors(label, cases, parts, score))


def _errors(
    label: str, cases: LabelCases, parts: Sequence[Part], score: Floats
) -> Iterator[tuple[Quantity, Estimate | None]]:
    """Who is not recognised as ill, at the break-even threshold of all images."""
    name: Metric = "underdiagnosis" if label == NO_FINDING else "missed"
    rate = false_alarms if label == NO_FINDING else missed
    cut = break_even(cases, score)
    everybody: Bools = np.ones(len(score), np.bool_)
    groups = [(None, everybody), *((part.group.name, part.group.members) for part in parts)]
    for group, members in groups:
        yield Quantity(name, label, group), cut and rate(cases, score, cut, members)


def _macros(
    cases: Cases, parts: Sequence[Part], found: Measured
) -> dict[Quantity, Estimate | None]:
    """The plain mean over the labels of the mean; None if one of them has no value."""
    whole: list[Metric] = [*OF_A_LABEL, *OF_PROBABILITIES, "missed"]
    wanted: list[tuple[Metric, str | None]] = []
    wanted.extend((metric, None) for metric in whole)
    wanted.extend(("missed", part.group.name) for part in parts)
    macros: dict[Quantity, Estimate | None] = {}
    for metric, group in wanted:
        labels = [label for label in cases.averaged if metric != "missed" or label != NO_FINDING]
        each = [found[Quantity(metric, label, group)] for label in labels]
        known = [estimate for estimate in each if estimate is not None]
        of_all = mean(known) if known and len(known) == len(labels) else None
        macros[Quantity(metric, MACRO, group)] = of_all
    return macros


def _gaps(parts: Sequence[Part], found: Measured) -> dict[Quantity, Estimate | None]:
    """Each group minus the one it is held against, where the test set has both."""
    gaps: dict[Quantity, Estimate | None] = {}
    there = {part.group.name for part in parts}
    for part in parts:
        name, against = part.group.name, part.group.against
        if against not in there:
            continue
        for metric, gap in GAPS.items():
            label = NO_FINDING if metric == "underdiagnosis" else MACRO
            ours = Quantity(metric, label, name)
            if ours in found:
                theirs = found[Quantity(metric, label, against)]
                gaps[Quantity(gap, label, name)] = _minus(found[ours], theirs)
    return gaps


def _minus(ours: Estimate | None, theirs: Estimate | None) -> Estimate | None:
    return None if ours is None or theirs is None else ours - theirs
