"""Several processes train as one would; started, stopped and ended as a worker does it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from api_schemas.generation import Condition
from services.generation.diffusion import ranks
from services.generation.diffusion.engine import DiffusionEngine
from services.generation.diffusion.ranks import Crew, CrewFailed
from services.generation.diffusion.training import Training
from services.generation.ports.engine import Look, LossNotFinite, Previews, Stretch, TrainTask

TWO = Crew(here=2, world=2)
STEPS = 3


def a_task(folder: Path, **changes: object) -> TrainTask:
    folder.mkdir()
    images = folder / "images.npy"
    np.save(images, np.random.default_rng(0).integers(0, 256, (12, 32, 32), dtype=np.uint8))
    who = [Condition(age=20 + i) for i in range(12)]
    changes = {"batch": 7, "warmup": 1} | changes  # 4 and 3 images: shares need not be equal
    return TrainTask("tiny-32", STEPS, 1, images, who, folder / "state", changes)


def train(
    task: TrainTask,
    crew: Crew | None,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, float], None] = lambda _step, _loss: None,
    show: Callable[[Look], None] = lambda _: None,
) -> Stretch:
    task.folder.mkdir(exist_ok=True)
    return DiffusionEngine("cpu", 1, crew).train(
        task, seconds=600, should_stop=should_stop, progress=progress, show=show
    )


def weights(task: TrainTask) -> torch.Tensor:
    tensors = load_file(task.folder / "network.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def began(task: TrainTask) -> torch.Tensor:
    run = Training.begin(task.preset, task.seed, task.steps, torch.device("cpu"))
    tensors = run.network.state_dict()
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def moved_apart(one: TrainTask, other: TrainTask) -> float:
    """How far two trainings ended from each other, in the length of the way they went."""
    return ((weights(one) - weights(other)).norm() / (weights(one) - began(one)).norm()).item()


@dataclass(frozen=True)
class Straight:
    """A training by two processes without a stop, and what it showed on the way."""

    task: TrainTask
    stretch: Stretch
    looks: list[Look]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    looks: list[Look] = []
    task = shown(a_task(tmp_path_factory.mktemp("ranks") / "straight"))
    return Straight(task, train(task, TWO, show=looks.append), looks)


def shown(task: TrainTask) -> TrainTask:
    return replace(task, previews=Previews(2, task.conditions[:3], [1, 2, 3]))


def test_two_processes_train_as_one_with_the_same_batch(tmp_path: Path, straight: Straight) -> None:
    alone, together, two = a_task(tmp_path / "alone"), straight.task, straight.stretch
    other = a_task(tmp_path / "other", batch=4)
    one = train(alone, None)
    train(other, None)
    assert (two.step, two.finished) == (STEPS, True)
    assert two.losses == pytest.approx(np.array(one.losses), rel=1e-5)
    assert moved_apart(alone, together) < 0.02
    assert moved_apart(alone, other) > 0.3


def test_micro_batches_are_for_the_memory_alone(tmp_path: Path) -> None:
    whole, parts = a_task(tmp_path / "whole"), a_task(tmp_path / "parts", micro_batch=3)
    one, two = train(whole, None), train(parts, None)
    assert two.losses == pytest.approx(np.array(one.losses), rel=1e-5)
    assert moved_apart(whole, parts) < 0.02


def test_a_crew_stops_when_asked_and_goes_on_with_the_same_bytes(
    tmp_path: Path, straight: Straight
) -> None:
    halves = shown(a_task(tmp_path / "halves"))
    first = train(halves, TWO, should_stop=lambda: True)
    assert 0 < first.step < STEPS
    train(halves, TWO)
    for name in ("network", "average", "optimiser"):
        file = f"{name}.safetensors"
        assert (straight.task.folder / file).read_bytes() == (halves.folder / file).read_bytes()
    (look,) = straight.looks
    assert look.step == 2
    assert look.images is not None
    assert look.images.shape == (3, 32, 32)


def test_what_spoils_a_training_spoils_it_for_all(tmp_path: Path) -> None:
    task = a_task(tmp_path / "spoilt", learning_rate=1e30, clip=1e30)
    with pytest.raises(LossNotFinite) as spoilt:
        train(task, TWO)
    assert spoilt.value.step < STEPS
    assert not list(task.folder.iterdir())


def test_when_one_process_dies_the_others_do_not_wait_for_it(tmp_path: Path) -> None:
    task = replace(a_task(tmp_path / "dies"), steps=1000)

    def kill_one(_step: int, _loss: float) -> None:
        for child in psutil.Process().children():
            if child.environ().get("RANK") == "1":
                child.kill()

    with pytest.raises(CrewFailed):
        train(task, TWO, progress=kill_one)
    assert not [c for c in psutil.Process().children() if c.is_running() and "ranks" in c.name()]


PARENT = """
import sys
from pathlib import Path
import torch
from services.generation.diffusion import ranks
from services.generation.ports.engine import TrainTask
from api_schemas.generation import Condition
folder = Path(sys.argv[1])
task = TrainTask("tiny-32", 10**6, 1, folder / "images.npy", [Condition()] * 12, folder / "state")
ranks.train(task, torch.device("cpu"), ranks.Crew(2, 2), seconds=600, should_stop=lambda: False,
            progress=lambda step, loss: print(step, flush=True), show=lambda look: None)
"""


def test_no_process_outlives_its_worker(tmp_path: Path) -> None:
    task = a_task(tmp_path / "orphans")
    worker = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(task.images.parent)], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    assert worker.stdout.readline()  # the first step is done
    crew = psutil.Process(worker.pid).children()
    assert len(crew) == 2
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    _, alive = psutil.wait_procs(crew, timeout=60)
    assert alive == []


def test_a_second_host_follows(tmp_path: Path) -> None:
    """Two hosts of one process each, both this one: the second is told what to do by the first."""
    task = a_task(tmp_path / "hosts")
    address = Crew(1, 2).meeting().address
    follower = subprocess.Popen(
        [sys.executable, "-m", ranks.MODULE, "follow", address, "2", "1", "1"]
    )
    try:
        assert train(task, Crew(1, 2, address)).finished
    finally:
        follower.terminate()
        follower.wait(60)
    assert follower.returncode == 0
