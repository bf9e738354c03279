"""Trivial features beside a study's test sets and between two sets, measured by the worker."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from api_schemas.datasets import DatasetKind
from api_schemas.manifest import MANIFEST, PREDICTIONS, to_parquet
from services.datasets.main import compose
from services.datasets.worker import handlers
from services.evaluation.reports.page import render
from services.evaluation.statistics.baseline import FEATURES
from services.kit.objects import sha256
from tests.evaluation.study import ARMS, SEEDS, plan

PATIENTS = 60
LABELS = ("Edema", "Fracture")


def png(px: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(px).save(sink, format="PNG")
    return sink.getvalue()


@pytest.fixture
def films(adapters, shelf, ada):
    """A dataset of noise, one image a patient: half have edema, one in eight a fracture. Where the
    images `bordered` of the edema patients have a white rim, nothing else tells.
    """

    def make(
        *, bordered: bool, one_has: int = 0, split: str = "test"
    ) -> tuple[UUID, list[dict[str, Any]]]:
        made = shelf.add_dataset(ada.caller, phantom=False)
        rng = np.random.default_rng(5 if split == "test" else 6)
        owners = [*range(PATIENTS), *[0] * one_has]
        rows = []
        for n, patient in enumerate(owners):
            px = rng.integers(60, 200, (32, 32), dtype=np.uint8)
            edema = patient % 2
            if bordered and edema:
                px[:2] = 250
            content = png(px)
            key = f"test/{made}/{n}.png"
            adapters.store.put(key, content)
            told = {"sample_id": f"film-{n}", "patient_id": f"p{patient}", "site": "a"}
            told |= {"split": split, "image_key": key, "image_sha256": sha256(content)}
            told |= {"pixel_sha256": sha256(px.tobytes())}
            labels = {"Edema": edema, "Fracture": int(patient % 8 == 0)}
            rows.append(dict.fromkeys(MANIFEST.names) | told | labels)
        caller, view, _ = shelf.datasets[made]
        real = view.model_copy(update={"kind": DatasetKind.REAL})
        shelf.datasets[made] = (caller, real, pa.Table.from_pylist(rows, schema=MANIFEST))
        return made, rows

    return make


@pytest.fixture
def studied(http, evaluate):
    """The experiment of a study on some films, by classifiers that find a little: its id."""

    def run(
        made: UUID, rows: list[dict[str, Any]], effect: float = 0.5, real: UUID | None = None
    ) -> str:
        body = plan(uuid4(), made)
        if real is not None:
            body["contact_sheet"] = {"real": {"dataset": str(real)}}
        body["tests"] = [{"name": "films", "data": {"dataset": str(made)}, "split": "test"}]
        registered = http.post("/plans", json=body).json()
        for arm in ARMS:
            for seed in SEEDS:
                rng = np.random.default_rng([seed, list(ARMS).index(arm)])
                told = [
                    {"sample_id": row["sample_id"], "patient_id": row["patient_id"]}
                    | {"label": label, "truth": row[label]}
                    | {"score": effect * row[label] + rng.normal()}
                    for row in rows
                    for label in LABELS
                ]
                answer = http.post(
                    "/predictions",
                    params={"plan": registered["id"], "arm": arm, "seed": seed, "test": "films"},
                    content=to_parquet(pa.Table.from_pylist(told, schema=PREDICTIONS)),
                )
                assert answer.status_code == 201, answer.text
        evaluate(render)
        return body["experiment"]

    return run


def baselines(http, experiment: str) -> dict[str, dict[str, Any]]:
    answer = http.get("/baselines", params={"experiment": experiment})
    assert answer.status_code == 200, answer.text
    return {row["label"]: row for row in answer.json()["items"]}


def test_a_rim_of_one_class_is_found_and_held_against_the_classifiers(http, films, studied) -> None:
    experiment = studied(*films(bordered=True))
    found = baselines(http, experiment)
    assert set(found) == set(LABELS)
    edema = found["Edema"]
    assert (edema["images"], edema["positives"], edema["patients"]) == (60, 30, 60)
    assert edema["auroc"] > 0.95
    assert edema["low"] > 0.85
    assert edema["feature"] in {"border", "white", "contrast", "corners", "brightness"}
    page = http.get(f"/reports/{experiment}").text
    assert "Trivial features do as well as the classifiers" in page
    assert "What trivial features alone tell" in page
    assert f"Edema on films: {edema['auroc']:.3f}" in page
    assert f"{edema['low']:.3f} to {edema['high']:.3f}" in page


def test_training_images_that_differ_as_the_test_set_does_are_held_against_it_too(
    http, films, studied
) -> None:
    made, rows = films(bordered=True)
    alike, _ = films(bordered=True, split="train")
    other, _ = films(bordered=False, split="train")
    found = [baselines(http, studied(made, rows, real=real)) for real in (alike, other, made)]
    same, different, untrained = (each["Edema"] for each in found)
    assert same["trained_low"] > 0.9
    assert different["trained_auroc"] < same["trained_auroc"]
    assert untrained["trained_auroc"] is None  # nothing of it is for training
    assert {each["auroc"] for each in (same, different, untrained)} == {same["auroc"]}


def test_films_that_differ_in_nothing_else_raise_no_warning(http, films, studied) -> None:
    experiment = studied(*films(bordered=False), effect=3.0)
    assert baselines(http, experiment)["Edema"]["low"] < 0.5
    page = http.get(f"/reports/{experiment}").text
    assert "Trivial features do as well as the classifiers" not in page
    assert "What trivial features alone tell" in page
    assert "An AUROC below chance" not in page
    assert "are of one patient" not in page


def test_scores_of_the_wrong_way_round_are_a_box(http, films, studied) -> None:
    experiment = studied(*films(bordered=False), effect=-3.0)
    page = http.get(f"/reports/{experiment}").text
    assert "An AUROC below chance" in page
    rows = http.get("/results", params={"experiment": experiment}).json()["items"]
    below = [row["high"] is not None and row["high"] < 0.5 for row in rows]
    assert ["below_chance" in row["flags"] for row in rows] == below
    assert any(below)


def test_one_patient_with_many_films_is_named_beside_the_intervals(http, films, studied) -> None:
    experiment = studied(*films(bordered=False, one_has=12))
    page = http.get(f"/reports/{experiment}").text
    assert "films: 13 of the 72 images are of one patient" in page
    rows = http.get("/results", params={"experiment": experiment}).json()["items"]
    assert all("dominant_patient" in row["flags"] for row in rows)
    (asked,) = http.get("/comparisons", params={"experiment": experiment}).json()["items"]
    assert "dominant_patient" in asked["flags"]


def test_a_study_is_answered_where_the_images_are_gone(
    http, films, studied, adapters, shelf
) -> None:
    made, rows = films(bordered=True)
    adapters.store.remove([rows[7]["image_key"]])
    experiment = studied(made, rows)
    assert baselines(http, experiment) == {}
    page = http.get(f"/reports/{experiment}").text
    assert "films: not measured" in page
    assert "film-7" in page
    assert http.get("/results", params={"experiment": experiment}).json()["items"]


def test_two_sets_are_told_apart_once_a_worker_has_read_them(
    desk, look, hospital, adapters
) -> None:
    a, b = hospital("phantom-a", 30), hospital("phantom-b", 30)
    query = {"first": f"dataset/{a}", "second": f"dataset/{b}"}
    assert desk.get("/shifts", params=query).json()["apart"] is None
    body = {"first": {"data": {"dataset": str(a)}}, "second": {"data": {"dataset": str(b)}}}
    desk.post("/overlaps", json=body)
    look()
    assert desk.get("/shifts", params=query).json()["apart"] is None  # nobody asked for it
    asked = desk.post("/overlaps", json=body | {"trivial": True}).json()
    look()
    found = desk.get(f"/overlaps/{asked['id']}").json()["result"]["apart"]
    assert desk.get("/shifts", params=query).json()["apart"] == found
    shift = desk.get("/shifts", params=query).json()
    assert found["images"] == [shift["first"]["images"], shift["second"]["images"]]
    assert [each["feature"] for each in found["features"]] != [f.name for f in FEATURES]
    assert {each["feature"] for each in found["features"]} == {f.name for f in FEATURES}
    telling = [abs(each["auroc"] - 0.5) for each in found["features"]]
    assert telling == sorted(telling, reverse=True)
    assert found["low"] <= found["auroc"] <= found["high"]
    other = {"first": f"dataset/{b}", "second": f"dataset/{a}"}
    assert desk.get("/shifts", params=other).json()["apart"] is None
    parts = query | {"first_split": "train"}
    assert desk.get("/shifts", params=parts).json()["apart"] is None
    drawn = desk.get("/shifts", params=query | {"format": "svg"}).text
    assert "trivial features of the images alone tell the sets apart" in drawn


def test_a_set_and_its_own_other_half_are_not_told_apart(desk, look, hospital) -> None:
    made = hospital("phantom-a", 60)
    sides = [{"data": {"dataset": str(made)}, "split": s} for s in ("train", "test")]
    body = {"first": sides[0], "second": sides[1], "trivial": True}
    asked = desk.post("/overlaps", json=body).json()
    look()
    found = desk.get(f"/overlaps/{asked['id']}").json()["result"]["apart"]
    assert found["low"] is None or found["low"] < 0.5


TOLD = {"Edema": "Pneumonia", "Fracture": "No Finding"}
"""Which column of the films stands in the place of which label of the study."""
SHARED = Path(__file__).parents[3] / "shared" / "cxr"


@pytest.mark.skipif(not SHARED.exists(), reason="no real images beside this tree (../shared/cxr)")
def test_on_real_films_trivial_features_find_pneumonia(
    adapters, shelf, http, ada, browse, work, studied
) -> None:
    """Children of one hospital, whose films of pneumonia were made in another way."""
    settings = adapters.settings.model_copy(update={"import_roots": str(SHARED)})
    there = replace(adapters, settings=settings)
    part = compose(there)
    importing = browse(part.router, member=ada)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in ("kermany", "nih64"):
        fields = {"format": "chexpert_csv", "name": name, "path": f"{name}.csv", "site": name}
        made = UUID(importing.post("/datasets", json=fields | {"size_px": 64}).json()["id"])
        work("datasets", "cpu", handlers(there))
        table = part.provider.dataset_manifest(ada.caller, made)
        table = table.set_column(
            table.schema.get_field_index("split"), "split", pa.array(["test"] * len(table))
        )
        shelf.datasets[made] = (ada.caller, part.provider.dataset(ada.caller, made), table)
        rows = [
            row | {label: row[told] for label, told in TOLD.items()} for row in table.to_pylist()
        ]
        experiment = studied(made, rows)
        found[name] = baselines(http, experiment)
        page = http.get(f"/reports/{experiment}").text
        assert ("films: 66 of the 701 images are of one patient" in page) is (name == "nih64")
        box = "Trivial features do as well as the classifiers" in page
        assert box or name == "nih64"
    assert found["kermany"]["Edema"]["low"] > 0.85
    assert found["nih64"]["Fracture"]["auroc"] < 0.65
