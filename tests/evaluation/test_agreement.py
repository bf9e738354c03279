"""A classifier's agreement with a cohort's conditions, beside its AUROC on real images."""

from typing import Any
from uuid import UUID, uuid4

import numpy as np
import polars as pl
import pytest

from tests.evaluation.test_evaluations import csv, line_of, post
from tests.evaluation.test_qualities import Row, ask, cohort_of, done, rows_of

__all__ = ["cohort_of", "rows_of"]  # fixtures
LABELS = ("Edema", "Cardiomegaly")


@pytest.fixture
def scored(desk):
    """Have scores of all images of some data evaluated: `scored("dataset/...", rows, 1.0)`."""

    def send(data: str, rows: list[Row], effect: float, **fields: Any) -> str:
        rng = np.random.default_rng(len(data))
        columns: Row = {"sample_id": [row["sample_id"] for row in rows]}
        for label in LABELS:
            truth = np.array([row[label] or 0 for row in rows])
            columns[f"score_{label}"] = effect * truth + rng.normal(size=len(rows))
        answer = post(desk, csv(pl.DataFrame(columns)), data=data, **fields)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    return send


@pytest.fixture
def studied(hospital, cohort_of, rows_of):
    """A dataset, a cohort of its pictures, and the rows of both."""
    here = hospital()
    rows = rows_of(here)
    return here, rows, cohort_of(here, rows)


def synthetic(rows: list[Row]) -> list[Row]:
    return [row | {"sample_id": f"synthetic-{n}"} for n, row in enumerate(rows)]


def test_the_cohort_is_recognised_beside_real_images(desk, look, scored, studied) -> None:
    here, rows, cohort = studied
    classifier = str(uuid4())
    ours = scored(f"generation/{cohort}", synthetic(rows), 2.0, classifier=classifier)
    theirs = scored(f"dataset/{here}", rows, 2.0, classifier=classifier, leakage="one of them")
    asked = ask(desk, cohort, agreement={"cohort": ours, "real": theirs})
    assert asked["job"]["state"] == "blocked"
    told = done(desk, look, asked)["agreement"]
    assert (told["classifier"], told["leakage"]) == (classifier, ["one of them"])
    results = [desk.get(f"/evaluations/{each}").json()["result"] for each in (ours, theirs)]
    assert [row["label"] for row in told["rows"]] == ["macro", "Edema", "Cardiomegaly"]
    for row in told["rows"]:
        for side, result in zip(("cohort", "real"), results, strict=True):
            line = line_of(result, row["label"])
            bounds = (row[side]["value"], row[side]["low"], row[side]["high"])
            assert bounds == (line["auroc"], line["low"], line["high"])
    page = desk.get(f"/qualities/{asked['id']}/page").text
    assert "Agreement of a classifier" in page
    assert "is no independent judge</strong>: one of them." in page
    deletion = desk.get(f"/evaluations/{ours}/deletion").json()
    assert [each["kind"] for each in deletion["derived"]] == ["quality"]


def test_without_real_images_there_is_nothing_beside_it(desk, look, scored, studied) -> None:
    _, rows, cohort = studied
    ours = scored(f"generation/{cohort}", synthetic(rows), 1.0)
    asked = ask(desk, cohort, agreement={"cohort": ours})
    told = done(desk, look, asked)["agreement"]
    assert all(row["real"] is None and row["cohort"] for row in told["rows"])
    page = desk.get(f"/qualities/{asked['id']}/page").text
    assert "did not say of which" in page
    assert "no independent judge" not in page
    assert "lies below .5" not in page


def test_an_agreement_below_chance_is_warned_about(desk, look, scored, studied) -> None:
    _, rows, cohort = studied
    ours = scored(f"generation/{cohort}", synthetic(rows), -3.0)
    asked = ask(desk, cohort, agreement={"cohort": ours})
    done(desk, look, asked)
    page = desk.get(f"/qualities/{asked['id']}/page").text
    assert "lies below .5 (macro, cohort, Edema, cohort" in page


def test_evaluations_that_say_nothing_of_it_are_refused(
    desk, scored, studied, cohort_of, shelf
) -> None:
    here, rows, cohort = studied
    other = cohort_of(here, rows)
    ours = scored(f"generation/{cohort}", synthetic(rows), 1.0, classifier=str(uuid4()))
    others = scored(f"generation/{other}", synthetic(rows), 1.0)
    theirs = scored(f"dataset/{here}", rows, 1.0)

    def refused(**agreement: str) -> tuple[int, str, str]:
        body = {"cohort": {"generation": str(cohort)}, "agreement": agreement}
        told = desk.post("/qualities", json=body).json()
        return told["status"], told["type"].split(":")[-1], told["field"]

    assert refused(cohort=others) == (422, "agreement-unusable", "agreement.cohort")
    assert refused(cohort=theirs) == (422, "agreement-unusable", "agreement.cohort")
    assert refused(cohort=ours, real=others) == (422, "agreement-unusable", "agreement.real")
    assert refused(cohort=ours, real=theirs) == (422, "agreement-unusable", "agreement.real")
    assert refused(cohort=str(uuid4())) == (404, "not-found", "agreement.cohort")
    caller, view, table = shelf.cohorts[UUID(str(cohort))]
    manifest = view.manifest.model_copy(update={"digest": "9" * 64})
    shelf.cohorts[cohort] = (caller, view.model_copy(update={"manifest": manifest}), table)
    assert refused(cohort=ours) == (422, "agreement-unusable", "agreement.cohort")
