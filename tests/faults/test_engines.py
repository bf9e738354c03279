"""Rows 16 to 20, 22, 29 and 30: real training and sampling on the CPU, interrupted and spoilt."""

import random
import time
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from services.datasets.main import compose as compose_datasets
from services.datasets.worker import handlers as dataset_handlers
from services.generation.main import compose as compose_generation
from services.kit.http import web_app
from services.kit.worker import runner
from tests.faults.engine_worker import MEMORY_SEED, NAN_SEED, STRETCH
from tests.faults.house import House, Process, stub_arguments, until

pytestmark = pytest.mark.slow


class Suite:
    """Datasets and generation over the house: orders in this process, real workers beside it."""

    def __init__(self, house: House) -> None:
        self.house = house
        datasets = compose_datasets(house.adapters)
        generation = compose_generation(house.adapters, datasets=datasets.provider)
        app = web_app("test", [datasets.router, generation.router], house.adapters)
        self.http = TestClient(app, headers={"Authorization": f"Bearer {house.key}"})
        self.dataset = self._phantoms()

    def _phantoms(self) -> str:
        body = {"format": "phantom", "name": "few", "site": "phantom-a", "patients": 12}
        made = self._post("/datasets", body | {"size_px": 32, "seed": 1})
        importer = runner(
            self.house.adapters, "datasets", "cpu", dataset_handlers(self.house.adapters)
        )
        while importer.run_one():
            pass
        return made["id"]

    def worker(self, stretch: int = 1_000_000, **settings: object) -> Process:
        """A worker of queue `generation` whose stretches end after so many steps."""
        arguments = list(stub_arguments("tests.faults.engine_worker"))
        arguments[arguments.index("-Q") + 1] = "generation"
        self.house.environment[STRETCH] = str(stretch)
        process = self.house.start("engine", arguments, **settings)
        self.house.environment.clear()
        return process

    def train(self, seed: int = 7, steps: int = 100) -> tuple[UUID, str]:
        """Order a training: its job and its generator."""
        body = {"name": "tiny", "dataset": self.dataset, "preset": "tiny-32"}
        made = self._post("/generators", body | {"steps": steps, "seed": seed})
        return UUID(made["job"]["id"]), made["id"]

    def generate(self, generator: str, count: int) -> tuple[UUID, str]:
        body = {"generator": generator, "conditions": [{"count": count}], "seed": 7}
        made = self._post("/generate", body | {"sampler": {"steps": 2}})
        return UUID(made["job"]["id"]), made["id"]

    def weights(self, generator: str) -> str:
        (row,) = self.house.query(
            "SELECT weights_key, weights_sha256 FROM generation.generators WHERE id = :id",
            {"id": generator},
        )
        self.house.adapters.store.get(row.weights_key, row.weights_sha256)
        return row.weights_sha256

    def pixels(self, generation: str) -> list[str]:
        rows = self.house.query(
            "SELECT image_key, image_sha256, pixel_sha256 FROM generation.images "
            "WHERE generation = :id ORDER BY index",
            {"id": generation},
        )
        for row in rows:
            self.house.adapters.store.get(row.image_key, row.image_sha256)
        return [row.pixel_sha256 for row in rows]

    def problem(self, job: UUID) -> str:
        until(lambda: self.house.view(job).state.terminal, "the job to end")
        view = self.house.view(job)
        assert view.state.value == "failed"
        assert view.problem is not None
        return view.problem.type.rpartition(":")[2]

    def reach(self, job: UUID, step: int) -> None:
        until(lambda: self.house.view(job).done >= step, f"step {step}")

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 202, answer.text
        self.house.accepted.append(UUID(answer.json()["job"]["id"]))
        return answer.json()


@pytest.fixture
def suite(house) -> Suite:
    house.control()
    return Suite(house)


def test_row_16_training_killed_and_resumed(house, suite) -> None:
    """100 steps at once; 50, kill, 50: the same weights."""
    whole, whole_generator = suite.train()
    at_once = suite.worker()
    house.finish(whole)
    at_once.kill()
    killed, killed_generator = suite.train()
    worker = suite.worker(stretch=50)
    suite.reach(killed, 55)
    worker.kill()
    suite.worker(stretch=50)
    house.finish(killed)
    assert [s.crashes for s in house.slices(killed)] == [0, 0, 1]
    assert suite.weights(killed_generator) == suite.weights(whole_generator)


def test_row_17_sampling_killed_and_resumed(house, suite) -> None:
    """64 images at once; killed at one of them, and resumed: the same pixels."""
    trained, generator = suite.train(steps=10)
    whole, whole_cohort = suite.generate(generator, 64)
    at_once = suite.worker()
    house.finish(trained, whole)
    at_once.kill()
    killed, killed_cohort = suite.generate(generator, 64)
    image = random.SystemRandom().randint(1, 64)
    suite.worker(fail=f"after_put@{image}:kill").wait()
    suite.worker()
    house.finish(killed)
    pixels = suite.pixels(killed_cohort)
    assert len(pixels) == 64
    assert pixels == suite.pixels(whole_cohort)


def test_row_18_the_newest_checkpoint_is_corrupted(house, suite) -> None:
    damaged, generator = suite.train(steps=30)
    worker = suite.worker(stretch=10)
    suite.reach(damaged, 22)
    worker.kill()
    newest, before = house.query(
        "SELECT step, files FROM generation.checkpoints WHERE generator = :id ORDER BY step DESC",
        {"id": generator},
    )
    assert (newest.step, before.step) == (20, 10)
    for key, _ in newest.files.values():
        house.adapters.store.put(key, b"not what was written")
    whole, whole_generator = suite.train(steps=30)
    suite.worker()
    house.finish(damaged, whole)
    said = house.query("SELECT message FROM jobs.events WHERE job = :job", {"job": damaged})
    assert any("step 20 was damaged" in row.message for row in said)
    assert suite.weights(generator) == suite.weights(whole_generator)


def test_row_19_and_20_nan_and_out_of_memory(house, suite) -> None:
    """Each fails at once with a clear problem; the same worker runs the next job."""
    spoilt, _ = suite.train(seed=NAN_SEED)
    too_large, _ = suite.train(seed=MEMORY_SEED)
    after, _ = suite.train(steps=10)
    suite.worker()
    assert suite.problem(spoilt) == "nan-loss"
    assert suite.problem(too_large) == "out-of-memory"
    house.finish(after)
    for job in (spoilt, too_large):
        assert [s.attempts for s in house.slices(job)] == [1, 1]


def test_row_22_sigterm_in_mid_training(house, suite) -> None:
    """A checkpoint and a release in ten seconds; what was trained is not trained again."""
    job, generator = suite.train()
    worker = suite.worker()
    suite.reach(job, 20)
    told = time.monotonic()
    worker.terminate()
    worker.wait()
    assert time.monotonic() - told < 10
    (left,) = house.query(
        "SELECT step FROM generation.checkpoints WHERE generator = :id", {"id": generator}
    )
    assert left.step >= 20
    assert [(s.state, s.crashes) for s in house.slices(job)] == [("done", 0), ("queued", 0)]
    whole, whole_generator = suite.train()
    suite.worker()
    house.finish(job, whole)
    losses = house.query(
        "SELECT step FROM generation.losses WHERE generator = :id", {"id": generator}
    )
    assert len(losses) == len({row.step for row in losses})
    assert suite.weights(generator) == suite.weights(whole_generator)


def test_row_29_damaged_bytes_are_never_trained_on(house, suite) -> None:
    """Images that are not those which were imported end the training; nothing is made of them."""
    store = house.adapters.store
    whole = {key: store.get(key) for key in store.keys("projects/") if key.endswith(".png")}
    assert whole
    for key, content in whole.items():
        store.put(key, content[: len(content) // 2])
    job, generator = suite.train(steps=10)
    suite.worker()
    assert suite.problem(job) == "digest-mismatch"
    made = "SELECT weights_key FROM generation.generators WHERE id = :id"
    (row,) = house.query(made, {"id": generator})
    assert row.weights_key is None
    assert house.query("SELECT * FROM generation.checkpoints") == []
    for key, content in whole.items():
        store.put(key, content)


def test_row_30_the_scratch_disk_is_full(house, suite, small_disk) -> None:
    """The slice is given back and nothing of it stays; with room again the job finishes."""
    scratch = small_disk("400k")
    suite.worker(scratch=scratch)
    job, generator = suite.train(steps=10)
    until(lambda: _given_back(house, job, 2), "two attempts that found the disk full")
    attempts = house.query("SELECT outcome, reason FROM jobs.attempts WHERE job = :j", {"j": job})
    assert {a.outcome for a in attempts} <= {"done", "released", None}
    assert any("disk was full" in a.reason for a in attempts)
    left = sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())
    small_disk("64m")
    house.finish(job)
    assert suite.weights(generator)
    assert [s.crashes for s in house.slices(job)] == [0, 0]
    assert left == 0


def _given_back(house: House, job: UUID, times: int) -> bool:
    ended = "SELECT 1 FROM jobs.attempts WHERE job = :j AND outcome NOT IN ('done')"
    return len(house.query(ended, {"j": job})) >= times and house.slices(job)[-1].state == "queued"
