"""Ethnicity over HTTP: a column of its own from the table to filters, counts, splits and views."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import polars as pl
import pytest
from fastapi.testclient import TestClient

from api_schemas.findings import Ethnicity
from api_schemas.manifest import MANIFEST, from_parquet
from tests.datasets import trees

HISPANIC, NOT_HISPANIC = map(str, Ethnicity)


@pytest.fixture
def stated(http: TestClient, ingest: Callable[..., int], import_root: Path) -> UUID:
    """Forty patients without images: ten of either ethnicity, twenty who state none."""
    folder = import_root / uuid4().hex
    words = [HISPANIC, "Non-Hispanic/Non-Latino", "", "unknown"]
    rows = [
        {"Path": f"{n}.png", "PID": n, "Race": "White", "Ethnicity": words[n % 4]}
        for n in range(40)
    ]
    trees.write(folder / "t.csv", ("Path", "PID", "Race", "Ethnicity"), rows)
    body = {"format": "chexpert_csv", "name": "x", "site": "s", "images": False}
    made = http.post("/datasets", json=body | {"path": f"{folder.name}/t.csv"})
    assert made.status_code == 202, made.text
    ingest()
    return UUID(made.json()["id"])


def table(http: TestClient, dataset: UUID) -> pl.DataFrame:
    content = http.get(f"/datasets/{dataset}/manifest").content
    return pl.DataFrame(pl.from_arrow(from_parquet(content, MANIFEST)))


def test_what_a_table_states_is_kept_counted_and_found(http: TestClient, stated: UUID) -> None:
    assert table(http, stated)["ethnicity"].to_list() == [HISPANIC, NOT_HISPANIC, None, None] * 10
    summary = http.get(f"/datasets/{stated}/summary").json()
    assert summary["ethnicity"] == {HISPANIC: 10, NOT_HISPANIC: 10, "unknown": 20}
    assert summary["missing"]["ethnicity"] == {"images": 20, "share": 0.5}
    for wanted, count in ((HISPANIC, 10), (NOT_HISPANIC, 10), ("unknown", 20)):
        found = http.get(f"/datasets/{stated}/samples", params={"ethnicity": wanted}).json()
        said = [row["ethnicity"] for row in found["items"]]
        assert said == [None if wanted == "unknown" else wanted] * count


def test_a_word_that_is_no_ethnicity_is_refused_where_it_stands(
    http: TestClient, stated: UUID
) -> None:
    answer = http.get(f"/datasets/{stated}/samples", params={"ethnicity": "Martian"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "ethnicity.0"
    assert HISPANIC in answer.text


def test_views_are_filtered_and_split_by_it(
    http: TestClient, ingest: Callable[..., int], stated: UUID
) -> None:
    body = {
        "name": "stated",
        "where": {"ethnicity": list(Ethnicity)},
        "splits": {"kind": "new", "validation": 0, "test": 0.5, "stratify": ["ethnicity"]},
    }
    made = http.post(f"/datasets/{stated}/views", json=body)
    assert made.status_code == 202, made.text
    ingest()
    rows = table(http, made.json()["id"])
    dealt = rows.group_by("ethnicity", "split").len().sort("ethnicity", "split").rows()
    assert dealt == [(e, s, 5) for e in (HISPANIC, NOT_HISPANIC) for s in ("test", "train")]
