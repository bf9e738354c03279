"""How many images a person may hold: refused by name, and nothing stored."""

import pytest

from api_schemas.base import JobState
from services.generation.service import rendering
from services.generation.service.problems import ConditionIncomplete
from services.generation.settings import GenerationSettings


@pytest.fixture
def own() -> GenerationSettings:
    return GenerationSettings(image_quota=50)


@pytest.fixture
def dataset(put_dataset) -> str:
    return str(put_dataset([{"sex": "Female", "age": 20 + n} for n in range(30)]))


@pytest.fixture
def generator(http, run, dataset) -> str:
    body = {"name": "g", "dataset": dataset, "preset": "tiny-32", "steps": 10}
    made = http.post("/generators", json=body).json()["id"]
    run()
    return made


def test_more_images_than_the_quota(http, generator) -> None:
    def order(count: int):
        body = {"generator": generator, "conditions": [{"count": count}]}
        return http.post("/generate", json=body)

    first = order(40).json()["id"]
    answer = order(11)
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (429, 429)
    assert "Retry-After" not in answer.headers  # time alone makes no room
    assert problem["type"] == "urn:synthorax:problem:image-quota"
    assert (problem["field"], problem["accepted"]) == ("conditions", "at most 10 images")
    assert [g["id"] for g in http.get("/generations").json()["items"]] == [first]
    assert order(10).status_code == 202
    assert order(1).status_code == 429
    assert http.delete(f"/generations/{first}").status_code == 202
    assert order(40).status_code == 202


def test_a_cancelled_cohort_gives_back_what_it_did_not_make(
    http, run, generator, monkeypatch
) -> None:
    monkeypatch.setattr(rendering, "SLICE_IMAGES", 8)

    def order(count: int):
        body = {"generator": generator, "conditions": [{"count": count}]}
        return http.post("/generate", json=body)

    unbegun = order(50).json()["id"]
    assert order(1).status_code == 429
    http.post(f"/generations/{unbegun}/cancel")
    begun = order(50).json()["id"]  # nothing of the other one was made
    run(most=3)  # the plan, and two slices of eight images
    http.post(f"/generations/{begun}/cancel")
    problem = order(35).json()
    assert (problem["status"], problem["accepted"]) == (429, "at most 34 images")
    assert order(34).status_code == 202


def test_a_failed_cohort_gives_back_what_it_did_not_make(http, run, generator, engine) -> None:
    def order(count: int):
        body = {"generator": generator, "conditions": [{"count": count}]}
        return http.post("/generate", json=body)

    def broken(task):
        raise ConditionIncomplete("because the stub was told so", field="conditions")

    engine.render = broken
    failed = order(50).json()["id"]
    run()
    assert http.get(f"/generations/{failed}").json()["job"]["state"] == "failed"
    assert order(50).status_code == 202


def test_a_mirror_of_more_images_than_the_quota(http, run, generator, dataset) -> None:
    """The size of a mirror is known as soon as its dataset is ready."""
    body = {"generator": generator, "mirror": {"dataset": dataset}}
    fits = http.post("/generate", json=body).json()
    assert (fits["images"], fits["job"]["total"]) == (30, 30)
    answer = http.post("/generate", json=body)
    assert answer.json()["type"] == "urn:synthorax:problem:image-quota"
    assert (answer.json()["field"], answer.json()["accepted"]) == ("mirror", "at most 20 images")
    assert [g["id"] for g in http.get("/generations").json()["items"]] == [fits["id"]]
    run()
    assert http.get(f"/generations/{fits['id']}").json()["job"]["state"] == "succeeded"


def test_a_mirror_of_a_dataset_in_the_making_is_counted_when_it_is_planned(
    http, run, generator, put_dataset, arrive
) -> None:
    rows = [{"sex": "Female", "age": 20 + n} for n in range(30)]
    later = put_dataset(rows, JobState.RUNNING)

    def order() -> str:
        body = {"generator": generator, "mirror": {"dataset": str(later)}}
        return http.post("/generate", json=body).json()["id"]

    def job(made: str) -> dict:
        return http.get(f"/generations/{made}").json()["job"]

    fits, too_many = order(), order()
    arrive(later)
    run()
    assert job(fits)["state"] == "succeeded"
    problem = job(too_many)["problem"]
    assert problem["type"] == "urn:synthorax:problem:image-quota"
    assert (problem["status"], problem["field"]) == (429, "mirror")
    assert http.get(f"/generations/{too_many}/images").json()["items"] == []
