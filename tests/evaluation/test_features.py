"""Features of a lab's own extractor: read, checked, and measured with."""

import io
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import polars as pl
import pytest
from scipy.linalg import sqrtm

from services.evaluation.importers.vectors import read_vectors
from services.evaluation.service import KEPT, NAMED
from services.evaluation.service.features import Given
from services.evaluation.statistics.quality import Set, distances
from services.kit.deletion import Delete
from services.kit.jobs.lineage import DELETE
from tests.evaluation.test_qualities import ask, cohort_of, done, rows_of

__all__ = ["cohort_of", "rows_of"]  # fixtures
Row = dict[str, Any]
D = 3


def npz(samples: list[str], values: np.ndarray, **more: Any) -> bytes:
    sink = io.BytesIO()
    np.savez_compressed(sink, sample_id=np.array(samples), vector=values, **more)
    return sink.getvalue()


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pl.DataFrame(columns).write_parquet(sink)
    return sink.getvalue()


def give(http, data: str, content: bytes, **fields: str):
    told = {"name": "rad-dino", "version": "1", "data": data} | fields
    return http.post("/features", data=told, files={"file": ("f", content)})


def drawn(rng: np.random.Generator, n: int, mean: Any, spread: np.ndarray) -> np.ndarray:
    return rng.normal(size=(n, D)) @ spread.T + np.asarray(mean)


def test_every_form_of_a_file_gives_the_same_vectors(tmp_path) -> None:
    samples, values = ["b", "a", "c"], np.arange(9, dtype=np.float32).reshape(3, 3) / 7
    columns = {f"x{n}": values[:, n] for n in range(3)}
    csv = pl.DataFrame({"id": samples, **columns}).write_csv().encode()
    for content in (
        npz(samples, values),
        parquet(sample_id=samples, vector=values.tolist()),
        parquet(sample_id=samples, anything=pl.Series(values, dtype=pl.Array(pl.Float32, 3))),
        parquet(sample_id=samples, **columns),
        csv,
    ):
        (tmp_path / "f").write_bytes(content)
        found = read_vectors(tmp_path / "f")
        assert found.samples == samples
        np.testing.assert_allclose(found.values, values, atol=1e-7)


def test_the_distance_of_two_gaussians_is_its_closed_form(tmp_path) -> None:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), and about none between halves of one."""
    rng = np.random.default_rng(5)
    one, two = rng.normal(size=(D, D)), rng.normal(size=(D, D))
    sets = []
    for n, mean, spread in ((4000, [0, 0, 0], one), (8000, [1, -0.5, 0.25], two)):
        names = [f"{n}-{i}" for i in range(n)]
        (tmp_path / "f").write_bytes(npz(names, drawn(rng, n, mean, spread)))
        vectors = read_vectors(tmp_path / "f")
        sets.append(Set(vectors.values.astype(np.float64), np.arange(n)))
    first, second = one @ one.T, two @ two.T
    expected = 1 + 0.25 + 0.0625
    expected += np.trace(first + second - 2 * sqrtm(first @ second).real)
    told = distances(Given("g", "1", D, ""), sets[0], sets[1], 0).frechet
    assert told.cohort.value == pytest.approx(expected, rel=0.03)
    assert told.floor.value < 0.01 * expected


def broken(names: list[str]) -> dict[str, tuple[bytes, int | None]]:
    n = len(names)
    good = np.zeros((n, D)) + np.arange(n)[:, None]
    hole = good.copy()
    hole[4, 1] = np.nan
    large = good.copy()
    large[2, 0] = -1e160
    ragged = good.tolist()
    ragged[3] = [1.0]
    return {
        "no archive": (b"PK no archive", None),
        "objects": (npz(names, np.array([{"a": 1}] * n)), None),
        "no samples": (parquet(vector=good.tolist()), None),
        "no vectors": (parquet(sample_id=names), None),
        "a NaN": (npz(names, hole), 5),
        "too large": (npz(names, large), 3),
        "all the same": (npz(names, np.ones((n, D))), None),
        "the same but for rounding": (npz(names, 1e-200 * good), None),
        "another length": (parquet(sample_id=names, vector=ragged), 4),
        "twice": (npz([*names[:-1], names[0]], good), n),
        "fewer samples": (npz(names[:-1], good), None),
        "one number": (npz(names, good[:, :1]), None),
        "a strange sample": (npz([*names[:-1], "x"], good), n),
        "texts": (npz(names, np.array([["a", "b"]] * n)), None),
    }


def test_what_is_wrong_with_a_file_is_named(desk, hospital, rows_of, adapters, ada) -> None:
    here = hospital()
    names = [row["sample_id"] for row in rows_of(here)]
    for what, (content, line) in broken(names).items():
        answer = give(desk, f"dataset/{here}", content)
        problem = answer.json()
        assert (answer.status_code, problem["field"]) == (422, "file"), (what, problem)
        assert problem["type"].endswith("features-unusable"), what
        assert problem.get("line") == line, (what, problem)
    good = npz(names, np.arange(len(names) * D).reshape(-1, D))
    assert give(desk, f"dataset/{uuid4()}", good).json()["field"] == "data"
    assert give(desk, f"dataset/{here}", good, name="a b").json()["field"] == "name"
    assert desk.get("/features").json()["items"] == []
    assert list(adapters.store.keys(f"projects/{ada.caller.project}/features/")) == []


@pytest.fixture
def given(desk, hospital, cohort_of, rows_of):
    """A cohort and its reference, each with features: the cohort's twice as wide and shifted."""
    here = hospital()
    rows = rows_of(here)
    cohort = cohort_of(here, rows)
    rng = np.random.default_rng(1)

    def table(data: str, names: list[str], values: np.ndarray, **fields: str) -> str:
        answer = give(desk, data, npz(names, values), **fields)
        assert answer.status_code == 201, answer.text
        assert answer.headers["Location"] == f"/features/{answer.json()['id']}"
        assert answer.json()["images"] == len(names)
        return answer.json()["id"]

    theirs = [row["sample_id"] for row in rows]
    ours = [f"synthetic-{n}" for n in range(len(rows))]
    return {
        "here": here,
        "cohort": cohort,
        "table": table,
        "ours": table(f"generation/{cohort}", ours, drawn(rng, len(rows), [5] * D, np.eye(D))),
        "theirs": table(f"dataset/{here}", theirs, drawn(rng, len(rows), [0] * D, np.eye(D))),
        "names": theirs,
    }


def test_a_cohort_is_measured_with_given_features(desk, look, given) -> None:
    pair = {"cohort": given["ours"], "reference": given["theirs"]}
    asked = ask(desk, given["cohort"], features=[pair])
    *offered, told = done(desk, look, asked)["distances"]
    assert [each["features"]["given"] for each in offered] == [None] * 3
    assert told["features"] | {"about": ""} == {
        "name": "rad-dino",
        "version": "1",
        "dimension": D,
        "about": "",
        "given": pair,
    }
    assert told["frechet"]["cohort"]["value"] == pytest.approx(D * 25, rel=0.15)
    assert told["frechet"]["floor"]["value"] < 2
    page = desk.get(f"/qualities/{asked['id']}/page").text
    assert "rad-dino 1" in page
    assert "unless those that were given" in page


def test_features_that_do_not_fit_are_refused(desk, given) -> None:
    def refused(cohort: str, reference: str) -> tuple[int, str, str]:
        body = {"cohort": {"generation": str(given["cohort"])}}
        body["features"] = [{"cohort": cohort, "reference": reference}]
        told = desk.post("/qualities", json=body).json()
        return told["status"], told["type"].split(":")[-1], told["field"]

    ours, theirs, names = given["ours"], given["theirs"], given["names"]
    data, values = f"dataset/{given['here']}", np.eye(len(names), D)
    newer = given["table"](data, names, values, version="2")
    wider = given["table"](data, names, np.eye(len(names), D + 1))
    fewer = given["table"](data, names[1:], values[1:])
    other = (422, "features-unusable", "features.0.reference")
    assert refused(ours, newer) == refused(ours, wider) == refused(ours, ours) == other
    assert refused(theirs, theirs) == (422, "features-unusable", "features.0.cohort")
    assert refused(ours, fewer) == (422, "features-lacking", "features.0.reference")
    assert refused(str(uuid4()), theirs) == (404, "not-found", "features.0.cohort")


def test_features_are_listed_deleted_and_belong_to_their_project(
    desk, given, look, adapters, ada, work, part, browse, stranger
) -> None:
    place = f"/features/{given['ours']}"
    elsewhere = browse(part.router, member=stranger)
    assert elsewhere.get(place).status_code == 404
    assert elsewhere.get("/features").json()["items"] == []
    listed = [each["id"] for each in desk.get("/features").json()["items"]]
    assert listed == [given["theirs"], given["ours"]]
    folder = f"projects/{ada.caller.project}/features/{given['ours']}/"
    keys = list(adapters.store.keys(folder))
    with adapters.db.transaction() as tx:
        assert NAMED["features"](tx, UUID(given["ours"]), keys) == set(keys) != set()
    pair = {"cohort": given["ours"], "reference": given["theirs"]}
    ask(desk, given["cohort"], features=[pair])
    assert [each["kind"] for each in desk.delete(place).json()["derived"]] == ["quality"]
    assert desk.delete(place, params={"derived": True}).status_code == 202
    assert desk.get(place).status_code == 404
    work("evaluation", "evaluation", {DELETE: Delete(adapters.erasure, KEPT)})
    assert list(adapters.store.keys(folder)) == []
