"""The paper's files, read as the authors' scripts read them."""

import io
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api_schemas.findings import FINDINGS
from api_schemas.manifest import MANIFEST
from api_schemas.paper import LABELS, BlankLabels, NothingToList, PaperFile, paper_file

SYNTHETIC = {"seed": 7, "replica": 0, "parent_sample_id": "parent", "generator_id": "g"}


def manifest(*rows: dict[str, Any]) -> pa.Table:
    """A manifest of these rows; labels are blank unless a row states them."""
    blank = dict.fromkeys(MANIFEST.names) | {"site": "s", "split": "train"}
    named = [
        blank | {"sample_id": f"s-{n}", "patient_id": f"p-{n}"} | row for n, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(named, schema=MANIFEST)


def as_trained(text: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the published script trains on, and what it validates with."""
    table = pd.read_csv(io.StringIO(text))
    return table[table["Fold"] != 0], table[table["Fold"] == 0]


ROWS = [
    {"split": "train", "fold": None},
    {"split": "train", "fold": 3},
    {"split": "train", "fold": 0},  # a fold of a source that a view has split anew
    {"split": "validation", "fold": None},
    {"split": "validation", "fold": 0},
    {"split": "validation", "fold": 5},
    {"split": "test", "fold": None},
    {"split": "test", "fold": 0},
    {"split": "test", "fold": 2},
]


@pytest.mark.parametrize(("which", "more"), [(PaperFile.TABLE, {}), (PaperFile.SEEDED, SYNTHETIC)])
def test_nobody_who_tests_is_trained_on_or_validated_with(
    which: PaperFile, more: dict[str, Any]
) -> None:
    table = manifest(*({**row, **more} for row in ROWS))
    trains, validates = as_trained(paper_file(table, which))
    assert set(trains["PID"]) == {"p-0", "p-1", "p-2"}
    assert set(validates["PID"]) == {"p-3", "p-4", "p-5"}
    assert trains["Fold"].tolist() == [1, 3, 1]


def test_no_condition_is_nan_unless_it_is_asked_for() -> None:
    table = manifest({"Edema": 1, "Fracture": -1}, {"No Finding": 0})

    def labels(*blank: BlankLabels) -> pd.DataFrame:
        return as_trained(paper_file(table, PaperFile.TABLE, *blank))[0][list(LABELS)]

    assert not labels().isna().any(axis=None)
    assert labels().sum().sum() == 0  # 1 and -1
    assert labels("0").equals(labels())
    assert labels("empty").notna().sum().sum() == 3


def test_the_lists_say_who_tests_and_who_does_not() -> None:
    table = manifest(*ROWS)
    tests = pd.read_csv(io.StringIO(paper_file(table, PaperFile.TEST_LIST)))
    others = pd.read_csv(io.StringIO(paper_file(table, PaperFile.TRAIN_LIST)))
    assert set(tests["PID"]) == {"p-6", "p-7", "p-8"}
    assert set(others["PID"]) == {f"p-{n}" for n in range(6)}


def test_real_and_synthetic_images_are_in_files_of_their_own() -> None:
    table = manifest({}, SYNTHETIC, {"split": "test"}, {**SYNTHETIC, "split": "test"})
    real, _ = as_trained(paper_file(table, PaperFile.TABLE))
    synthetic, _ = as_trained(paper_file(table, PaperFile.SEEDED))
    assert real["Path"].tolist() == ["s-0"]
    assert (synthetic["Path"].tolist(), synthetic["Save Path"].tolist()) == (["parent"], ["s-1"])
    assert "p-3" not in paper_file(table, PaperFile.TEST_LIST)
    assert "p-1" not in paper_file(table, PaperFile.TRAIN_LIST)


@pytest.mark.parametrize(
    ("which", "row"),
    [
        (PaperFile.SEEDED, {}),
        (PaperFile.SEEDED, {**SYNTHETIC, "split": "test"}),
        (PaperFile.TABLE, {"split": "test"}),
        (PaperFile.TABLE, SYNTHETIC),
        (PaperFile.TRAIN_LIST, SYNTHETIC),
        (PaperFile.TEST_LIST, {**SYNTHETIC, "split": "test"}),
    ],
)
def test_a_file_without_a_row_is_none(which: PaperFile, row: dict[str, Any]) -> None:
    with pytest.raises(NothingToList):
        paper_file(manifest(row), which)


def test_a_cell_that_looks_like_a_formula_is_quoted() -> None:
    row = {"sample_id": "=cmd()", "patient_id": "@sum", **dict.fromkeys(map(str, FINDINGS), -1)}
    assert paper_file(manifest({**row, "split": "test"}), PaperFile.TEST_LIST) == (
        "Path,PID\n'=cmd(),'@sum\n"
    )
    line = paper_file(manifest(row), PaperFile.TABLE).splitlines()[1]
    assert line.startswith("'=cmd(),'@sum,")
    assert ",-1,-1," in line
