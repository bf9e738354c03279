"""Experiments are deleted with their classifiers, and packed images that nobody reads go."""

from uuid import UUID

import pytest
from sqlalchemy import select, text

from services.kit.deletion import Delete, tidying
from services.kit.jobs.lineage import DELETE
from services.training.classifier.cache import SourceCache
from services.training.models import Classifier, Experiment, Run
from services.training.service.keeping import KEPT, NAMED, tidy


@pytest.fixture
def packed(tmp_path) -> SourceCache:
    """The worker's packed sources."""
    return SourceCache(tmp_path / "packed", 10**9)


@pytest.fixture
def run(adapters, work, handler, engine, packed):
    def tidied() -> None:
        tidy(adapters.db, packed)

    handlers = {
        "experiment": tidying(tidied, handler(engine)),
        DELETE: Delete(adapters.erasure, KEPT, tidied),
    }
    return lambda most=1000: work("training", "training", handlers, most)


def test_an_experiment_goes_with_all_it_left(http, body, run, adapters, ada, tmp_path) -> None:
    made = http.post("/experiments", json=body).json()["id"]
    run()
    arms = http.get(f"/experiments/{made}/arms").json()
    classifier = arms[0]["runs"][0]["classifier"]
    folder = f"projects/{ada.caller.project}/experiments/"
    keys = list(adapters.store.keys(folder))
    with adapters.db.transaction() as tx:
        assert NAMED["experiments"](tx, UUID(made), keys) == set(keys)
    assert list((tmp_path / "packed").iterdir())
    assert http.delete(f"/experiments/{made}").status_code == 202
    for path in (f"/experiments/{made}", f"/experiments/{made}/arms", f"/classifiers/{classifier}"):
        assert http.get(path).status_code == 404
    assert http.get("/experiments").json()["items"] == []
    run()
    job = http.get(f"/experiments/{made}/deletion").json()["job"]
    assert (job["state"], job["done"]) == ("succeeded", len(keys))
    assert list(adapters.store.keys(folder)) == []
    assert list((tmp_path / "packed").iterdir()) == []
    with adapters.db.transaction() as tx:
        for table in (Experiment, Run, Classifier):
            assert tx.session.scalars(select(table)).all() == []


def test_packed_images_that_another_experiment_reads_stay(http, body, run, tmp_path) -> None:
    made, _ = (http.post("/experiments", json=body).json()["id"] for _ in range(2))
    run()
    before = sorted((tmp_path / "packed").iterdir())
    http.delete(f"/experiments/{made}")
    run()
    assert sorted((tmp_path / "packed").iterdir()) == before


def test_a_checkpoint_between_two_stretches_is_named(
    http, body, work, handler, engine, adapters, ada
) -> None:
    made = http.post("/experiments", json=body).json()["id"]
    work("training", "training", {"experiment": handler(engine, stretch_s=-1.0)}, 2)
    keys = list(adapters.store.keys(f"projects/{ada.caller.project}/experiments/"))
    assert any("/checkpoints/" in key for key in keys)
    with adapters.db.transaction() as tx:
        assert NAMED["experiments"](tx, UUID(made), keys) == set(keys)


def test_a_running_experiment_is_cancelled_first(http, body, run, adapters, ada, engine) -> None:
    made = http.post("/experiments", json=body).json()["id"]
    answers = []
    engine.between_steps = lambda: answers or answers.append(http.delete(f"/experiments/{made}"))
    run()
    assert answers[0].status_code == 202
    assert http.get(f"/experiments/{made}/deletion").json()["job"]["state"] == "succeeded"
    with adapters.db.transaction() as tx:
        assert tx.session.scalars(select(Experiment)).all() == []


def test_an_experiment_knows_all_its_data(http, body, adapters, real, cohort) -> None:
    made = http.post("/experiments", json=body).json()["id"]
    with adapters.db.transaction() as tx:
        uses = tx.session.execute(text("SELECT resource, uses FROM jobs.uses")).all()
    assert {(str(row.resource), row.uses) for row in uses} == {
        (made, real.dataset),
        (made, cohort.generation),
    }


def test_a_key_used_again_after_the_deletion_names_the_deletion(http, body) -> None:
    key = {"Idempotency-Key": "once"}
    made = http.post("/experiments", json=body, headers=key).json()["id"]
    http.delete(f"/experiments/{made}")
    again = http.post("/experiments", json=body, headers=key)
    assert (again.status_code, again.json()["deletion"]["id"]) == (410, made)
