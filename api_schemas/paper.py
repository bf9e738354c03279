"""A manifest as the paper's own files, for the authors' scripts.

A dataset does not remember the names of files and patients: `Path` is the sample's id, `PID` the
patient's pseudonym.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from api_schemas.findings import View

LABELS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion"),
    *("Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion"),
    *("Pleural Other", "Fracture", "Support Devices"),
)
"""In the order of the paper's tables, which is CheXpert's."""
ATTRIBUTES = ("Path", "PID", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS, "Race", "Fold")
SEEDED = (*ATTRIBUTES, "Seed", "ReplicaID", "Save Path")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class PaperFile(StrEnum):
    """Which of the paper's files: who trains, who tests, every image with what it shows."""

    TRAIN_LIST = "cxp_tr.csv"
    TEST_LIST = "cxp_ts.csv"
    TABLE = "sample_train_data.csv"
    SEEDED = "sample_seeded_data.csv"


def paper_file(manifest: pa.Table, which: PaperFile) -> str:
    """The file as CSV. Validation patients stand in the list of those who train, as fold 0."""
    if which is PaperFile.SEEDED:
        synthetic = manifest.filter(pc.field("seed").is_valid())
        return _csv(SEEDED, (_seeded(row) for row in synthetic.to_pylist()))
    if which is PaperFile.TABLE:
        return _csv(ATTRIBUTES, (_attributes(row) for row in manifest.to_pylist()))
    tests = which is PaperFile.TEST_LIST
    listed = (row for row in manifest.to_pylist() if (row["split"] == "test") is tests)
    return _csv(("Path", "PID"), (_named(row) for row in listed))


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {"Path": row["sample_id"], "PID": row["patient_id"]}


def _attributes(row: dict[str, Any]) -> dict[str, Any]:
    lateral = row["view"] == View.LATERAL
    return {
        **_named(row),
        "Sex": row["sex"],
        "Age": row["age"],
        "Frontal/Lateral": "Lateral" if lateral else "Frontal",
        "AP/PA": "" if lateral else row["view"],
        **{name: row[name] for name in LABELS},
        "Race": row["race"],
        "Fold": _fold(row),
    }


def _fold(row: dict[str, Any]) -> int | None:
    """The source's, else 0 for validation and 1 for training; those who test are in none."""
    if row["fold"] is not None:
        return row["fold"]
    return {"validation": 0, "train": 1}.get(row["split"])


def _seeded(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **_attributes(row),
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
