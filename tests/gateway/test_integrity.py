"""Rows beside objects, over all that a study leaves: what is missing or altered is said."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from services.gateway import verify
from services.kit.adapters import Adapters
from services.kit.jobs.integrity import Integrity
from tests.gateway.conftest import Study
from tests.kit.test_worker import until

PLACES = {"dataset": "datasets", "generator": "generators", "cohort": "generations"}


@pytest.fixture
def integrity(adapters: Adapters) -> Integrity:
    return Integrity(adapters.db, adapters.store)


def keys_of(adapters: Adapters, resource: str) -> list[str]:
    return [key for key in adapters.store.keys("projects/") if f"/{resource}/" in key]


def says_damaged(http: TestClient, path: str) -> bool:
    return http.get(path).json()["damaged"]


def test_every_object_of_a_study_is_named_and_there(
    adapters: Adapters, study: Study, integrity: Integrity
) -> None:
    report = integrity.verify(content=True)
    assert (report.missing, report.altered) == ({}, {})
    ids = (study.dataset, study.other, study.generator, study.cohort, study.experiment)
    assert all(keys_of(adapters, resource) for resource in ids)
    named = {key for keys in integrity._named().values() for key in keys}
    assert named <= {*adapters.store.keys("projects/")}
    assert report.objects == len(named) > 100
    assert verify.lines(report)[-1] == "all of them are in the store"


@pytest.mark.parametrize("kind", [*PLACES, "experiment"])
def test_a_lost_object_is_found_by_its_row_whatever_it_is_of(
    adapters: Adapters, study: Study, integrity: Integrity, http: TestClient, kind: str
) -> None:
    resource = getattr(study, kind)
    path = f"/{PLACES.get(kind, 'experiments')}/{resource}"
    named = integrity._named()[UUID(resource)]
    lost = {key: adapters.store.get(key) for key in sorted(named)[-2:]}
    assert not says_damaged(http, path)
    adapters.store.remove(lost)
    report = integrity.verify()
    assert report.missing == {UUID(resource): sorted(lost)}
    assert says_damaged(http, path)
    others = [each for each in PLACES if each != kind]
    assert not any(says_damaged(http, f"/{PLACES[e]}/{getattr(study, e)}") for e in others)
    told = "\n".join(verify.lines(report))
    assert resource in told
    assert min(lost) in told
    for key, content in lost.items():
        adapters.store.put(key, content)
    assert integrity.verify().damaged == set()
    assert not says_damaged(http, path)


def test_who_reads_a_lost_image_is_told_so_and_the_dataset_says_it(
    adapters: Adapters, study: Study, http: TestClient
) -> None:
    sample = http.get(f"/datasets/{study.dataset}/samples").json()["items"][0]
    path = f"/datasets/{study.dataset}/samples/{sample['sample_id']}.png"
    assert http.get(path).status_code == 200
    lost = [key for key in keys_of(adapters, study.dataset) if key.endswith(".png")]
    adapters.store.remove(lost)
    answer = http.get(path)
    assert answer.status_code == 410
    problem = answer.json()
    assert problem["type"] == "urn:synthorax:problem:object-missing"
    assert "projects/" not in answer.text
    listed = {each["id"]: each["damaged"] for each in http.get("/datasets").json()["items"]}
    assert listed == {study.dataset: True, study.other: False}


def test_a_job_that_meets_a_lost_object_looks_twice_and_fails_with_its_name(
    adapters: Adapters, study: Study, http: TestClient, run: Callable[[], None]
) -> None:
    adapters.store.remove(k for k in keys_of(adapters, study.dataset) if k.endswith(".png"))
    order = {"name": "again", "dataset": study.dataset, "preset": "tiny-32", "steps": 15}
    generator = http.post("/generators", json=order).json()["id"]

    def job() -> dict[str, Any]:
        run()
        return http.get(f"/generators/{generator}").json()["job"]

    assert job()["state"] in {"queued", "running"}  # it may have been removed with its row
    until(lambda: job()["finished_at"] is not None)
    ended = job()
    assert ended["state"] == "failed"
    assert ended["problem"]["type"] == "urn:synthorax:problem:object-missing"
    assert says_damaged(http, f"/datasets/{study.dataset}")


def test_altered_bytes_are_found_when_content_is_read(
    adapters: Adapters, study: Study, integrity: Integrity, http: TestClient
) -> None:
    key = next(key for key in keys_of(adapters, study.cohort) if key.endswith(".png"))
    adapters.store.put(key, b"something else")
    assert integrity.verify().damaged == set()
    report = integrity.verify(content=True)
    assert report.altered == {UUID(study.cohort): [key]}
    assert says_damaged(http, f"/generations/{study.cohort}")


def test_what_is_deleted_is_not_missed(
    adapters: Adapters, study: Study, integrity: Integrity, http: TestClient
) -> None:
    adapters.store.remove(keys_of(adapters, study.experiment)[:3])
    assert integrity.verify().damaged == {UUID(study.experiment)}
    assert http.delete(f"/experiments/{study.experiment}?derived=true").status_code == 202
    assert integrity.verify().damaged == set()  # its rows still stand, but nobody reads them
