"""Near copies of training images are found and withheld; what could not be looked at says so."""

import hashlib
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from api_schemas.findings import FINDINGS
from api_schemas.manifest import MANIFEST, from_parquet
from services.copies.calibration import altered
from services.generation.ports.engine import RenderTask

TRAINING, HELD_OUT = 120, 110


def noise(n: int) -> np.ndarray:
    """The picture of sample `n` of a dataset of the shelf."""
    return np.random.default_rng(n).integers(0, 256, (32, 32), np.uint8)


@pytest.fixture
def dataset(put_dataset) -> UUID:
    people = [{"sex": "Female", "age": 60, "race": "White"}] * TRAINING
    return put_dataset([*people, *[{"split": "test"}] * HELD_OUT])


@pytest.fixture
def train(http, run):
    def go(dataset: UUID) -> str:
        body = {"name": "g", "dataset": str(dataset), "preset": "tiny-32", "steps": 10}
        made = http.post("/generators", json=body).json()
        run()
        return made["id"]

    return go


@pytest.fixture
def copying(engine, monkeypatch):
    """The engine remembers: images 0, 1, 2 of a request are copies of training images 10, 11, 12,
    the first pixel for pixel, the others altered.
    """
    render = engine.render

    def remember(task: RenderTask) -> np.ndarray:
        made = render(task)
        made[0] = noise(10)
        made[1] = altered(noise(11), "flipped", 0)
        made[2] = altered(noise(12), "shifted 4 %", 0)
        return made

    monkeypatch.setattr(engine, "render", remember)


def order(http, run, generator: str, **more: Any) -> dict[str, Any]:
    conditions = [{"sex": "Female", "age": [60, 60], "race": "White", "count": 8}]
    if more.pop("complete", False):  # as `paper22` wants it
        conditions[0]["findings"] = dict.fromkeys(map(str, FINDINGS), 0)
    body = {"generator": generator, "conditions": conditions, "seed": 5, **more}
    answer = http.post("/generate", json=body)
    assert answer.status_code == 202, answer.text
    run()
    return look(http, answer.json()["id"])


def look(http, generation: str) -> dict[str, Any]:
    return http.get(f"/generations/{generation}").json()


def manifest(http, generation: str, **query: str) -> list[str]:
    answer = http.get(f"/generations/{generation}/manifest", params=query)
    return from_parquet(answer.content, MANIFEST)["sample_id"].to_pylist()


def flagged(http, generation: str) -> list[dict[str, Any]]:
    return http.get(f"/generations/{generation}/flagged").json()["items"]


def test_copies_are_flagged_and_withheld(http, run, train, dataset, copying) -> None:
    view = order(http, run, train(dataset))
    assert view["job"]["state"] == "succeeded"
    screening = view["screening"]
    assert (screening["state"], screening["flagged"]) == ("screened", 3)
    assert screening["flagged_rate"] == 3 / 8
    assert (view["images"], view["manifest"]["images"]) == (8, 5)
    assert view["flags"] == []
    found = flagged(http, view["id"])
    assert [(each["index"], each["nearest"]) for each in found] == [
        (0, "s10"),
        (1, "s11"),
        (2, "s12"),
    ]
    assert found[0]["likeness"] == 1
    limit = screening["calibration"]["threshold"]
    assert all(limit < each["likeness"] < 1 for each in found[1:])
    released, everything = manifest(http, view["id"]), manifest(http, view["id"], flagged="include")
    assert [name for name in everything if name not in released] == [f["sample_id"] for f in found]
    assert (len(released), len(everything)) == (5, 8)
    assert http.get(found[0]["url"]).status_code == 200  # whoever may see both may judge
    assert "p10" not in http.get(f"/generations/{view['id']}/flagged").text


def test_the_calibration_is_told_with_its_controls(http, run, train, dataset) -> None:
    generator = train(dataset)
    view = order(http, run, generator)
    told = view["screening"]["calibration"]
    assert (told["null_from"], told["null_images"], told["null_patients"]) == (
        "held_out",
        HELD_OUT,
        HELD_OUT,
    )
    assert (told["training_images"], told["training_gone"], told["injected"]) == (TRAINING, 0, 100)
    assert told["null_rate"] < 0.05
    assert min(told["found"].values()) >= 0.95
    assert view["screening"]["flagged"] == 0
    again = order(http, run, generator, seed=6)
    assert again["screening"]["calibration"] == told


def test_without_held_out_patients_the_training_patients_are_each_others_null(
    http, run, train, put_dataset, copying
) -> None:
    people = [
        {"patient_id": f"p{n // 2}", "sex": "Female", "age": 60, "race": "White"}
        for n in range(TRAINING)
    ]
    screening = order(http, run, train(put_dataset(people)))["screening"]
    told = screening["calibration"]
    assert (told["null_from"], told["null_images"], told["null_patients"]) == ("training", 120, 60)
    assert (screening["state"], screening["flagged"]) == ("screened", 3)


def test_a_patient_is_no_null_for_himself(http, run, train, put_dataset) -> None:
    """All images are one patient's: nobody else is there to be compared with."""
    rows = [{"patient_id": "one", "sex": "Female", "age": 60, "race": "White"}] * TRAINING
    screening = order(http, run, train(put_dataset(rows)))["screening"]
    assert screening["state"] == "uncalibrated"
    assert screening["calibration"]["threshold"] is None


def test_too_few_to_calibrate_is_said_and_the_same_pixels_are_flagged_all_the_same(
    http, run, train, put_dataset, copying
) -> None:
    people = [{"sex": "Female", "age": 60, "race": "White"}] * 20
    view = order(http, run, train(put_dataset(people)))
    screening = view["screening"]
    assert screening["state"] == "uncalibrated"
    assert view["flags"] == ["uncalibrated"]
    assert "99" in screening["reason"]
    told = screening["calibration"]
    assert (told["threshold"], told["null_rate"], told["found"]) == (None, None, {})
    assert [each["nearest"] for each in flagged(http, view["id"])] == ["s10"]


def test_what_was_not_screened_says_so_and_can_be_screened_later(
    http, run, train, dataset, copying
) -> None:
    view = order(http, run, train(dataset), screen=False)
    assert (view["screening"]["state"], view["flags"]) == ("unscreened", ["unscreened"])
    assert "screen: false" in view["screening"]["reason"]
    assert view["manifest"]["images"] == 8
    asked = http.post(f"/generations/{view['id']}/screening")
    assert asked.status_code == 202
    again = http.post(f"/generations/{view['id']}/screening")
    assert again.json()["screening"]["job"]["id"] == asked.json()["screening"]["job"]["id"]
    run()
    later = look(http, view["id"])
    assert later["screening"]["job"]["state"] == "succeeded"
    assert (later["screening"]["state"], later["flags"]) == ("screened", [])
    assert later["manifest"]["images"] == 5
    assert later["manifest"]["id"] != view["manifest"]["id"]
    http.post(f"/generations/{view['id']}/screening")
    run()
    assert look(http, view["id"])["manifest"] == later["manifest"]


def test_a_generator_that_saw_nobody_knows_whom_is_not_screened_until_it_is_named(
    http, run, dataset, copying
) -> None:
    made = http.post(
        "/generators/import", data={"name": "theirs"}, files={"file": ("a.ckpt", b"checkpoint")}
    ).json()
    run()
    view = order(http, run, made["id"], complete=True)
    assert view["flags"] == ["unscreened"]
    assert "named the dataset" in view["screening"]["reason"]
    refused = http.post(f"/generations/{view['id']}/screening")
    assert refused.status_code == 409
    assert refused.json()["type"].endswith("training-set-unknown")
    assert f"PUT /generators/{made['id']}/training-set" in refused.json()["accepted"]
    body = {"dataset": str(dataset), "split": "train"}
    http.put(f"/generators/{made['id']}/training-set", json=body)
    assert http.post(f"/generations/{view['id']}/screening").status_code == 202
    run()
    assert look(http, view["id"])["screening"]["flagged"] == 3


def test_withdrawn_training_images_are_counted(http, run, train, dataset, shelf) -> None:
    generator = train(dataset)
    shelf.tables[dataset] = shelf.tables[dataset].slice(3)
    told = order(http, run, generator)["screening"]["calibration"]
    assert (told["training_images"], told["training_gone"]) == (TRAINING - 3, 3)


def test_training_images_that_are_all_gone_leave_the_cohort_unscreened(
    http, run, train, dataset, shelf
) -> None:
    generator = train(dataset)
    shelf.tables[dataset] = shelf.tables[dataset].slice(TRAINING)
    view = order(http, run, generator)
    assert (view["job"]["state"], view["flags"]) == ("succeeded", ["unscreened"])
    assert "training images" in view["screening"]["reason"]


def test_an_unfinished_cohort_and_a_foreign_one_are_refused(
    http, run, strangers_http, train, dataset
) -> None:
    generator = train(dataset)
    body = {"generator": generator, "conditions": [{"sex": "Female", "count": 1}]}
    made = http.post("/generate", json=body).json()["id"]
    assert http.post(f"/generations/{made}/screening").status_code == 409
    run()
    assert strangers_http.post(f"/generations/{made}/screening").status_code == 404
    assert strangers_http.get(f"/generations/{made}/flagged").status_code == 404


def test_nothing_of_the_training_images_stays_on_the_disk(
    http, run, train, dataset, tmp_path
) -> None:
    order(http, run, train(dataset))
    assert not list(tmp_path.rglob("pictures.npy"))


def test_the_same_order_gives_the_same_verdict(http, run, train, dataset, copying) -> None:
    generator = train(dataset)

    def content(view: dict[str, Any]) -> str:
        rows = flagged(http, view["id"])
        told = [(each["index"], each["likeness"], each["nearest"]) for each in rows]
        return hashlib.sha256(repr(told).encode()).hexdigest()

    assert content(order(http, run, generator)) == content(order(http, run, generator))


def test_the_likest_of_what_is_released_are_told_in_order(
    http, run, train, dataset, copying, strangers_http
) -> None:
    view = order(http, run, train(dataset))
    answer = http.get(f"/generations/{view['id']}/likest")
    likest = answer.json()
    assert {each["sample_id"] for each in likest} == set(manifest(http, view["id"]))
    likeness = [each["likeness"] for each in likest]
    assert likeness == sorted(likeness, reverse=True)
    assert all(each["nearest"].startswith("s") for each in likest)
    two = http.get(f"/generations/{view['id']}/likest", params={"count": 2}).json()
    assert two == likest[:2]
    assert '"p' not in answer.text  # nobody is named
    assert strangers_http.get(f"/generations/{view['id']}/likest").status_code == 404


def test_of_an_unscreened_cohort_nothing_is_known(http, run, train, dataset) -> None:
    view = order(http, run, train(dataset), screen=False)
    assert http.get(f"/generations/{view['id']}/likest").json() == []
