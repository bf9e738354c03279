"""Predictions of one classifier as somebody wrote them down, in wide or in long form.

Wide: one row an image, columns `truth_<label>` and `score_<label>`. Long: one row an image and
label, columns `label`, `truth`, `score`. Both with an image's id, its patient's, and any
`group_<name>`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from api_schemas.findings import FINDINGS
from services.evaluation.importers.faults import Faults, Faulty
from services.evaluation.importers.tables import Table, read_table
from services.evaluation.statistics.cases import UNKNOWN, Floats, Ints

PATH = "path"
SAMPLE = ("sample_id", "image_id", "id", "image", PATH)
PATIENT = ("patient_id", "patient")
TRUTH, SCORE, GROUP = "truth_", "score_", "group_"
LONG = ("label", "truth", "score")
GROUP_COLUMNS = 20
GROUPS_LIMIT, GROUP_LENGTH = 20, 60
"""Values of one group column, and characters of one: what has more is no group."""

T = TypeVar("T")
Truth = NDArray[np.int8]
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BY_WORD = {str(finding).lower(): place for place, finding in enumerate(FINDINGS)}


@dataclass(frozen=True, eq=False)
class Sheet:
    """N images in the file's order, L labels in CheXpert's. What the file does not say is None."""

    labels: tuple[str, ...]
    samples: pl.Series  # (N,)
    patients: pl.Series | None  # (N,)
    truth: Truth | None  # (N, L)
    scores: Floats  # (N, L)
    groups: dict[str, pl.Series]  # (N,) each; blank where not stated
    lines: Ints  # (N,)
    long: bool
    by_path: bool = False
    """Whether images are named by their files."""

    def column(self, what: str, label: str) -> str:
        """The column that holds the truth or score of a label."""
        return what if self.long else f"{what}_{label}"


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where the images and the cells of a table stand."""

    labels: tuple[str, ...]
    sample: str
    patient: str | None
    first: Ints  # (N,) the row of each image that speaks for it
    code: Ints  # (rows,) the image of each row
    truth: Truth | None
    scores: Floats


def read_scores(path: Path) -> Sheet:
    """Raises `Faulty`, with all faults that are found, for whatever cannot be the predictions of
    one classifier.
    """
    table, faults = read_table(path), Faults()
    sample = patient = layout = patients = None
    with faults.collecting():
        sample = one_of(table, SAMPLE)
        if sample is None:
            raise Faulty("No column names the image", accepted=list(SAMPLE))
    with faults.collecting():
        patient = one_of(table, PATIENT)
    with faults.collecting():
        layout = (_long if "label" in table.names else _wide)(table, sample, patient, faults)
    if patient is not None:
        with faults.collecting():
            patients = _of_images(table.identifiers(patient), table, layout, patient)
    groups = _groups(table, layout, faults)
    if layout is not None:
        _check_varied(layout, faults, long="label" in table.names)
    faults.check()
    assert sample is not None  # noqa: S101 - else there was a fault
    assert layout is not None  # noqa: S101 - likewise
    return Sheet(
        labels=layout.labels,
        samples=table.texts(sample, required=True).gather(layout.first),
        patients=patients,
        truth=layout.truth,
        scores=layout.scores,
        groups=groups,
        lines=table.lines[layout.first],
        long="label" in table.names,
        by_path=sample == PATH,
    )


def _groups(table: Table, layout: "_Layout | None", faults: Faults) -> dict[str, pl.Series]:
    """The columns of groups by the name of the group."""
    names = [name for name in table.names if name.startswith(GROUP)]
    if len(names) > GROUP_COLUMNS:
        faults.add(
            Faulty(f"At most {GROUP_COLUMNS} columns of groups", column=names[GROUP_COLUMNS])
        )
        return {}
    groups: dict[str, pl.Series] = {}
    for name in names:
        with faults.collecting():
            values = _of_images(table.texts(name, required=False), table, layout, name)
            _check_group(name.removeprefix(GROUP), values)
            groups[name.removeprefix(GROUP)] = values
    return groups


def one_of(table: Table, names: Sequence[str]) -> str | None:
    found = [name for name in names if name in table.names]
    if len(found) > 1:
        raise Faulty("Two columns say the same", column=found[1], accepted=[found[0]])
    return found[0] if found else None


# ---------------------------------------------------------------- wide


def _wide(table: Table, sample: str | None, patient: str | None, faults: Faults) -> _Layout | None:
    """None where faults were found."""
    scores, truths = _labelled(table, SCORE, faults), _labelled(table, TRUTH, faults)
    known = {*SAMPLE, *PATIENT}
    accepted = [*SAMPLE, *PATIENT, "truth_<label>", "score_<label>"]
    _check_known(table, known, accepted, faults, prefixes=(SCORE, TRUTH))
    if not any(name.startswith(SCORE) for name in table.names):
        faults.add(Faulty("It has no scores", accepted=["score_<label>", "label, truth, score"]))
    for place in sorted(truths.keys() ^ scores.keys()) if truths and scores else []:
        here, lacking = (scores, TRUTH) if place in scores else (truths, SCORE)
        column, accepted = here[place], [f"{lacking}<label>"]
        faults.add(Faulty("Its label has no other column", column=column, accepted=accepted))
    samples = _samples(table, sample, patient, faults)
    if sample is not None and samples is not None:
        with faults.collecting():
            twice = ~samples.is_first_distinct()
            table.refuse(twice.to_numpy(), "The same image stood in an earlier line", sample)
    places = sorted(scores)
    truth = _each(table, [truths[p] for p in places if p in truths], _truth, faults)
    score = _each(table, [scores[p] for p in places], _score, faults)
    if faults.found or sample is None or samples is None:
        return None
    every = np.arange(len(samples))
    return _Layout(
        labels=tuple(str(FINDINGS[place]) for place in places),
        sample=sample,
        patient=patient,
        first=every,
        code=every,
        truth=np.stack(truth, axis=1) if truths else None,
        scores=np.stack(score, axis=1),
    )


def _samples(
    table: Table, sample: str | None, patient: str | None, faults: Faults
) -> pl.Series | None:
    """The image of each row; None where there is a fault in it."""
    samples = None
    if sample is not None:
        with faults.collecting():
            samples = table.texts(sample, required=True)
    if samples is not None and patient is not None:
        with faults.collecting():
            _check_one_patient(table, samples, patient)
    return samples


def _each(
    table: Table, columns: Sequence[str], read: Callable[[Table, str], T], faults: Faults
) -> list[T]:
    """Those of the columns that can be read."""
    found: list[T] = []
    for column in columns:
        with faults.collecting():
            found.append(read(table, column))
    return found


def _labelled(table: Table, prefix: str, faults: Faults) -> dict[int, str]:
    """The columns of a prefix by the place of their label."""
    found: dict[int, str] = {}
    for name in table.names:
        if not name.startswith(prefix):
            continue
        place = _BY_WORD.get(_word(name.removeprefix(prefix)))
        if place is None:
            faults.add(Faulty("CheXpert has no such label", column=name, accepted=_labels()))
        elif place in found:
            faults.add(Faulty("Two columns are of one label", column=name))
        else:
            found[place] = name
    return found


def _check_known(
    table: Table,
    known: set[str],
    accepted: list[str],
    faults: Faults,
    prefixes: tuple[str, ...] = (),
) -> None:
    for name in table.names:
        if name not in known and not name.startswith((GROUP, *prefixes)):
            faults.add(
                Faulty(
                    "It says nothing that is asked for",
                    column=name,
                    accepted=[*accepted, "group_<name>"],
                )
            )


# ---------------------------------------------------------------- long


def _long(table: Table, sample: str | None, patient: str | None, faults: Faults) -> _Layout | None:
    """None where faults were found before the cells could be put together. Raises `Faulty`."""
    _check_known(table, {*SAMPLE, *PATIENT, *LONG}, [*SAMPLE, *PATIENT, *LONG], faults)
    if "score" not in table.names:
        faults.add(Faulty("It has no scores", accepted=list(LONG)))
    samples = _samples(table, sample, patient, faults)
    (places,) = _each(table, ["label"], _places, faults) or [None]
    (score,) = _each(table, [n for n in ("score",) if n in table.names], _score, faults) or [None]
    cells = _each(table, [n for n in ("truth",) if n in table.names], _truth, faults)
    if faults.found or sample is None or samples is None or places is None or score is None:
        return None
    present = np.unique(places)
    label = np.searchsorted(present, places)
    first = np.flatnonzero(samples.is_first_distinct().to_numpy())
    ranks = samples.rank("dense").to_numpy().astype(np.int64) - 1
    position = np.empty(len(first), np.int64)
    position[ranks[first]] = np.arange(len(first))
    code = position[ranks]
    cell = code * len(present) + label
    again = ~pl.Series(cell).is_first_distinct()
    table.refuse(again.to_numpy(), "The same image and label stood in an earlier line", sample)
    _check_complete(table, first, code, len(present))
    shape = (len(first), len(present))
    scores = np.empty(shape)
    scores[code, label] = score
    truth: Truth | None = None
    if cells:
        truth = np.empty(shape, np.int8)
        truth[code, label] = cells[0]
    names = tuple(str(FINDINGS[place]) for place in present)
    return _Layout(names, sample, patient, first, code, truth, scores)


def _places(table: Table, column: str) -> Ints:
    words = table.texts(column, required=True)
    known = {word: _BY_WORD.get(_word(word), UNKNOWN) for word in words.unique()}
    places = np.array([known[word] for word in words], np.int64)
    line = table.line(places == UNKNOWN)
    if line is not None:
        raise Faulty("CheXpert has no such label", column=column, line=line, accepted=_labels())
    return places


def _check_complete(table: Table, first: Ints, code: Ints, labels: int) -> None:
    lacking = np.flatnonzero(np.bincount(code, minlength=len(first)) < labels)
    if len(lacking):
        raise Faulty(
            f"{len(lacking)} images have no score of some of the {labels} labels",
            column="label",
            line=int(table.lines[first[lacking[0]]]),
        )


# ---------------------------------------------------------------- cells


def _truth(table: Table, column: str) -> Truth:
    """1, 0, or UNKNOWN for -1 and blank."""
    values, blank = table.numbers(column)
    wrong = ~blank & ~np.isin(values, (0, 1, -1))
    line = table.line(wrong)
    if line is not None:
        told = ["1", "0", "-1 (uncertain)", "blank"]
        raise Faulty("It is no truth", column=column, line=line, accepted=told)
    return np.where(blank, UNKNOWN, values).astype(np.int8)


def _score(table: Table, column: str) -> Floats:
    values, blank = table.numbers(column)
    table.refuse(blank, "A score is missing", column)
    table.refuse(~np.isfinite(values), "A score is NaN or infinite", column)
    return values


def _check_varied(layout: _Layout, faults: Faults, *, long: bool) -> None:
    for constant in np.flatnonzero((layout.scores == layout.scores[:1]).all(axis=0)):
        label = layout.labels[constant]
        faults.add(
            Faulty(
                f"All scores of {label} are the same: they rank nothing",
                column="score" if long else f"{SCORE}{label}",
            )
        )


def _of_images(values: pl.Series, table: Table, layout: _Layout | None, column: str) -> pl.Series:
    """What a column says of each image; it must say the same in all rows of one. Of each row,
    where nobody knows which rows are of one image.
    """
    if layout is None:
        return values
    theirs = values.gather(layout.first).gather(layout.code)
    table.refuse((values != theirs).to_numpy(), "An earlier line says otherwise", column)
    return values.gather(layout.first)


def _check_one_patient(table: Table, samples: pl.Series, patient: str) -> None:
    whose = pl.DataFrame({"sample": samples, "patient": table.texts(patient, required=True)})
    first = whose.select(pl.col("patient").first().over("sample"))["patient"]
    differs = (first != whose["patient"]).to_numpy()
    table.refuse(differs, "The same image had another patient in an earlier line", patient)


def _check_group(name: str, values: pl.Series) -> None:
    """A group is shown as `name: value`, so that a colon in the name would make two of one."""
    column = GROUP + name
    if not name.strip() or ":" in name or CONTROL.search(name):
        raise Faulty(
            "Its group has no name, or a colon or control character in it",
            column=CONTROL.sub("?", column),
            accepted=["group_<name>"],
        )
    if values.str.contains(CONTROL.pattern).any():
        raise Faulty("A value has a control character", column=column)
    if values.n_unique() > GROUPS_LIMIT or (values.str.len_chars() > GROUP_LENGTH).any():
        raise Faulty(
            f"At most {GROUPS_LIMIT} values, and {GROUP_LENGTH} characters in each",
            column=column,
        )


def _word(label: str) -> str:
    return label.replace("_", " ").strip().lower()


def _labels() -> list[str]:
    return [str(finding) for finding in FINDINGS]
