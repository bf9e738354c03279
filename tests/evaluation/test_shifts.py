"""How two sets differ, over HTTP: numbers, a figure, and what is refused."""

from uuid import uuid4

import polars as pl
import pytest
from vl_convert import svg_to_png

from api_schemas.base import DatasetRef, DataSplit
from api_schemas.findings import FINDINGS
from api_schemas.shifts import ComparedSet, Shift
from services.datasets.main import compose as compose_datasets
from services.evaluation.reports.shift import figure
from services.evaluation.statistics.shift import COLUMNS, shift


def words(first, second) -> dict[str, str]:
    return {"first": f"dataset/{first}", "second": f"dataset/{second}"}


def frame(adapters, ada, dataset) -> pl.DataFrame:
    table = compose_datasets(adapters).provider.dataset_manifest(ada.caller, dataset)
    return pl.DataFrame(pl.from_arrow(table))


def test_two_hospitals_are_compared_in_every_respect(desk, hospital, adapters, ada) -> None:
    a, b = hospital("phantom-a", 60), hospital("phantom-b", 60)
    told = desk.get("/shifts", params=words(a, b)).json()
    rows = {(r["attribute"], r["value"]): r for r in told["rows"]}
    first, second = frame(adapters, ada, a), frame(adapters, ada, b)
    assert (told["first"]["name"], told["first"]["images"]) == ("Phantoms phantom-a", first.height)
    assert told["shared_patients"] == 0
    assert {value for attribute, value in rows if attribute == "finding"} == set(map(str, FINDINGS))
    edema = rows["finding", "Edema"]
    for side, table in (("first", first), ("second", second)):
        known = table.filter(pl.col("Edema").is_in([0, 1]))  # uncertain and blank do not count
        assert known.height < table.height
        assert edema[side]["images"] == known.height
        assert edema[side]["value"] == pytest.approx(known["Edema"].mean())
        assert edema[side]["low"] < edema[side]["value"] < edema[side]["high"]
    assert edema["difference"] == pytest.approx(edema["second"]["value"] - edema["first"]["value"])
    assert edema["low"] < edema["difference"] < edema["high"]
    age = rows["age", "mean"]
    assert age["first"]["value"] == pytest.approx(first["age"].mean())
    assert age["low"] < age["difference"] < age["high"]
    sexes = [rows["sex", s]["first"]["value"] for s in ("Female", "Male")]
    assert sum(sexes) == pytest.approx(1)
    blank = rows["not stated", "Edema"]["second"]
    assert (blank["value"], blank["images"]) == (
        pytest.approx(second["Edema"].null_count() / second.height),
        second.height,
    )


def test_splits_of_one_dataset_and_a_cohort_can_be_compared(desk, hospital, shelf, ada) -> None:
    made = hospital()
    query = words(made, made) | {"first_split": "train", "second_split": "test"}
    told = desk.get("/shifts", params=query).json()
    assert told["first"]["images"] + told["second"]["images"] < 2 * told["first"]["images"] + 60
    assert told["second"]["set"]["split"] == "test"
    cohort = shelf.add_cohort(ada.caller, [None] * 8)
    told = desk.get("/shifts", params=words(made, made) | {"second": f"generation/{cohort}"})
    assert told.json()["second"]["name"] == "cohort"


def test_a_set_against_itself_shares_every_patient(desk, hospital) -> None:
    made = hospital()
    told = desk.get("/shifts", params=words(made, made)).json()
    assert told["shared_patients"] == told["first"]["patients"]
    assert all(r["difference"] in {0.0, None} for r in told["rows"])


def test_the_figure_is_drawn_and_names_cannot_break_it(desk, hospital) -> None:
    a, b = hospital("phantom-a"), hospital("phantom-b")
    answer = desk.get("/shifts", params=words(a, b) | {"format": "svg"})
    assert answer.headers["Content-Type"].startswith("image/svg+xml")
    for word in ("Pleural Effusion", "Phantoms phantom-b", "Age by decade", "Not stated"):
        assert word in answer.text
    assert svg_to_png(answer.text)


def test_a_hostile_name_is_text_in_the_figure(adapters, ada, hospital) -> None:
    table = frame(adapters, ada, hospital()).select(COLUMNS)
    name = "</text><script>alert(1)</script>&<b>"
    side = ComparedSet(
        set=DataSplit(data=DatasetRef(dataset=uuid4())),
        name=name,
        manifest="0" * 64,
        images=table.height,
        patients=1,
    )
    rows = shift(table, table)
    drawn = figure(Shift(first=side, second=side, shared_patients=1, rows=rows))
    assert "<script>" not in drawn
    assert "&lt;script&gt;" in drawn


def test_what_cannot_be_compared_is_named(desk, hospital, shelf, ada) -> None:
    made = hospital()
    unknown = desk.get("/shifts", params=words(made, uuid4()))
    assert (unknown.status_code, unknown.json()["field"]) == (404, "second")
    malformed = desk.get("/shifts", params={"first": str(made), "second": f"dataset/{made}"})
    assert (malformed.status_code, malformed.json()["field"]) == (422, "first")
    cohort = shelf.add_cohort(ada.caller, [None] * 3)
    query = {"first": f"generation/{cohort}", "second": f"dataset/{made}", "first_split": "test"}
    empty = desk.get("/shifts", params=query)
    assert (empty.status_code, empty.json()["field"]) == (422, "first.split")
