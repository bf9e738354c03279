"""Generators and generations over HTTP and through the job system, with a stub engine."""

import json
from io import BytesIO
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from api_schemas.base import JobState
from api_schemas.manifest import MANIFEST, from_parquet
from services.generation.service import rendering

POPULATION = [
    {"sex": "Female", "age": 60 + n % 10, "race": "White", "Pleural Effusion": n % 2, "Edema": 0}
    for n in range(20)
] + [{"sex": "Male", "age": 30, "race": "Asian", "No Finding": 1, "Edema": -1} for _ in range(10)]


@pytest.fixture
def dataset(put_dataset):
    return put_dataset([*POPULATION, {"split": "test", "patient_id": "held out"}])


@pytest.fixture
def generator(http, run, dataset) -> str:
    body = {"name": "g", "dataset": str(dataset), "preset": "tiny-32", "steps": 25, "seed": 1}
    made = http.post("/generators", json=body).json()
    run()
    return made["id"]


def generate(http, generator: str, **body: object) -> dict:
    answer = http.post("/generate", json={"generator": generator, **body})
    assert answer.status_code == 202, answer.text
    return answer.json()


def images(http, generation: str) -> list[dict]:
    return http.get(f"/generations/{generation}/images", params={"limit": 1000}).json()["items"]


# ---------------------------------------------------------------- generators


def test_training_goes_in_stretches_and_records_what_it_saw(http, generator, engine, shelf) -> None:
    view = http.get(f"/generators/{generator}").json()
    assert view["job"]["state"] == "succeeded"
    assert engine.resumed_at == [0, 10, 20]
    assert {len(images) for images in engine.trained_on} == {30}  # the held-out patient is not
    training = view["training"]
    assert (training["images"], training["patients"]) == (30, 30)
    assert training["terms"] == "for tests only"
    assert training["losses"] == [[10, 0.5], [20, 0.5], [25, 0.5]]
    assert "held out" not in http.get(f"/generators/{generator}/seen").json()["patients"]


def test_a_damaged_checkpoint_is_passed_over(adapters, http, run, dataset, engine) -> None:
    body = {"name": "g", "dataset": str(dataset), "preset": "tiny-32", "steps": 40}
    made = http.post("/generators", json=body).json()
    run(most=3)  # plan, 10, 20
    with adapters.db.transaction() as tx:
        files = tx.session.scalar(
            text("SELECT files FROM generation.checkpoints ORDER BY step DESC LIMIT 1")
        )
    adapters.store.put(files["state.json"][0], b"30")
    run()
    assert engine.resumed_at == [0, 10, 10, 20, 30]
    assert http.get(f"/generators/{made['id']}").json()["job"]["state"] == "succeeded"


def test_checkpoints_do_not_pile_up(adapters, http, run, dataset) -> None:
    body = {"name": "g", "dataset": str(dataset), "preset": "tiny-32", "steps": 60}
    made = http.post("/generators", json=body).json()
    run(most=5)
    project = http.get("/generators").json()["items"][0]["id"]
    assert project == made["id"]
    keys = list(adapters.store.keys("projects/"))
    assert len({k for k in keys if f"{made['id']}/checkpoints" in k}) == 2
    run()
    keys = list(adapters.store.keys("projects/"))
    assert not [k for k in keys if f"{made['id']}/checkpoints" in k]


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"preset": "huge"}, 422, "preset"),
        ({"preset": "small-64"}, 422, "preset"),
        ({"steps": 0}, 422, "steps"),
        ({"dataset": str(uuid4())}, 404, "dataset"),
        ({"colour": "grey"}, 422, "colour"),
    ],
)
def test_bad_generators_are_refused(http, dataset, change, status, field) -> None:
    body = {"name": "g", "dataset": str(dataset), "preset": "tiny-32"} | change
    answer = http.post("/generators", json=body)
    assert answer.status_code == status
    assert answer.json()["field"] == field
    assert http.get("/generators").json()["items"] == []


def test_a_size_that_no_preset_has_is_told_with_its_cure(http, put_dataset) -> None:
    body = {"name": "g", "preset": "tiny-32", "dataset": str(put_dataset(POPULATION, size_px=48))}
    problem = http.post("/generators", json=body).json()
    assert (problem["status"], problem["field"], problem["accepted"]) == (422, "preset", [])
    assert "import it again with a size_px that a preset has (32, 64, 256)" in problem["detail"]
    body["dataset"] = str(put_dataset(POPULATION, size_px=64))
    problem = http.post("/generators", json=body).json()
    assert problem["accepted"] == ["small-64"]


@pytest.mark.parametrize(("size_px", "preset"), [(32, "tiny-32"), (64, "small-64")])
def test_the_preset_is_the_one_of_the_datasets_size(
    http, run, put_dataset, engine, size_px, preset
) -> None:
    """Of a dataset in the making too: its size is known from the request."""
    for state in (JobState.SUCCEEDED, JobState.RUNNING):
        dataset = str(put_dataset(POPULATION, state, size_px=size_px))
        body = {"name": "g", "dataset": dataset, "steps": 10}
        made = http.post("/generators", json=body).json()
        assert (made["preset"], made["size_px"]) == (preset, size_px)
    run()
    assert {task.preset for task in engine.tasks} == {preset}
    assert engine.trained_on[0].shape[1:] == (size_px, size_px)


def test_a_size_without_a_preset_is_refused_where_none_is_named(http, put_dataset) -> None:
    body = {"name": "g", "dataset": str(put_dataset(POPULATION, size_px=48))}
    problem = http.post("/generators", json=body).json()
    assert (problem["status"], problem["field"], problem["accepted"]) == (422, "preset", [])
    assert problem["detail"] == (
        "No preset makes images of its size, the dataset has 48 px; import it again with a size_px "
        "that a preset has (32, 64, 256)"
    )


def test_a_table_without_images_is_nothing_to_train_on(http, put_dataset, shelf) -> None:
    dataset = put_dataset(POPULATION)
    shelf.views[dataset] = shelf.views[dataset].model_copy(update={"has_images": False})
    body = {"name": "g", "preset": "tiny-32", "dataset": str(dataset)}
    answer = http.post("/generators", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "dataset")
    assert answer.json()["type"].endswith("nothing-to-train-on")


def test_a_failed_import_is_refused_and_a_running_one_waited_for(http, put_dataset) -> None:
    body = {"name": "g", "preset": "tiny-32"}
    failed = put_dataset(POPULATION, JobState.FAILED)
    answer = http.post("/generators", json=body | {"dataset": str(failed)})
    assert (answer.status_code, answer.json()["field"]) == (409, "dataset")
    running = put_dataset(POPULATION, JobState.RUNNING)
    answer = http.post("/generators", json=body | {"dataset": str(running)})
    assert answer.json()["job"]["state"] == "blocked"


# ---------------------------------------------------------------- conditions


def test_open_attributes_come_from_matching_patients(http, run, generator) -> None:
    made = generate(
        http,
        generator,
        conditions=[
            {"sex": "Female", "age": [60, 64], "findings": {"Pleural Effusion": 1}, "count": 40}
        ],
        seed=7,
    )
    run()
    drawn = [i["recipe"]["condition"] for i in images(http, made["id"])]
    assert len(drawn) == 40
    assert {c["sex"] for c in drawn} == {"Female"}
    assert {c["race"] for c in drawn} == {"White"}
    assert all(60 <= c["age"] <= 64 for c in drawn)
    assert len({c["age"] for c in drawn}) > 1
    assert all(c["findings"]["Pleural Effusion"] == 1 for c in drawn)
    assert all(c["findings"]["Edema"] == 0 for c in drawn)


def test_nobody_matches(http, run, generator) -> None:
    body = {
        "generator": generator,
        "conditions": [{"count": 1}, {"sex": "Male", "race": "White", "age": 30, "count": 5}],
    }
    answer = http.post("/generate", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["field"] == "conditions.1"
    assert (problem["matching"], problem["nearest"], problem["nearest_differs_in"]) == (0, 10, 1)
    made = generate(http, **(body | {"nearest": True}))
    run()
    last = images(http, made["id"])[-1]["recipe"]["condition"]
    assert (last["sex"], last["race"], last["age"]) == ("Male", "White", 30)


def test_what_is_fixed_never_contradicts_what_is_lent(http, run, generator) -> None:
    conditions = [{"race": "Asian", "findings": {"Pneumonia": 1}, "count": 3}]
    made = generate(http, generator, conditions=conditions, nearest=True)
    run()
    for image in images(http, made["id"]):
        findings = image["recipe"]["condition"]["findings"]
        assert findings["Pneumonia"] == 1
        assert findings.get("No Finding", 0) == 0


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        ({"findings": {"Hiccups": 1}, "count": 1}, "conditions.0.findings.Hiccups"),
        ({"sex": "Robot", "count": 1}, "conditions.0.sex"),
        ({"race": "Martian", "count": 1}, "conditions.0.race"),
        ({"age": 121, "count": 1}, "conditions.0.age"),
        ({"age": -1, "count": 1}, "conditions.0.age"),
        ({"age": [70, 60], "count": 1}, "conditions.0.age"),
        ({"count": 0}, "conditions.0.count"),
        ({"count": 10_001}, "conditions.0.count"),
        ({"findings": {"No Finding": 1, "Edema": 1}, "count": 1}, "conditions.0.findings"),
    ],
)
def test_bad_conditions_are_refused(http, generator, condition, field) -> None:
    answer = http.post("/generate", json={"generator": generator, "conditions": [condition]})
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert http.get("/generations").json()["items"] == []


def test_no_finding_may_stand_beside_support_devices(http, generator) -> None:
    findings = {"No Finding": 1, "Support Devices": 1}
    conditions = [{"findings": findings, "count": 1}]
    generate(http, generator, conditions=conditions, nearest=True)


# ---------------------------------------------------------------- cohorts


def test_a_mirror_copies_every_training_row(http, run, generator, dataset) -> None:
    made = generate(http, generator, mirror={"dataset": str(dataset)}, replicas=3, seed=5)
    run()
    view = http.get(f"/generations/{made['id']}").json()
    assert view["job"]["state"] == "succeeded"
    assert view["screening"]["state"] == "uncalibrated"
    assert view["phantom"] is True
    assert view["terms"] == "for tests only"
    content = http.get(f"/generations/{made['id']}/manifest").content
    table = from_parquet(content, MANIFEST).to_pylist()
    assert len(table) == 90
    assert [r["replica"] for r in table] == [0] * 30 + [1] * 30 + [2] * 30
    assert [r["parent_sample_id"] for r in table[:30]] == [f"s{n}" for n in range(30)]
    assert len({r["seed"] for r in table}) == 90
    first = table[0]
    assert (first["sex"], first["Pleural Effusion"], first["Edema"]) == ("Female", 0, 0)
    assert table[25]["Edema"] is None  # uncertain there, unknown here
    assert {r["split"] for r in table} == {"train"}


def test_an_order_is_kept_as_it_was_given(http, run, generator, dataset) -> None:
    entries = [{"sex": "Female", "age": [60, 64], "findings": {"Edema": 0}, "count": 2}]
    made = generate(http, generator, conditions=entries)
    assert {k: v for k, v in made["conditions"][0].items() if k in entries[0]} == entries[0]
    assert (made["nearest"], made["mirror"], made["nearest_images"]) == (False, None, None)
    mirror = {"dataset": str(dataset)}
    other = generate(http, generator, mirror=mirror, nearest=True)
    assert (other["mirror"], other["conditions"], other["nearest"]) == (mirror, None, True)
    run()
    for each in (made, other):
        view = http.get(f"/generations/{each['id']}").json()
        assert view["nearest_images"] == 0
        assert {i["nearest"] is None for i in images(http, each["id"])} == {True}


def test_an_image_that_came_by_nearest_says_so(http, run, put_dataset) -> None:
    """Pneumothorax is known of patients up to 70 alone, the old ones have something else."""
    young = [{"age": 60 + n, "sex": "Male", "Pneumothorax": 1} for n in range(10)]
    old = [{"age": 85 + n, "sex": "Male", "Edema": 1, "Pneumothorax": 0} for n in range(12)]
    body = {"name": "g", "dataset": str(put_dataset([*young, *old])), "preset": "tiny-32"}
    generator = http.post("/generators", json=body | {"steps": 10}).json()["id"]
    run()
    asked = {"age": [85, 120], "findings": {"Pneumothorax": 1}, "count": 30}
    made = generate(
        http, generator, conditions=[{"sex": "Male", "count": 5}, asked], nearest=True, seed=3
    )
    run()
    assert http.get(f"/generations/{made['id']}").json()["nearest_images"] == 30
    records = images(http, made["id"])
    assert [r["nearest"] for r in records[:5]] == [None] * 5
    kinds = set()
    for record in records[5:]:
        near, condition = record["nearest"], record["recipe"]["condition"]
        assert near["entry"] == 1
        kinds.add(tuple(near["attributes"]))
        assert condition["findings"]["Pneumothorax"] == 1
        lender = near["training_image"]
        if near["attributes"] == ["age"]:
            assert lender["age"] < 70
            assert near["note"] == (
                "asked: Pneumothorax present, age 85 to 120; no training image has all of it, the "
                f"nearest one has age {lender['age']}"
            )
        else:
            assert near["attributes"] == ["findings.Pneumothorax"]
            assert 85 <= lender["age"] == condition["age"] <= 96
            assert near["note"].endswith("the nearest one has Pneumothorax absent")
    assert kinds == {("age",), ("findings.Pneumothorax",)}
    content = http.get(records[-1]["url"]).content
    about = json.loads(Image.open(BytesIO(content)).text["synthorax"])
    assert about["nearest"] == records[-1]["nearest"]


STRANGE = [
    {"sex": "Female", "race": "White", "age": 60},
    {"sex": "Female", "race": "African American", "age": 60},
    {"sex": "Female", "race": "White", "age": 90},
    {"sex": "Female", "race": "White", "age": 60, "Pneumothorax": 1},
]


def test_a_mirror_of_what_its_generator_never_saw_is_refused(http, generator, put_dataset) -> None:
    mirror = {"dataset": str(put_dataset(STRANGE))}
    answer = http.post("/generate", json={"generator": generator, "mirror": mirror})
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (422, "mirror")
    assert problem["type"].endswith("nobody-matches")
    assert problem["matching"] == 1
    counts = ("race African American: 1", "age outside", "Pneumothorax present: 1")
    for words in ("3 of 4 rows", *counts):
        assert words in problem["detail"]
    assert http.get("/generations").json()["items"] == []


def test_a_mirror_is_checked_again_when_its_dataset_has_arrived(
    http, run, generator, put_dataset, arrive
) -> None:
    later = put_dataset(STRANGE, JobState.RUNNING)
    mirror = {"dataset": str(later)}
    refused = generate(http, generator, mirror=mirror)
    kept = generate(http, generator, mirror=mirror, nearest=True, replicas=2)
    arrive(later)
    run()
    job = http.get(f"/generations/{refused['id']}").json()["job"]
    assert (job["state"], job["problem"]["field"]) == ("failed", "mirror")
    view = http.get(f"/generations/{kept['id']}").json()
    assert (view["job"]["state"], view["nearest_images"]) == ("succeeded", 6)
    nearest = [each["nearest"] for each in images(http, kept["id"])[:4]]
    assert nearest[0] is None
    assert [n["attributes"] for n in nearest[1:]] == [["race"], ["age"], ["findings.Pneumothorax"]]
    seen = "the generator never saw in its training set"
    assert nearest[1]["note"] == f"{seen}: race African American"


def test_a_mirror_of_more_images_than_one_generation_holds(
    http, generator, dataset, monkeypatch
) -> None:
    monkeypatch.setattr(rendering, "GENERATION_LIMIT", 100)
    body = {"generator": generator, "mirror": {"dataset": str(dataset)}, "replicas": 4}
    answer = http.post("/generate", json=body)
    problem = answer.json()
    assert answer.status_code == 422
    assert problem["type"] == "urn:synthorax:problem:too-many-images"
    assert (problem["field"], problem["accepted"]) == ("replicas", 3)
    assert http.get("/generations").json()["items"] == []


def test_the_paper_s_settings_by_one_word(http, generator) -> None:
    made = generate(
        http, generator, conditions=[{"count": 1}], sampler={"compatibility": "mediffusion"}
    )
    assert made["sampler"] == {
        "name": "ddim",
        "spacing": "leading",
        "steps": 200,
        "guidance": 0.0,
        "interval": [0.0, 1.0],
        "rescale": 0.7,
        "precision": "float32",
        "compatibility": "mediffusion",
    }


def test_an_encoder_without_a_word_for_unknown_is_not_trained_on_the_unknown(
    http, put_dataset
) -> None:
    rows = [{"age": 60, "sex": "Female", "race": "White"}, {"age": 60, "sex": "Male"}]
    body = {"name": "g", "preset": "paper-256", "dataset": str(put_dataset(rows, size_px=256))}
    answer = http.post("/generators", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "urn:synthorax:problem:condition-incomplete"
    assert "1 of 2 rows have no race" in problem["detail"]
    body["dataset"] = str(put_dataset(rows[:1], size_px=256))
    made = http.post("/generators", json=body).json()
    assert (made["size_px"], made["encoder"], made["steps"]) == (256, "paper22", 277_778)


def test_the_same_order_twice_gives_the_same_pixels(http, run, generator) -> None:
    body = {"conditions": [{"sex": "Male", "count": 12}], "seed": 3}
    first, second = generate(http, generator, **body), generate(http, generator, **body)
    other = generate(http, generator, **body | {"seed": 4})
    run()
    digests = [[i["pixel_sha256"] for i in images(http, g["id"])] for g in (first, second, other)]
    assert digests[0] == digests[1]
    assert not set(digests[0]) & set(digests[2])


def test_sending_the_records_back_regenerates_the_images(http, run, generator) -> None:
    made = generate(http, generator, conditions=[{"count": 5}], seed=9)
    run()
    records = images(http, made["id"])
    recipes = [r["recipe"] for r in records[2:]]
    again = generate(http, generator, recipes=recipes, batch=records[0]["batch"])
    run()
    assert [i["pixel_sha256"] for i in images(http, again["id"])] == [
        r["pixel_sha256"] for r in records[2:]
    ]


def test_every_png_says_where_it_comes_from(http, run, generator) -> None:
    made = generate(http, generator, conditions=[{"count": 2}], seed=9)
    run()
    record = images(http, made["id"])[1]
    content = http.get(record["url"]).content
    image = Image.open(BytesIO(content))
    assert image.mode == "L"
    about = json.loads(image.text["synthorax"])
    assert about["synthetic"] is True
    assert about["phantom"] is True
    assert about["recipe"] == record["recipe"]
    assert about["generator_digest"] == record["generator_digest"]
    assert about["pixel_sha256"] == record["pixel_sha256"]
    assert about["terms"] == "for tests only"
    assert http.get(about["manifest"]).status_code == 200
    assert "screen" not in json.dumps(about)  # nobody has looked when it is written
    assert np.asarray(image).shape == (32, 32)


def test_a_tampered_image_is_never_served(adapters, http, run, generator) -> None:
    made = generate(http, generator, conditions=[{"count": 1}])
    run()
    with adapters.db.transaction() as tx:
        key = tx.session.scalar(text("SELECT image_key FROM generation.images"))
    adapters.store.put(key, b"something else")
    answer = http.get(f"/generations/{made['id']}/images/0.png")
    assert answer.status_code == 500


def test_blocked_until_the_generator_is_trained(http, run, dataset) -> None:
    body = {"name": "g", "dataset": str(dataset), "preset": "tiny-32", "steps": 10}
    generator = http.post("/generators", json=body).json()["id"]
    made = generate(http, generator, conditions=[{"count": 2}])
    assert made["job"]["state"] == "blocked"
    run()
    assert http.get(f"/generations/{made['id']}").json()["job"]["state"] == "succeeded"


def test_what_a_generator_in_training_cannot_do_is_refused_at_once(http, dataset) -> None:
    """Its population will be the training rows of its dataset."""
    body = {"name": "g", "dataset": str(dataset), "preset": "tiny-32", "steps": 10}
    generator = http.post("/generators", json=body).json()["id"]
    conditions = [{"count": 1}, {"age": 99, "sex": "Male", "count": 1}]
    answer = http.post("/generate", json={"generator": generator, "conditions": conditions})
    assert (answer.status_code, answer.json()["field"]) == (422, "conditions.1")
    assert answer.json()["type"].endswith("nobody-matches")
    generate(http, generator, conditions=conditions, nearest=True)


def test_what_only_the_dataset_shows_fails_the_job(http, run, put_dataset, arrive) -> None:
    """Neither the generator's dataset nor the mirrored one is imported yet."""
    dataset = put_dataset(POPULATION, JobState.RUNNING)
    body = {"name": "g", "dataset": str(dataset), "preset": "tiny-32", "steps": 10}
    generator = http.post("/generators", json=body).json()["id"]
    bad = generate(http, generator, conditions=[{"age": 99, "sex": "Male", "count": 1}])
    empty = put_dataset([{"split": "test"}], JobState.RUNNING)
    mirror = generate(http, generator, mirror={"dataset": str(empty)})
    assert mirror["images"] == 0
    arrive(dataset, empty)
    run()
    problems = [
        http.get(f"/generations/{each['id']}").json()["job"]["problem"] for each in (bad, mirror)
    ]
    assert [problem["field"] for problem in problems] == ["conditions.0", "mirror"]


def test_a_mirror_of_nothing_is_refused_at_once(http, generator, put_dataset) -> None:
    empty = put_dataset([{"split": "test"}])
    answer = http.post(
        "/generate", json={"generator": generator, "mirror": {"dataset": str(empty)}}
    )
    assert (answer.status_code, answer.json()["field"]) == (422, "mirror")
    assert answer.json()["type"].endswith("nothing-to-mirror")


def test_a_dataset_without_training_rows_is_refused_at_once(http, put_dataset) -> None:
    body = {"name": "g", "preset": "tiny-32", "dataset": str(put_dataset([{"split": "test"}]))}
    answer = http.post("/generators", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "dataset")
    assert answer.json()["type"].endswith("nothing-to-train-on")


def test_cancel(http, run, generator) -> None:
    made = generate(http, generator, conditions=[{"count": 2}])
    path = f"/generations/{made['id']}/cancel"
    assert http.post(path).json()["job"]["state"] == "cancelled"
    assert http.post(path).status_code == 200
    done = generate(http, generator, conditions=[{"count": 1}])
    run()
    assert http.post(f"/generations/{done['id']}/cancel").status_code == 409


INTERVAL, PRECISION = "sampler.interval", "sampler.precision"
DDIM_TRAILING = {"name": "ddim", "spacing": "trailing"}
PUBLISHED_DPM = {"compatibility": "mediffusion", "name": "dpmsolver++"}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "body"),
        ({"conditions": [{"count": 1}], "mirror": {"dataset": str(uuid4())}}, 422, "body"),
        ({"mirror": {"dataset": str(uuid4())}}, 404, "mirror"),
        ({"conditions": [{"count": 1}], "replicas": 2}, 422, "replicas"),
        ({"conditions": [{"count": 1}], "batch": 7}, 422, "batch"),
        ({"conditions": [{"count": 1}], "sampler": {"name": "magic"}}, 422, "sampler.name"),
        ({"conditions": [{"count": 1}], "generator": str(uuid4())}, 404, "generator"),
        ({"conditions": [{"count": 1}], "sampler": {"steps": 0}}, 422, "sampler.steps"),
        ({"conditions": [{"count": 1}], "sampler": {"steps": 1001}}, 422, "sampler.steps"),
        ({"conditions": [{"count": 1}], "sampler": {"interval": [0.2, 1.1]}}, 422, INTERVAL),
        ({"conditions": [{"count": 1}], "sampler": {"interval": [-0.1, 1]}}, 422, INTERVAL),
        ({"conditions": [{"count": 1}], "sampler": {"interval": [0.5, 0.5]}}, 422, INTERVAL),
        ({"conditions": [{"count": 1}], "sampler": {"guidance": 0}}, 422, "sampler.guidance"),
        ({"conditions": [{"count": 1}], "sampler": {"guidance": 21}}, 422, "sampler.guidance"),
        ({"conditions": [{"count": 1}], "sampler": {"rescale": 1.1}}, 422, "sampler.rescale"),
        ({"conditions": [{"count": 1}], "sampler": {"precision": "int8"}}, 422, PRECISION),
        ({"conditions": [{"count": 1}], "sampler": PUBLISHED_DPM}, 422, "sampler.name"),
        ({"conditions": [{"count": 1}], "sampler": {"spacing": "leading"}}, 422, "sampler.spacing"),
        ({"conditions": [{"count": 1}], "sampler": {"spacing": "odd"}}, 422, "sampler.spacing"),
        ({"conditions": [{"count": 1}], "sampler": DDIM_TRAILING}, 422, "sampler.spacing"),
        ({"conditions": [{"count": 10_000}] * 101}, 422, "conditions"),
    ],
)
def test_bad_orders_are_refused(http, generator, body, status, field) -> None:
    answer = http.post("/generate", json={"generator": generator} | body)
    assert answer.status_code == status
    assert answer.json()["field"] == field


def test_strangers_find_nothing(http, strangers_http, run, generator, dataset) -> None:
    made = generate(http, generator, conditions=[{"count": 1}])
    run()
    for path in (
        f"/generators/{generator}",
        f"/generators/{generator}/seen",
        f"/generations/{made['id']}",
        f"/generations/{made['id']}/images",
        f"/generations/{made['id']}/images/0.png",
        f"/generations/{made['id']}/manifest",
    ):
        answer = strangers_http.get(path)
        assert answer.status_code == 404, path
    order = {"generator": generator, "conditions": [{"count": 1}]}
    assert strangers_http.post("/generate", json=order).status_code == 404
    assert strangers_http.get("/generators").json()["items"] == []
    assert strangers_http.get("/generations").json()["items"] == []


def test_one_idempotency_key_makes_one_generation(http, generator) -> None:
    body = {"generator": generator, "conditions": [{"count": 1}]}
    key = {"Idempotency-Key": "k"}
    first = http.post("/generate", json=body, headers=key)
    second = http.post("/generate", json=body, headers=key)
    assert first.json()["id"] == second.json()["id"]
    assert first.headers["Location"] == f"/generations/{first.json()['id']}"
    other = http.post("/generate", json=body | {"seed": 8}, headers=key)
    assert other.status_code == 422
