"""The same request again, after what it made was deleted: the answer names the deletion."""

from collections.abc import Callable
from typing import Any

from fastapi.testclient import TestClient

from tests.gateway.conftest import PHANTOMS, Study
from tests.gateway.everything import csv_of


def requests_of(http: TestClient, study: Study) -> dict[str, dict[str, Any]]:
    """A request for every kind of thing that is made with a key and can be deleted."""
    data, other = ({"dataset": each} for each in (study.dataset, study.other))
    experiment = http.get(f"/experiments/{study.experiment}").json()["request"]
    arms = http.get(f"/experiments/{study.experiment}/arms").json()
    names = [
        each["sample_id"]
        for each in http.get(f"/datasets/{study.other}/samples", params={"limit": 1000}).json()[
            "items"
        ]
    ]
    about = {"name": "own", "data": f"dataset/{study.other}"}
    labels = ["Edema", "Cardiomegaly", "Pleural Effusion", "Atelectasis", "No Finding"]
    scores = csv_of(["id", *(f"score_{label}" for label in labels)], names).encode()
    vectors = csv_of(["sample_id", "a", "b"], names).encode()
    return {
        "/datasets": {"json": {**PHANTOMS, "name": "more", "site": "phantom-c"}},
        f"/datasets/{study.dataset}/views": {"json": {"name": "v", "where": {"split": ["train"]}}},
        "/generators": {
            "json": {"name": "g", "dataset": study.dataset, "preset": "tiny-32", "steps": 10}
        },
        "/generate": {"json": {"generator": study.generator, "conditions": [{"count": 1}]}},
        "/experiments": {"json": experiment | {"name": "once more"}},
        "/scorings": {
            "json": {
                "classifier": arms[0]["runs"][0]["classifier"],
                "data": other,
                "allow_leakage": True,
            }
        },
        "/overlaps": {"json": {"first": {"data": data}, "second": {"data": other}}},
        "/exports": {"json": {"set": {"data": data}, "format": "croissant"}},
        "/qualities": {"json": {"cohort": {"generation": study.cohort}}},
        "/evaluations": {"data": about, "files": {"file": scores}},
        "/features": {"data": about | {"version": "1"}, "files": {"file": vectors}},
    }


def test_a_replay_of_what_was_deleted_names_the_deletion(
    http: TestClient, run: Callable[[], None], study: Study
) -> None:
    requests = requests_of(http, study)
    made: dict[str, str] = {}
    for path, request in requests.items():
        answer = http.post(path, headers={"Idempotency-Key": path}, **request)
        assert answer.status_code in {201, 202}, (path, answer.text)
        made[path] = answer.json()["id"]
        again = http.post(path, headers={"Idempotency-Key": path}, **request)
        assert again.json()["id"] == made[path], path

    for dataset in (study.dataset, study.other, made["/datasets"]):
        deletion = http.delete(f"/datasets/{dataset}", params={"derived": True})
        assert deletion.status_code == 202, deletion.text
    for _ in range(2):  # while they are being deleted, and then
        for path, request in requests.items():
            replay = http.post(path, headers={"Idempotency-Key": path}, **request)
            problem = replay.json()
            assert (replay.status_code, problem["status"]) == (410, 410), (path, replay.text)
            assert problem["type"].endswith("replay-of-deleted")
            assert problem["deletion"]["id"] == made[path]
            look = http.get(f"/datasets/{made['/datasets']}/deletion").json()
            if path == "/datasets":
                assert problem["deletion"]["job"] == look["job"]["id"]
        run()

    other = {**requests["/datasets"]["json"], "name": "another body"}
    refused = http.post("/datasets", headers={"Idempotency-Key": "/datasets"}, json=other)
    assert refused.status_code == 422
    fresh = http.post("/datasets", headers={"Idempotency-Key": "fresh"}, **requests["/datasets"])
    assert fresh.status_code == 202
