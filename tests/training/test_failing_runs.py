"""Runs that fail for good: the others go on, and evaluation hears of it."""

from typing import Any

import pytest
from sqlalchemy import text

from services.training.ports.engine import OutOfDeviceMemoryError, RunSpec
from tests.training.standins import StubEngine
from tests.training.test_runs import ARMS, job, runs


@pytest.fixture
def made(http, body) -> str:
    return http.post("/experiments", json=body).json()["id"]


def synthetic_only(spec: RunSpec) -> bool:
    return len(spec.stages[0].parts) == 1 and len(spec.stages[0].parts[0].rows) == 36


def view(http, made: str) -> dict[str, Any]:
    return http.get(f"/experiments/{made}").json()


def test_a_run_that_diverges_leaves_the_others_alone(http, made, work, handler, verdicts) -> None:
    engine = StubEngine(breaks_on=lambda spec: spec.seed == 1 and synthetic_only(spec))
    work("training", "training", {"experiment": handler(engine)})
    state = job(http, made)
    assert (state["state"], state["done"], state["total"]) == ("succeeded", 54, 54)
    assert view(http, made)["failed_runs"] == 1
    assert http.get("/experiments").json()["items"][0]["failed_runs"] == 1
    done = runs(http, made)
    failed = done.pop(("synthetic_only", 1))
    assert failed["state"] == "failed"
    assert failed["problem"]["type"].endswith("training-diverged")
    assert failed["problem"]["field"] == "classifier.learning_rate"
    assert failed["classifier"] is None
    assert {r["state"] for r in done.values()} == {"done"}
    assert set(verdicts.received) == {(arm, seed, "internal") for arm, seed in done}
    (told,) = verdicts.forgone
    assert (told.arm, told.seed) == ("synthetic_only", 1)
    assert "the loss is nan" in told.reason


def test_when_all_runs_fail_the_experiment_fails(http, made, work, handler, verdicts) -> None:
    work("training", "training", {"experiment": handler(StubEngine(breaks=True))})
    state = job(http, made)
    assert state["state"] == "failed"
    assert state["problem"]["type"].endswith("training-diverged")
    assert "Arm 'shuffled', seed 1" in state["problem"]["detail"]
    assert view(http, made)["failed_runs"] == 12
    assert {r["state"] for r in runs(http, made).values()} == {"failed"}
    assert len(verdicts.forgone) == 11


def test_a_batch_too_large_is_a_runs_own_problem(http, made, work, handler) -> None:
    class Small(StubEngine):
        def train(self, spec, folder, **more: Any):
            if synthetic_only(spec):
                raise OutOfDeviceMemoryError("a batch of 8 images does not fit the device")
            return super().train(spec, folder, **more)

    work("training", "training", {"experiment": handler(Small())})
    failed = [key for key, run in runs(http, made).items() if run["state"] == "failed"]
    assert failed == [("synthetic_only", 0), ("synthetic_only", 1)]


def test_an_image_that_is_not_what_its_manifest_says(
    http, made, work, handler, engine, adapters, real_table
) -> None:
    """Only the arm that never saw it is trained."""
    adapters.store.put(real_table["image_key"][0].as_py(), b"something else")
    work("training", "training", {"experiment": handler(engine)})
    done = runs(http, made)
    assert {arm for (arm, _), run in done.items() if run["state"] == "done"} == {"synthetic_only"}
    problem = done["real", 0]["problem"]
    assert problem["type"].endswith("image-damaged")
    assert real_table["sample_id"][0].as_py() in problem["detail"]
    assert job(http, made)["state"] == "succeeded"


def test_a_worker_that_dies_before_it_could_tell_tells_later(
    http, made, work, handler, verdicts, adapters
) -> None:
    with adapters.db.transaction() as tx:
        tx.session.execute(
            text(
                "UPDATE training.runs SET problem = CAST(:problem AS jsonb) "
                "WHERE arm = 'shuffled' AND seed = 0"
            ),
            {"problem": '{"type": "t", "title": "it failed", "status": 422}'},
        )
    engine = StubEngine()
    work("training", "training", {"experiment": handler(engine)})
    assert len(engine.specs) == 11
    assert [(a.arm, a.seed, a.reason) for a in verdicts.forgone] == [("shuffled", 0, "it failed")]
    assert job(http, made)["state"] == "succeeded"


def test_a_failed_run_leaves_no_checkpoint(http, made, work, handler, adapters, ada) -> None:
    engine = StubEngine()
    handlers = {"experiment": handler(engine, stretch_s=0)}
    work("training", "training", handlers, most=12)
    engine.breaks_on = synthetic_only
    work("training", "training", handlers)
    prefix = f"projects/{ada.caller.project}/experiments/{made}/checkpoints/"
    assert list(adapters.store.keys(prefix)) == []
    assert {arm for (arm, _), r in runs(http, made).items() if r["state"] == "done"} == {*ARMS} - {
        "synthetic_only"
    }
