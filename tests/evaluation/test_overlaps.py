"""What two sets share: patients, pictures, near-identical pictures."""

import io
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from api_schemas.manifest import MANIFEST
from services.datasets.main import compose as compose_datasets
from services.evaluation.service import overlaps
from services.kit.objects import sha256


def ask(desk, first: UUID, second: UUID, **more: Any) -> dict[str, Any]:
    body = {
        "first": {"data": {"dataset": str(first)}},
        "second": {"data": {"dataset": str(second)}},
    }
    answer = desk.post("/overlaps", json=body | more)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/overlaps/{answer.json()['id']}"
    return answer.json()


def done(desk, look, asked: dict[str, Any]) -> dict[str, Any]:
    look()
    view = desk.get(f"/overlaps/{asked['id']}").json()
    assert view["job"]["state"] == "succeeded", view
    return view["result"]


@pytest.fixture
def changed(adapters, ada, shelf, hospital) -> tuple[UUID, UUID]:
    """A dataset, and a cohort of its first six pictures: one as it is, one mirrored, one darker,
    and three of another dataset.
    """
    base = hospital(seed=1)
    other = hospital(seed=2)
    provider = compose_datasets(adapters).provider
    rows = provider.dataset_manifest(ada.caller, base).to_pylist()[:3]
    rows += provider.dataset_manifest(ada.caller, other).to_pylist()[:3]
    changes = [lambda px: px, lambda px: px[:, ::-1], lambda px: (px * 0.8).astype(np.uint8)]
    made = []
    for n, row in enumerate(rows):
        with Image.open(io.BytesIO(adapters.store.get(row["image_key"]))) as image:
            pixels = np.asarray(image)
        pixels = changes[n](pixels) if n < len(changes) else pixels
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "PNG")
        key = f"projects/{ada.caller.project}/test/{n}.png"
        adapters.store.put(key, sink.getvalue())
        told = {"sample_id": f"copy-{n}", "patient_id": f"copy/{n}", "image_key": key}
        digests = {"image_sha256": sha256(sink.getvalue())}
        digests["pixel_sha256"] = sha256(pixels.tobytes())
        made.append(row | told | digests)
    cohort = shelf.add_cohort(ada.caller, [None])
    caller, view, _ = shelf.cohorts[cohort]
    shelf.cohorts[cohort] = (caller, view, pa.Table.from_pylist(made, schema=MANIFEST))
    return base, cohort


def test_the_same_import_twice_shares_everybody(desk, look, hospital) -> None:
    one, again, other = hospital(seed=1), hospital(seed=1), hospital(seed=2)
    same = done(desk, look, ask(desk, one, again))
    assert same["shared_patients"] == same["patients"][0] == same["patients"][1]
    assert same["shared_pictures"] == same["images"][0]
    assert {p["kind"] for p in same["pairs"]} == {"pixels"}
    assert all(p["same_patient"] and p["first"] == p["second"] for p in same["pairs"])
    different = done(desk, look, ask(desk, one, other))
    assert (different["shared_patients"], different["shared_pictures"]) == (0, 0)
    assert different["near"] is None


def test_splits_of_a_dataset_share_nobody(desk, look, hospital) -> None:
    made = {"data": {"dataset": str(hospital())}}
    body = {"first": made | {"split": "train"}, "second": made | {"split": "test"}}
    asked = desk.post("/overlaps", json=body).json()
    result = done(desk, look, asked)
    assert (result["shared_patients"], result["shared_pictures"]) == (0, 0)
    assert min(result["images"]) > 0


def test_changed_copies_are_found_beside_exact_ones(desk, look, changed, adapters, ada) -> None:
    base, cohort = changed
    first = {"data": {"generation": str(cohort)}}
    body = {"first": first, "second": {"data": {"dataset": str(base)}}, "near": True}
    result = done(desk, look, desk.post("/overlaps", json=body).json())
    assert (result["shared_patients"], result["shared_pictures"]) == (0, 1)
    table = compose_datasets(adapters).provider.dataset_manifest(ada.caller, base)
    originals = table["sample_id"].to_pylist()[:3]
    pairs = {(p["first"], p["second"]): p for p in result["pairs"]}
    kinds = [pairs[f"copy-{n}", original]["kind"] for n, original in enumerate(originals)]
    assert kinds == ["pixels", "near", "near"]
    assert not any(p["same_patient"] for p in result["pairs"])
    near = result["near"]
    assert near["found"] == sum(p["kind"] == "near" for p in result["pairs"])
    assert near["chance_of"] == 6


def test_a_damaged_image_fails_the_search_and_is_named(desk, look, changed, adapters, ada) -> None:
    base, cohort = changed
    first = {"data": {"generation": str(cohort)}}
    body = {"first": first, "second": {"data": {"dataset": str(base)}}, "near": True}
    asked = desk.post("/overlaps", json=body).json()
    adapters.store.put(f"projects/{ada.caller.project}/test/2.png", b"something else")
    look()
    problem = desk.get(f"/overlaps/{asked['id']}").json()["job"]["problem"]
    assert problem["type"].endswith("image-damaged")
    assert "copy-2" in problem["detail"]


def test_what_cannot_be_looked_for_is_refused(desk, hospital, monkeypatch) -> None:
    made = hospital()
    same = {"first": {"data": {"dataset": str(made)}}, "second": {"data": {"dataset": str(made)}}}
    assert desk.post("/overlaps", json=same).status_code == 422
    gone = {**same, "second": {"data": {"dataset": str(uuid4())}}}
    answer = desk.post("/overlaps", json=gone)
    assert (answer.status_code, answer.json()["field"]) == (404, "second")
    monkeypatch.setattr(overlaps, "NEAR_LIMIT", 5)
    parts = {"first": same["first"] | {"split": "train"}, "second": same["first"], "near": True}
    answer = desk.post("/overlaps", json=parts)
    assert (answer.status_code, answer.json()["field"]) == (422, "first")
    assert answer.json()["accepted"] == 5


def test_overlaps_belong_to_their_project(desk, hospital, part, browse, stranger) -> None:
    asked = ask(desk, hospital(seed=1), hospital(seed=2))
    elsewhere = browse(part.router, member=stranger)
    assert elsewhere.get(f"/overlaps/{asked['id']}").status_code == 404
    assert elsewhere.get("/overlaps").json()["items"] == []
    assert [o["id"] for o in desk.get("/overlaps").json()["items"]] == [asked["id"]]


def test_a_set_in_the_making_is_waited_for(desk, look, changed, rendering) -> None:
    base, cohort = changed
    body = {
        "first": {"data": {"dataset": str(base)}},
        "second": {"data": {"generation": str(cohort)}},
    }
    rendering.begin(cohort)
    asked = desk.post("/overlaps", json=body).json()
    assert asked["job"]["state"] == "blocked"
    rendering.end(cohort)
    assert done(desk, look, asked)["shared_pictures"] == 1
