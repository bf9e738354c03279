"""Generators and cohorts are deleted, with the copies that lie on the worker's disk."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from api_schemas.base import JobState
from services.generation.models import Checkpoint, Generation, Generator, Image, Loss
from services.generation.service import KEPT, RENDER, TRAIN, Rendering, Scratch, Training, naming
from services.generation.service.keys import generation_folder, image_key, index_of
from services.kit.deletion import Delete, tidying
from services.kit.jobs.lineage import DELETE

ROWS = [{"sex": "Female", "age": 60 + n, "Edema": n % 2} for n in range(12)]


@pytest.fixture
def dataset(put_dataset) -> UUID:
    return put_dataset(ROWS)


@pytest.fixture
def scratch(adapters, tmp_path: Path) -> Scratch:
    return Scratch(adapters.db, adapters.jobs, tmp_path)


@pytest.fixture
def run(adapters, work, shelf, engine, scratch) -> Callable[..., int]:
    """Run what generation's worker would run."""
    parts = (adapters.db, adapters.store, shelf, engine, scratch.folder)
    handlers = {
        TRAIN: tidying(scratch.tidy, Training(*parts, stretch_s=1)),
        RENDER: tidying(scratch.tidy, Rendering(*parts)),
        DELETE: Delete(adapters.erasure, KEPT, scratch.tidy),
    }
    return lambda most=1000: work("generation", "generation", handlers, most)


@pytest.fixture
def order(http, dataset) -> Callable[..., str]:
    def post(path: str, **body: object) -> str:
        answer = http.post(path, json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    return post


@pytest.fixture
def generator(order, dataset) -> str:
    return order("/generators", name="g", dataset=str(dataset), preset="tiny-32", steps=25)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def rows(adapters) -> dict[str, int]:
    with adapters.db.transaction() as tx:
        tables = (Generator, Checkpoint, Loss, Generation, Image)
        return {
            table.__tablename__: tx.session.scalar(select(func.count()).select_from(table))
            for table in tables
        }


def test_a_cohort_goes_and_its_generator_stays(http, order, generator, run, adapters, ada) -> None:
    made = order("/generate", generator=generator, conditions=[{"count": 20}])
    run()
    assert http.delete(f"/generations/{made}").status_code == 202
    for path in ("", "/images", "/images/0.png", "/manifest", "/events"):
        assert http.get(f"/generations/{made}{path}").status_code == 404
    assert http.get("/generations").json()["items"] == []
    run()
    job = http.get(f"/generations/{made}/deletion").json()["job"]
    assert (job["state"], job["done"]) == ("succeeded", 21)
    left = list(adapters.store.keys(f"projects/{ada.caller.project}/generations/"))
    assert left == []
    assert (rows(adapters)["generations"], rows(adapters)["images"]) == (0, 0)
    assert order("/generate", generator=generator, conditions=[{"count": 1}])


def test_a_generator_goes_with_its_cohorts(
    http, order, generator, run, adapters, ada, scratch, engine
) -> None:
    made = order("/generate", generator=generator, conditions=[{"count": 3}], name="three")
    run()
    assert [path.name.split(".")[1] for path in files(scratch.folder)] == ["safetensors"]
    refused = http.delete(f"/generators/{generator}")
    assert refused.status_code == 409
    assert refused.json()["type"].endswith("has-derived-data")
    assert refused.json()["derived"][0]["name"] == "three"
    answer = http.delete(f"/generators/{generator}", params={"derived": True})
    assert [each["id"] for each in answer.json()["derived"]] == [made]
    for path in ("", "/patients", "/events"):
        assert http.get(f"/generators/{generator}{path}").status_code == 404
    assert http.get("/generators").json()["items"] == []
    run()
    assert set(rows(adapters).values()) == {0}
    project = f"projects/{ada.caller.project}/"
    assert [k for k in adapters.store.keys(project) if "/datasets/" not in k] == []
    assert files(scratch.folder) == []


def test_training_images_of_a_deleted_generator_leave_the_disk(
    http, generator, run, scratch
) -> None:
    run(2)  # the plan and one stretch
    assert [path for path in files(scratch.folder) if path.name == "images.npy"]
    http.delete(f"/generators/{generator}")
    run()
    assert files(scratch.folder) == []


def test_training_images_leave_the_disk_of_a_worker_that_did_not_delete(
    http, generator, run, scratch, order, dataset, work, adapters
) -> None:
    """Here a training that another worker's cancel ended; the next slice finds what is left."""
    run(2)
    http.post(f"/generators/{generator}/cancel")
    assert files(scratch.folder)
    order("/generators", name="h", dataset=str(dataset), preset="tiny-32", steps=5)
    run(1)
    assert files(scratch.folder) == []


def test_what_a_training_still_needs_is_kept(generator, run, scratch, adapters, ada) -> None:
    run(2)
    before = files(scratch.folder)
    scratch.tidy()
    assert files(scratch.folder) == before
    named = naming(adapters.jobs)["generators"]
    keys = set(adapters.store.keys(f"projects/{ada.caller.project}/generators/"))
    assert any("/checkpoints/" in key for key in keys)
    with adapters.db.transaction() as tx:
        assert named(tx, UUID(generator), list(keys)) == keys
    run()
    keys = set(adapters.store.keys(f"projects/{ada.caller.project}/generators/"))
    with adapters.db.transaction() as tx:
        left = keys - named(tx, UUID(generator), list(keys))
    assert ["training-rows" in key for key in left] == [True]


# ---------------------------------------------------------------- the same order again


def test_an_order_sent_again_after_its_generator_failed_gets_the_first_answer(
    http, order, generator, run, adapters
) -> None:
    body = {"generator": generator, "conditions": [{"count": 1}]}
    key = {"Idempotency-Key": "k"}
    first = http.post("/generate", json=body, headers=key).json()
    http.post(f"/generators/{generator}/cancel")
    assert http.post("/generate", json=body).status_code == 409
    again = http.post("/generate", json=body, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first["id"])


def test_a_training_sent_again_after_its_dataset_went_gets_the_first_answer(
    http, dataset, shelf
) -> None:
    body = {"name": "g", "dataset": str(dataset), "preset": "tiny-32"}
    key = {"Idempotency-Key": "k"}
    first = http.post("/generators", json=body, headers=key)
    shelf.views[dataset] = shelf.views[dataset].model_copy(
        update={
            "job": shelf.views[dataset].job.model_copy(update={"state": JobState.FAILED}),
            "size_px": 64,
        }
    )
    again = http.post("/generators", json=body, headers=key)
    assert (again.status_code, again.json()) == (202, first.json())
    del shelf.views[dataset]
    assert http.post("/generators", json=body, headers=key).json() == first.json()
    other = http.post("/generators", json=body | {"seed": 3}, headers=key)
    assert other.json()["type"].endswith("idempotency-key-reused")
    assert http.post("/generators", json=body).status_code == 404


@pytest.mark.parametrize("index", [0, 7, 999, 1000, 123_456, 12_345_678])
def test_the_collector_finds_the_row_of_an_image_by_its_key(index: int) -> None:
    generation = Generation(id=uuid4(), project=uuid4())
    assert index_of(image_key(generation, index, "ab" * 32)) == index
    assert index_of(generation_folder(uuid4(), uuid4()) + "manifest-abababab.parquet") is None
