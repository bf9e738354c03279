"""Training by several processes, on this host's GPUs or on those of several hosts.

`train` starts the processes of this host and speaks with number 0 over its pipes; the worker that
calls it keeps the lease, hears of cancelling and passes it on. Every process has the same state
and takes its own images of every batch; `accelerate` and torch share the gradients.

    python -m services.generation.diffusion.ranks TASK.json    one process, started by `train`
    python -m services.generation.diffusion.ranks follow ...   the processes of a further host
"""

import base64
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from api_schemas.generation import Condition
from services.crew.member import Ear, Member
from services.crew.starting import MEMORY_EXIT, STOP, Crew, CrewFailed, started
from services.generation.diffusion import loop
from services.generation.diffusion.losses import Predict
from services.generation.diffusion.network import Network
from services.generation.ports.engine import (
    Look,
    LossNotFinite,
    OutOfDeviceMemory,
    Previews,
    Stretch,
    TrainTask,
)

MODULE = "services.generation.diffusion.ranks"


# ---------------------------------------------------------------- the worker's side


def train(
    task: TrainTask,
    device: torch.device,
    crew: Crew,
    *,
    seconds: float,
    should_stop: Callable[[], bool],
    progress: Callable[[int, float], None],
    show: Callable[[Look], None],
) -> Stretch:
    """The same as `loop.train`, by a crew."""
    told = task.folder.parent / "task.json"
    told.write_text(json.dumps(_task_json(task, device, seconds)))
    stopped = False
    with started(crew.meeting(), MODULE, str(told)) as processes:
        first = processes[0]
        assert first.stdin is not None  # noqa: S101 - both are pipes
        assert first.stdout is not None  # noqa: S101 - likewise
        for line in first.stdout:
            said = json.loads(line)
            match said.pop("kind"):
                case "progress":
                    progress(said["step"], said["loss"])
                case "look":
                    show(_look(said))
                case "not finite":
                    raise LossNotFinite(said["step"])
                case _:
                    losses = [(step, loss) for step, loss in said["losses"]]
                    return Stretch(said["step"], said["finished"], losses)
            if not stopped and should_stop():
                stopped = True
                first.stdin.write(f"{STOP}\n")
                first.stdin.flush()
    if any(process.returncode == MEMORY_EXIT for process in processes):
        raise OutOfDeviceMemory(str(device))
    msg = "a process of the training ended before its time"
    raise CrewFailed(msg)


def _task_json(task: TrainTask, device: torch.device, seconds: float) -> dict[str, Any]:
    plain = {"preset": task.preset, "steps": task.steps, "seed": task.seed}
    previews = None
    if task.previews is not None:
        previews = asdict(task.previews) | {"conditions": _dumped(task.previews.conditions)}
    return {
        **plain,
        "images": str(task.images),
        "folder": str(task.folder),
        "conditions": _dumped(task.conditions),
        "changes": dict(task.changes),
        "previews": previews,
        "device": device.type,
        "seconds": seconds,
    }


def _dumped(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    return [c.model_dump(mode="json") for c in conditions]


def _look(said: dict[str, Any]) -> Look:
    losses = [(step, loss) for step, loss in said["losses"]]
    images = said["images"]
    if images is not None:
        pixels = np.frombuffer(base64.b64decode(images["pixels"]), np.uint8)
        images = pixels.reshape(images["shape"])
    return Look(said["step"], losses, images)


# ---------------------------------------------------------------- a process of the crew


class Together(Member):
    """One process among others, which share the gradients of a network."""

    def wrap(self, network: Network) -> Predict:
        return cast("Predict", self._accelerator.prepare_model(network))

    def apart(self, predict: Predict) -> AbstractContextManager[None]:
        return cast("DistributedDataParallel", predict).no_sync()


def be_one(path: str) -> None:
    """Train as one of a crew. Number 0 says on its standard output how it goes, line by line."""
    ear = Ear()
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    peers = Together(accelerator)
    task, seconds = _told(peers.text(path))
    torch.backends.cudnn.deterministic = True
    try:
        stretch = loop.train(
            task,
            peers.device,
            seconds=seconds,
            should_stop=ear.stop.is_set,
            progress=lambda step, loss: _say("progress", step=step, loss=loss),
            show=lambda look: _say("look", **_look_json(look)),
            peers=peers,
        )
    except LossNotFinite as error:  # all of them see it in the same step
        _say("not finite", step=error.step)
    except torch.OutOfMemoryError:
        os._exit(MEMORY_EXIT)  # the others are waiting: no farewell
    else:
        if peers.rank == 0:
            _say("over", **asdict(stretch))
    accelerator.wait_for_everyone()
    distributed.destroy_process_group()


def _told(path: str) -> tuple[TrainTask, float]:
    told = json.loads(Path(path).read_text())
    previews = told["previews"]
    if previews is not None:
        previews = Previews(**previews | {"conditions": _conditions(previews["conditions"])})
    task = TrainTask(
        told["preset"],
        told["steps"],
        told["seed"],
        Path(told["images"]),
        _conditions(told["conditions"]),
        Path(told["folder"]),
        told["changes"],
        previews,
    )
    return task, told["seconds"]


def _conditions(dumped: Sequence[dict[str, Any]]) -> list[Condition]:
    return [Condition.model_validate(each) for each in dumped]


def _look_json(look: Look) -> dict[str, Any]:
    images = look.images
    if images is None:
        return asdict(look)
    pixels = base64.b64encode(images.tobytes()).decode()
    return {
        "step": look.step,
        "losses": look.losses,
        "images": {"shape": images.shape, "pixels": pixels},
    }


def _say(kind: str, **facts: object) -> None:
    print(json.dumps({"kind": kind, **facts}), flush=True)  # noqa: T201 - its way to speak


def follow(address: str, world: int, first_rank: int, here: int) -> None:
    """The processes of a further host: training after training, until this one is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    crew = Crew(here, world, address)
    while True:
        with started(crew, MODULE, "", first_rank=first_rank) as processes:
            processes[0].wait()


if __name__ == "__main__":
    if sys.argv[1] == "follow":
        place, *numbers = sys.argv[2:]
        follow(place, *(int(number) for number in numbers))
    else:
        be_one(sys.argv[1])
