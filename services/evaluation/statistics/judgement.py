"""One classifier's predictions, or two paired: AUROC and differences by label and group.

Knows arrays; does not know whose predictions they are or what they are of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from api_schemas.evaluation import MACRO, Flag
from api_schemas.evaluations import EvaluatedRow
from services.evaluation.statistics.cases import Bools, Cases, Counts, Floats, dominates
from services.evaluation.statistics.estimate import Estimate
from services.evaluation.statistics.groups import named
from services.evaluation.statistics.inference import auroc_inference, difference_inference
from services.evaluation.statistics.influence import label_aurocs, macro
from services.evaluation.statistics.lines import flags_of, is_below_chance
from services.evaluation.statistics.predictions import Names, Predictions


@dataclass(frozen=True)
class Judged:
    """`labels` are those that `macro` is the mean over, in all rows the same: those with
    `FEWEST_IN_MEAN` patients of each class.
    """

    labels: tuple[str, ...]
    rows: list[EvaluatedRow]


def judge(
    ours: Predictions,
    theirs: Predictions | None,
    groups: Mapping[str, Names],
    flags: Sequence[Flag] = (),
) -> Judged:
    """Every label and their mean, of all images and then of every group. `theirs` are of the same
    images; without them there are no differences. `flags` hold of all rows.
    """
    cases = ours.cases()
    known = np.array([label.n1 > 0 and label.n0 > 0 for label in cases.by_label])
    scores = [ours.scores] if theirs is None else [ours.scores, theirs.scores]
    every = np.ones(len(ours.samples), np.bool_)
    rows = _rows(cases, known, scores, every, None, flags)
    for name, values in groups.items():
        for value in np.unique(values[values != ""]):
            inside = values == value
            of_group = cases.within(inside)
            rows += _rows(of_group, known, scores, inside, named(name, value), flags)
    return Judged(cases.averaged, rows)


def _rows(
    cases: Cases,
    known: Bools,
    scores: Sequence[Floats],
    inside: Bools,
    group: str | None,
    flags: Sequence[Flag],
) -> list[EvaluatedRow]:
    estimates = [_estimates(cases, known, each) for each in scores]
    return [
        _row(cases, label, inside, group, [each.get(label) for each in estimates], flags)
        for label in (MACRO, *cases.labels)
    ]


def _estimates(cases: Cases, known: Bools, scores: Floats) -> dict[str, Estimate | None]:
    """By label and `macro`; a label that all images together lack a class of has none."""
    aurocs = label_aurocs(cases, scores)
    by_label = zip(cases.labels, aurocs, known, strict=True)
    return {MACRO: macro(cases, aurocs), **{label: A for label, A, has in by_label if has}}


def _row(
    cases: Cases,
    label: str,
    inside: Bools,
    group: str | None,
    models: Sequence[Estimate | None],
    flags: Sequence[Flag],
) -> EvaluatedRow:
    A, B = models[0], models[1] if len(models) > 1 else None
    a, b = A and auroc_inference(A), B and auroc_inference(B)
    d = difference_inference(A - B) if A and B else None
    counts = _counts(cases, label, inside)
    said: list[tuple[Flag, bool]] = [
        ("below_chance", is_below_chance(a)),
        ("dominant_patient", counts.dominated),
    ]
    return EvaluatedRow(
        label=label,
        group=group,
        images=counts.images,
        positives=counts.positives,
        patients=counts.patients,
        auroc=a and a.value,
        low=a and a.low,
        high=a and a.high,
        reference_auroc=b and b.value,
        reference_low=b and b.low,
        reference_high=b and b.high,
        difference=d and d.value,
        difference_low=d and d.low,
        difference_high=d and d.high,
        p=d and d.p,
        dof=d.nu if d else a and a.nu,
        flags=[
            *flags_of(A and A.fewest, d or a, exact=any(each and each.exact for each in (a, d))),
            *(flag for flag, holds in said if holds),
            *flags,
        ],
    )


def _counts(cases: Cases, label: str, inside: Bools) -> Counts:
    if label != MACRO:
        return cases.counts_of(label)
    patient = cases.patient[inside]
    return Counts(len(patient), None, len(np.unique(patient)), dominates(patient))
