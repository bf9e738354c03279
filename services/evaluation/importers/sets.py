"""Sheets as predictions: under pseudonyms, or of data that says patients, truth and groups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from api_schemas.findings import ABSENT, PRESENT
from services.evaluation.importers.faults import Faults, Faulty
from services.evaluation.importers.scores import PATIENT, Sheet, Truth
from services.evaluation.statistics.cases import UNKNOWN, Bools
from services.evaluation.statistics.predictions import Names, Predictions

Rename = Callable[[str], str]
DECADE = 10
OF_DATA = ("sex", "race", "ethnicity", "view", "site")


@dataclass(frozen=True, eq=False)
class Evaluand:
    """Predictions, and the groups of their images in the same order; blank is in no group."""

    predictions: Predictions
    groups: dict[str, Names]


def own(sheet: Sheet, sample: Rename, patient: Rename) -> Evaluand:
    """Of a file that says everything; `sample` and `patient` make pseudonyms of its ids.

    Raises `Faulty` where it does not, for a single patient, and for each label of one class.
    """
    faults = Faults()
    if sheet.patients is None:
        faults.add(Faulty("No column names the patient", accepted=list(PATIENT)))
    elif sheet.patients.n_unique() == 1:
        faults.add(Faulty("All images are of one patient: nothing follows for another"))
    if sheet.truth is None:
        faults.add(Faulty("No column says the truth", accepted=[sheet.column("truth", "<label>")]))
    for label, truth in _truths(sheet):
        if not _both(truth):
            faults.add(
                Faulty(
                    f"{label} has only one class; leave the label out",
                    column=sheet.column("truth", label),
                    accepted=["1 and 0, each at least once"],
                )
            )
    faults.check()
    assert sheet.patients is not None  # noqa: S101 - else there was a fault
    assert sheet.truth is not None  # noqa: S101 - likewise
    renamed = {name: patient(name) for name in sheet.patients.unique()}
    samples = np.array([sample(name) for name in sheet.samples])
    patients = np.array([renamed[name] for name in sheet.patients])
    return _sorted(sheet, samples, patients, sheet.truth)


def _truths(sheet: Sheet) -> list[tuple[str, Truth]]:
    """The truth of each label, where the file says it."""
    return [] if sheet.truth is None else list(zip(sheet.labels, sheet.truth.T, strict=True))


def of_data(sheet: Sheet, rows: pl.DataFrame) -> Evaluand:
    """Of images of a dataset or cohort: `rows` of its manifest.

    Raises `Faulty` for a file that says for itself what the data says, for images that are not
    of the data or lack, and where no label has both classes.
    """
    faults = Faults()
    for said, what in ((sheet.patients, "patients"), (sheet.truth, "truth")):
        if said is not None:
            faults.add(Faulty(f"The data says its {what}: leave these columns out"))
    if sheet.groups:
        faults.add(Faulty("The data says its groups: leave these columns out", accepted=[]))
    place = {sample: n for n, sample in enumerate(rows["sample_id"])}
    found = np.array([place.get(sample, UNKNOWN) for sample in sheet.samples], np.int64)
    strange = np.flatnonzero(found == UNKNOWN)
    if len(strange):
        faults.add(
            Faulty(
                f"{len(strange)} of {len(found)} images are not of this split of the data",
                line=int(sheet.lines[strange[0]]),
            )
        )
    lacking = np.setdiff1d(np.arange(rows.height), found)
    if len(lacking):
        first = rows["sample_id"][int(lacking[0])]
        faults.add(
            Faulty(f"{len(lacking)} of {rows.height} images lack, the first of them is {first}")
        )
    faults.check()
    known = rows[found]
    truth = np.stack([_said(known[label]) for label in sheet.labels], axis=1)
    if not any(_both(column) for column in truth.T):
        raise Faulty("In the data no label of the file has both classes")
    groups = {name: known[name].fill_null("") for name in OF_DATA}
    decade = known["age"] // DECADE * DECADE
    groups["age"] = (
        decade.cast(pl.String) + "-" + (decade + DECADE - 1).cast(pl.String)
    ).fill_null("")
    told = {name: values for name, values in groups.items() if values.n_unique() > 1}
    samples, patients = (
        known[name].to_numpy().astype(np.str_) for name in ("sample_id", "patient_id")
    )
    return _sorted(sheet, samples, patients, truth, told)


def renamed(sheet: Sheet, samples: Sequence[str | None]) -> Sheet:
    """The sheet with the sample ids that its paths were found to be. Raises `Faulty`."""
    unknown = np.array([each is None for each in samples], np.bool_)
    _refuse(sheet, unknown, "paths are those of no image of the data")
    names = pl.Series(samples, dtype=pl.String)
    _refuse(sheet, ~names.is_first_distinct().to_numpy(), "paths are those of an image before")
    return replace(sheet, samples=names, by_path=False)


def check_paired(ours: Sheet, theirs: Sheet) -> None:
    """Raise `Faulty`, of the second, unless both are of the same images, patients and truth."""
    if ours.labels != theirs.labels:
        raise Faulty("Its labels are not those of the other file", accepted=list(ours.labels))
    place = {sample: n for n, sample in enumerate(ours.samples)}
    found = np.array([place.get(sample, UNKNOWN) for sample in theirs.samples], np.int64)
    _refuse(theirs, found == UNKNOWN, "images are not in the other file")
    if len(found) < len(place):
        raise Faulty(f"{len(place) - len(found)} images of the other file lack")
    if (ours.patients is None) != (theirs.patients is None) or (ours.truth is None) != (
        theirs.truth is None
    ):
        raise Faulty("It has not the columns of the other file")
    if ours.patients is not None and theirs.patients is not None:
        others = (ours.patients.gather(found) != theirs.patients).to_numpy()
        _refuse(theirs, others, "images have another patient in the other file")
    if ours.truth is not None and theirs.truth is not None:
        differs = (ours.truth[found] != theirs.truth).any(axis=1)
        _refuse(theirs, differs, "images have another truth in the other file")


def _refuse(sheet: Sheet, bad: Bools, detail: str) -> None:
    places = np.flatnonzero(bad)
    if len(places):
        raise Faulty(f"{len(places)} {detail}", line=int(sheet.lines[places[0]]))


def _sorted(
    sheet: Sheet,
    samples: Names,
    patients: Names,
    truth: Truth,
    groups: dict[str, pl.Series] | None = None,
) -> Evaluand:
    """In the canonical order of predictions."""
    order = np.argsort(samples)
    told = sheet.groups if groups is None else groups
    return Evaluand(
        Predictions(
            sheet.labels, samples[order], patients[order], truth[order], sheet.scores[order]
        ),
        {name: values.to_numpy().astype(np.str_)[order] for name, values in told.items()},
    )


def _both(truth: Truth) -> bool:
    return bool((truth == 1).any() and (truth == 0).any())


def _said(labels: pl.Series) -> Truth:
    """What a manifest says of a label: anything but present and absent is unknown."""
    known = labels.is_in([PRESENT, ABSENT])
    return (
        labels.set(~known.fill_null(value=False), UNKNOWN)
        .fill_null(UNKNOWN)
        .to_numpy()
        .astype(np.int8)
    )
