"""A dataset is deleted: from readers at once, from the tables and the store by its job."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from services.datasets.main import compose
from services.datasets.models import Base, Dataset, Manifest, Sample
from services.datasets.service.keys import image_key, manifest_key, ordinal_of
from services.datasets.worker import handlers
from services.kit.adapters import Adapters

PHANTOM = {
    "format": "phantom",
    "name": "Phantoms",
    "site": "phantom-a",
    "patients": 12,
    "size_px": 16,
    "seed": 4,
}


@pytest.fixture
def http(adapters: Adapters, browse: Callable[..., TestClient], ada: Any) -> TestClient:
    return browse(compose(adapters).router, member=ada)


@pytest.fixture
def run(adapters: Adapters, work: Callable[..., int]) -> Callable[..., int]:
    return lambda most=1000: work("datasets", "cpu", handlers(adapters), most)


def count(adapters: Adapters, table: type[Base]) -> int | None:
    with adapters.db.transaction() as tx:
        return tx.session.scalar(select(func.count()).select_from(table))


def test_a_dataset_goes_at_once_for_readers_and_then_altogether(http, run, adapters, ada) -> None:
    made, kept = (http.post("/datasets", json=PHANTOM).json()["id"] for _ in range(2))
    run()
    foreseen = http.get(f"/datasets/{made}/deletion").json()
    assert (foreseen["derived"], foreseen["job"]) == ([], None)
    assert foreseen["resource"]["name"] == "Phantoms"
    assert foreseen["resource"]["unit"] == "images"
    images = foreseen["resource"]["done"]

    answer = http.delete(f"/datasets/{made}")
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/datasets/{made}/deletion"
    assert answer.json()["job"]["state"] == "queued"
    for path in ("", "/summary", "/samples", "/rejections", "/manifest", "/events"):
        assert http.get(f"/datasets/{made}{path}").status_code == 404
    assert http.post(f"/datasets/{made}/cancel").status_code == 404
    assert [each["id"] for each in http.get("/datasets").json()["items"]] == [kept]
    assert http.delete(f"/datasets/{made}").json() == answer.json()

    run()
    job = http.get(answer.headers["Location"]).json()["job"]
    assert (job["state"], job["done"]) == ("succeeded", images + 1)  # and the manifest
    keys = list(adapters.store.keys(f"projects/{ada.caller.project}/datasets/"))
    assert keys
    assert all(kept in key for key in keys)
    assert (count(adapters, Dataset), count(adapters, Manifest)) == (1, 1)
    assert count(adapters, Sample) == images
    assert http.get(f"/datasets/{kept}/summary").status_code == 200
    assert http.delete(f"/datasets/{made}").status_code == 404


def test_a_running_import_is_cancelled_first(http, run, adapters, ada) -> None:
    made = http.post("/datasets", json=PHANTOM).json()["id"]
    assert run(2) == 2  # the plan and the images, not the manifest
    assert http.delete(f"/datasets/{made}").status_code == 202
    run()
    assert http.get(f"/datasets/{made}/deletion").json()["job"]["state"] == "succeeded"
    assert list(adapters.store.keys(f"projects/{ada.caller.project}/")) == []
    assert count(adapters, Sample) == 0


def test_a_key_used_again_after_the_deletion_names_the_deletion(http) -> None:
    key = {"Idempotency-Key": "once"}
    made = http.post("/datasets", json=PHANTOM, headers=key).json()["id"]
    http.delete(f"/datasets/{made}")
    again = http.post("/datasets", json=PHANTOM, headers=key)
    assert (again.status_code, again.json()["deletion"]["id"]) == (410, made)


def test_who_may_not_see_a_dataset_may_not_delete_it(http, browse, adapters, stranger) -> None:
    made = http.post("/datasets", json=PHANTOM).json()["id"]
    strange = browse(compose(adapters).router, member=stranger)
    for ask in (strange.delete, http.delete):
        theirs, unknown = ask(f"/datasets/{made}"), ask(f"/datasets/{uuid4()}")
        assert unknown.status_code == 404
        assert theirs.status_code == (404 if ask == strange.delete else 202)
    assert strange.get(f"/datasets/{made}/deletion").status_code == 404


@pytest.mark.parametrize("ordinal", [0, 7, 999, 1000, 123_456, 12_345_678])
def test_the_collector_finds_the_sample_of_an_image_by_its_key(ordinal: int) -> None:
    key = image_key(uuid4(), uuid4(), ordinal, "ab" * 32)
    assert ordinal_of(key) == ordinal
    assert ordinal_of(manifest_key(uuid4(), uuid4(), "ab" * 32)) is None


def test_an_import_sent_again_after_its_file_went_gets_the_first_answer(http, import_root) -> None:
    folder = import_root / f"gone-{uuid4().hex[:8]}"
    folder.mkdir()
    table = folder / "table.csv"
    table.write_text("Path,PID\n0.png,a\n")
    body = {
        "format": "chexpert_csv",
        "name": "Gone",
        "path": str(table),
        "site": "here",
        "size_px": 32,
    }
    key = {"Idempotency-Key": "once"}
    first = http.post("/datasets", json=body, headers=key)
    table.unlink()
    again = http.post("/datasets", json=body, headers=key)
    assert (again.status_code, again.json()) == (202, first.json())
    assert http.post("/datasets", json=body).status_code == 422
