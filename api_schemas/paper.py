"""A manifest as the paper's own files, for the authors' scripts.

A dataset does not remember the names of files and patients: `Path` is the sample's id, `PID` the
patient's pseudonym.

The authors' training script takes the rows whose `Fold` is 0 for validation and all others, those
with a blank fold too, for training (`Fold != 0`). So the tables of conditions (`sample_train_data`,
`sample_seeded_data`) hold no row of split `test`, and every row of them has a fold: 0 in
validation, any other in training.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Literal

import pyarrow as pa

from api_schemas.findings import View
from api_schemas.manifest import is_synthetic

LABELS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion"),
    *("Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion"),
    *("Pleural Other", "Fracture", "Support Devices"),
)
"""In the order of the paper's tables, which is CheXpert's."""
ATTRIBUTES = ("Path", "PID", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS, "Race", "Fold")
SEEDED = (*ATTRIBUTES, "Seed", "ReplicaID", "Save Path")
VALIDATION, TRAINING = 0, 1
"""Folds of rows that the source gives none, or one that contradicts their split."""
BlankLabels = Literal["0", "empty"]
"""How a label that nobody mentioned is written: as 0, as in the paper's own tables, which know only
findings that are there or not; or as an empty cell, which the authors' scripts read as NaN."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class PaperFile(StrEnum):
    """Which of the paper's files: who trains, who tests, every image with what it shows."""

    TRAIN_LIST = "cxp_tr.csv"
    TEST_LIST = "cxp_ts.csv"
    TABLE = "sample_train_data.csv"
    SEEDED = "sample_seeded_data.csv"


class NothingToList(ValueError):
    """The manifest has no rows of the kind that the file lists."""


def paper_file(manifest: pa.Table, which: PaperFile, blank: BlankLabels = "0") -> str:
    """The file as CSV. Validation patients stand in the list of those who train, as fold 0.

    Lists and `sample_train_data.csv` are of real images, `sample_seeded_data.csv` of synthetic
    ones. `blank` says how the tables write a label that nobody mentioned. Raises `NothingToList`
    where a table would have no row, or the manifest no real image to list.
    """
    synthetic = is_synthetic()
    if which is PaperFile.SEEDED:
        rows = manifest.filter(synthetic).to_pylist()
        return _table(SEEDED, [_seeded(row, blank) for row in rows if _trains(row)], which)
    real = manifest.filter(~synthetic).to_pylist()
    if which is PaperFile.TABLE:
        return _table(ATTRIBUTES, [_attributes(row, blank) for row in real if _trains(row)], which)
    if not real:
        raise NothingToList("None of the images is real")
    tests = which is PaperFile.TEST_LIST
    listed = (row for row in real if _trains(row) is not tests)
    return _csv(("Path", "PID"), (_named(row) for row in listed))


def _trains(row: dict[str, Any]) -> bool:
    """Whether it may stand in a table of which all rows are trained on or validated with."""
    return row["split"] != "test"


def _table(columns: Sequence[str], rows: list[dict[str, Any]], which: PaperFile) -> str:
    if not rows:
        kind = "synthetic" if which is PaperFile.SEEDED else "real"
        raise NothingToList(f"No {kind} image of it trains or validates")
    return _csv(columns, iter(rows))


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {"Path": row["sample_id"], "PID": row["patient_id"]}


def _attributes(row: dict[str, Any], blank: BlankLabels) -> dict[str, Any]:
    lateral = row["view"] == View.LATERAL
    return {
        **_named(row),
        "Sex": row["sex"],
        "Age": row["age"],
        "Frontal/Lateral": "Lateral" if lateral else "Frontal",
        "AP/PA": "" if lateral else row["view"],
        **{name: _label(row[name], blank) for name in LABELS},
        "Race": row["race"],
        "Fold": _fold(row),
    }


def _label(value: int | None, blank: BlankLabels) -> int | None:
    return 0 if value is None and blank == "0" else value


def _fold(row: dict[str, Any]) -> int:
    """0 in validation and nowhere else; the source's fold where it says the same as the split."""
    if row["split"] == "validation":
        return VALIDATION
    return row["fold"] or TRAINING


def _seeded(row: dict[str, Any], blank: BlankLabels) -> dict[str, Any]:
    return {
        **_attributes(row, blank),
        "Path": row["parent_sample_id"] or row["sample_id"],
        "Seed": row["seed"],
        "ReplicaID": row["replica"],
        "Save Path": row["sample_id"],
    }


def _csv(columns: Sequence[str], rows: Iterator[dict[str, Any]]) -> str:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return sink.getvalue()


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is quoted; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
