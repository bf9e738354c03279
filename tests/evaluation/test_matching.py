"""Predictions that a person sends are held against the test set that the plan names."""

from collections.abc import Callable

import polars as pl
import pyarrow as pa
import pytest

from api_schemas.manifest import MANIFEST, to_parquet
from services.evaluation.reports.cautions import grave
from tests.evaluation.study import ARMS, SEEDS, TESTS, predictions
from tests.evaluation.test_answers import every_result

TITLE = "Not the test set that the plan names"
FIRST = next(iter(TESTS))


def as_said(table: pa.Table) -> pa.Table:
    return table


def inverted(table: pa.Table) -> pa.Table:
    return _with(table, pl.col("truth").replace({0: 1, 1: 0}))


def alone(table: pa.Table) -> pa.Table:
    return _with(table, pl.col("sample_id").alias("patient_id"))


def halved(table: pa.Table) -> pa.Table:
    return table.filter(pa.compute.less(table["sample_id"], f"{FIRST}-0060"))


def strange(table: pa.Table) -> pa.Table:
    return _with(table, pl.format("x{}", "sample_id").alias("sample_id"))


def forgotten(table: pa.Table) -> pa.Table:
    """What the manifest states of some images is sent as unknown."""
    of_some = pl.col("sample_id") < f"{FIRST}-0040"
    return _with(table, pl.when(~of_some).then(pl.col("truth")).alias("truth"))


def renamed(table: pa.Table) -> pa.Table:
    return _with(table, pl.format("me-{}", "patient_id").alias("patient_id"))


def _with(table: pa.Table, change: pl.Expr) -> pa.Table:
    return pl.from_arrow(table).with_columns(change).to_arrow().cast(table.schema)


@pytest.fixture
def evaluated(shelf, ada, registered, send, evaluate, http) -> Callable:
    """A study on one test set, each set of predictions changed in the same way."""

    def run(bend) -> tuple:
        made = shelf.add_dataset(ada.caller, phantom=False)
        shelf.datasets[made] = (
            *shelf.datasets[made][:2],
            manifest_of(predictions(FIRST, "real", 0)),
        )
        test = {"name": FIRST, "data": {"dataset": str(made)}, "split": "test"}
        study, reports = registered(tests=[test]), []
        for arm in ARMS:
            for seed in SEEDS:
                body = to_parquet(bend(predictions(FIRST, arm, seed)))
                answer = send(study["id"], FIRST, arm, seed, body)
                assert answer.status_code == 201, answer.text
        assert evaluate(lambda report: reports.append(report) or "a report") == 1
        return reports[0], every_result(http, study["experiment"])

    return run


def manifest_of(table: pa.Table) -> pa.Table:
    wide = pl.from_arrow(table).pivot("label", index=["sample_id", "patient_id"], values="truth")
    rows = [
        dict.fromkeys(MANIFEST.names) | {"split": "test", "site": "a"} | row
        for row in wide.to_dicts()
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST)


@pytest.mark.parametrize("same", [as_said, renamed])
def test_predictions_of_the_test_set_are_not_flagged(evaluated, same) -> None:
    report, lines = evaluated(same)
    assert TITLE not in {caution.title for caution in grave(report)}
    assert not any("unlike_its_data" in line["flags"] for line in lines)


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (inverted, "another truth of Edema"),
        (forgotten, "another truth of Edema"),
        (alone, "grouped into other patients"),
        (halved, "images have no prediction"),
        (strange, "images are not in it"),
    ],
)
def test_what_differs_is_said_on_every_line_and_in_the_report(evaluated, bend, words) -> None:
    report, lines = evaluated(bend)
    (said,) = [caution.text for caution in grave(report) if caution.title == TITLE]
    assert words in said
    assert lines
    assert all("unlike_its_data" in line["flags"] for line in lines)


def test_data_that_does_not_say_it_is_flagged(registered, send_all, evaluate, http) -> None:
    """The split that the plan names is empty: nothing could be compared."""
    made, reports = registered(), []
    send_all(made["id"])
    assert evaluate(lambda report: reports.append(report) or "a report") == 1
    assert all("could not be compared" in test.differences[0] for test in reports[0].tests)
    assert all("unlike_its_data" in row["flags"] for row in every_result(http, made["experiment"]))
