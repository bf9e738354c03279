"""Which images of a source an arm may take, and in which order. Knows samples; no images."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from api_schemas.arms import Source
from api_schemas.base import DatasetRef
from api_schemas.content_order import content_names, lot, patient_names
from api_schemas.findings import ABSENT, PRESENT, UNCERTAIN, Finding
from api_schemas.selection import Filter
from services.training.service.samples import BLANK, Rows, Samples, columns, in_order_of_use

Mask = NDArray[np.bool_]
UNSTATED = "unknown"


def pool(samples: Samples, source: Source) -> Rows:
    """Places in split `train` of what `source` may take, in the order in which it gives them.

    Nobody's patients are a cohort's: its `fraction` makes it give less, not of fewer people.
    """
    rows = samples.split("train")
    order = in_order_of_use(samples, rows)
    return order[_chosen(samples, rows, source)[order]]


def selected(samples: Samples, source: Source) -> Rows:
    """What `source` may take, in manifest order: of a million images the order takes seconds."""
    rows = samples.split("train")
    return rows[_chosen(samples, rows, source)]


def held(samples: Samples, source: Source) -> int:
    """How many images `source` may take."""
    return len(selected(samples, source))


def _chosen(samples: Samples, rows: Rows, source: Source) -> Mask:
    chosen = meets(samples, source.where or Filter())[rows]
    if isinstance(source.data, DatasetRef) and source.fraction < 1:
        chosen &= _of_some_patients(samples, rows, chosen, source.fraction)
    return chosen


def unit(samples: Samples, source: Source) -> int:
    """How many images a multiple of 1 of `source` is, where `samples` are the yardstick's.

    `source.data` names the yardstick. A share of a cohort's images stands in for a share of
    patients.
    """
    there = held(samples, source)
    return there if isinstance(source.data, DatasetRef) else round(source.fraction * there)


def _of_some_patients(samples: Samples, rows: Rows, chosen: Mask, fraction: float) -> Mask:
    """The images of a share of the patients that have any image chosen.

    By a hash of the patient's pixels, so that it is the same share in every run, experiment and
    installation, and part of every larger share.
    """
    patients = samples.patients[rows]
    names = patient_names(patients.tolist(), content_names(samples.pixels[rows].tolist()))
    by_lot = sorted(set(patients[chosen].tolist()), key=lambda one: lot("fraction", names[one]))
    kept = by_lot[: math.ceil(fraction * len(by_lot) - 1e-9)]
    return np.isin(patients.astype(str), np.array(kept, dtype=str))


def meets(samples: Samples, where: Filter) -> Mask:
    """Which samples meet every entry that is given."""
    chosen = np.ones(len(samples.ids), dtype=np.bool_)
    for condition in _conditions(samples, where):
        chosen &= condition
    return chosen


def _conditions(samples: Samples, where: Filter) -> Iterator[Mask]:
    for name in ("site", "sex", "race", "ethnicity", "view"):
        wanted: list[str] = [str(value) for value in getattr(where, name)]
        if wanted:
            stated = samples.stated[name]
            yield np.isin(np.where(stated == None, UNSTATED, stated).astype(str), wanted)  # noqa: E711 - elementwise
    if where.fold:
        yield np.isin(samples.folds, where.fold)
    if where.age_from is not None:
        yield (samples.ages >= where.age_from) & (samples.ages >= 0)
    if where.age_to is not None:
        yield (samples.ages <= where.age_to) & (samples.ages >= 0)
    for findings, value in (
        (where.present, PRESENT),
        (where.absent, ABSENT),
        (where.uncertain, UNCERTAIN),
        (where.blank, BLANK),
    ):
        yield _all_are(samples, findings, value)


def _all_are(samples: Samples, findings: list[Finding], value: int) -> Mask:
    return (samples.labels[:, columns(findings)] == value).all(axis=1)
