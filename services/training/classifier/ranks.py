"""Training by several processes of this host, one a GPU.

`train` starts them and speaks with number 0 over its pipes; the worker that calls it keeps the
lease, hears of cancelling and passes it on. Every process has the same state and takes its own
images of every batch.

    python -m services.training.classifier.ranks FOLDER    one process, started by `train`
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import distributed

from services.crew.member import Ear, Member
from services.crew.starting import MEMORY_EXIT, STOP, Crew, CrewFailed, started
from services.training.classifier import specs, stretches
from services.training.classifier.stretches import Kernels
from services.training.ports.engine import (
    CheckpointMismatchError,
    CurvePoint,
    EngineError,
    NotFiniteError,
    Outcome,
    OutOfDeviceMemoryError,
    RunSpec,
    WeightsMismatchError,
)

MODULE = "services.training.classifier.ranks"
TASK = "task.json"
TOLD = (NotFiniteError, CheckpointMismatchError, WeightsMismatchError, EngineError)
"""What all processes find alike, and number 0 tells."""


def train(
    spec: RunSpec,
    folder: Path,
    kernels: Kernels,
    processes: int,
    *,
    resume: Path | None,
    pause: Callable[[], bool],
    progress: Callable[[int], None],
) -> Outcome:
    """The same as `stretches.train`, by a crew."""
    told = folder / "crew"
    specs.write(spec if resume is None else specs.going_on(spec), told)
    task = {"kernels": asdict(kernels), "folder": str(folder), "resume": resume and str(resume)}
    (told / TASK).write_text(json.dumps(task))
    here = min(processes, spec.batch_size, len(spec.validation.rows))
    stopped = False
    with started(Crew(here, here).meeting(), MODULE, str(told)) as members:
        first = members[0]
        assert first.stdin is not None  # noqa: S101 - both are pipes
        assert first.stdout is not None  # noqa: S101 - likewise
        for line in first.stdout:
            said = json.loads(line)
            match said.pop("kind"):
                case "progress":
                    progress(said["step"])
                case "over":
                    return _outcome(said)
                case error:
                    raise {each.__name__: each for each in TOLD}[error](said["message"])
            if not stopped and pause():
                stopped = True
                first.stdin.write(f"{STOP}\n")
                first.stdin.flush()
    if any(member.returncode == MEMORY_EXIT for member in members):
        msg = f"a batch of {spec.batch_size} images does not fit {here} devices"
        raise OutOfDeviceMemoryError(msg)
    msg = "a process of the training ended before its time"
    raise CrewFailed(msg)


def _outcome(said: dict[str, Any]) -> Outcome:
    points = [CurvePoint(**point) for point in said.pop("curve")]
    checkpoint, classifier = said.pop("checkpoint"), said.pop("classifier")
    return Outcome(
        **said,
        curve=tuple(points),
        checkpoint=Path(checkpoint) if checkpoint else None,
        classifier=Path(classifier) if classifier else None,
    )


# ---------------------------------------------------------------- a process of the crew


def be_one(folder: Path) -> None:
    """Train as one of a crew. Number 0 says on its standard output how it goes, line by line."""
    ear = Ear()
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    peers = Member(accelerator)
    task = json.loads((folder / TASK).read_text())
    try:
        outcome = stretches.train(
            specs.read(folder),
            Path(task["folder"]),
            peers.device,
            Kernels(**task["kernels"]),
            peers=peers,
            resume=task["resume"] and Path(task["resume"]),
            pause=ear.stop.is_set,
            progress=lambda step: _say(peers, "progress", step=step),
        )
    except OutOfDeviceMemoryError:
        os._exit(MEMORY_EXIT)  # the others are waiting: no farewell
    except EngineError as error:
        _say(peers, type(error).__name__, message=str(error))
    else:
        _say(peers, "over", **asdict(outcome))
    accelerator.wait_for_everyone()
    distributed.destroy_process_group()


def _say(peers: Member, kind: str, **facts: object) -> None:
    if peers.rank == 0:
        print(json.dumps({"kind": kind, **facts}, default=str), flush=True)  # noqa: T201 - its way to speak


if __name__ == "__main__":
    be_one(Path(sys.argv[1]))
