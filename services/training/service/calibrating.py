"""What the worker does for a calibration: a few steps and a validation on random pixels."""

import statistics
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from api_schemas.findings import FINDINGS
from api_schemas.training import ClassifierSettings
from services.kit.jobs import Lease, step_of
from services.kit.scratch import temporary_folder
from services.training.models import Calibration
from services.training.ports.engine import Engine, Part, RunSpec, StageSpec
from services.training.service.failures import engine_problems
from services.training.service.speeds import Speed

STEPS = 8
UNSTEADY = 2
"""The first steps also wait for kernels to be chosen and memory to be found."""
VALIDATED = 256
"""Images of the validation that follows the last step."""

CALIBRATE = "calibrate"


class Calibrate:
    """The handler of calibration jobs: measures on the device of its worker, called `device`."""

    def __init__(self, engine: Engine, *, device: str, scratch: Path) -> None:
        self._engine = engine
        self._device = device
        self._scratch = scratch

    def __call__(self, lease: Lease) -> None:
        step_of(lease)
        settings = ClassifierSettings.model_validate(lease.inputs["classifier"])
        spec = _spec(settings, lease.inputs["size_px"])
        with temporary_folder(self._scratch, "run-") as folder:
            speed = self._measure(lease, spec, folder)
        with lease.finishing() as tx:
            row = tx.session.get_one(Calibration, lease.resource)
            row.device = self._device
            row.setup_s, row.step_s, row.image_s = speed.setup_s, speed.step_s, speed.image_s
            row.measured_at = datetime.now(UTC)

    def _measure(self, lease: Lease, spec: RunSpec, folder: Path) -> Speed:
        ends = [time.perf_counter()]

        def progress(step: int) -> None:
            ends.append(time.perf_counter())
            lease.stop_now()
            lease.progress(step, STEPS, "steps", "measuring speed")

        with engine_problems("Measuring its speed"):
            self._engine.train(spec, folder, resume=None, pause=lambda: False, progress=progress)
        began, *steps, last = ends
        return speed_of(began, steps, last)


def speed_of(began: float, steps: list[float], last: float) -> Speed:
    """From when training began, when each step but the last had ended, and when the last one and
    its validation had.
    """
    each = [after - before for before, after in pairwise(steps)]
    step_s = statistics.fmean(each[UNSTEADY - 1 :])
    return Speed(
        setup_s=max(0.0, steps[0] - began - step_s),
        step_s=step_s,
        image_s=max(0.0, last - steps[-1] - step_s) / VALIDATED,
    )


def _spec(settings: ClassifierSettings, size_px: int) -> RunSpec:
    """A run like those of an experiment with such settings, of nothing but noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (VALIDATED, size_px, size_px), dtype=np.uint8)
    rows = np.arange(VALIDATED)
    told = rng.integers(0, 2, (VALIDATED, len(FINDINGS))).astype(np.int8)
    everything = Part(images, rows, told)
    return RunSpec(
        labels=tuple(FINDINGS),
        size_px=size_px,
        seed=0,
        stages=(StageSpec((everything,), STEPS),),
        validation=everything,
        preset=settings.preset,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        validate_every=STEPS,
        precision=settings.precision,
    )
