"""Why a run fails for good, as problems: trying again would end the same way."""

from collections.abc import Generator
from contextlib import contextmanager

from services.kit.errors import Unprocessable
from services.training.ports.engine import (
    NotFiniteError,
    OutOfDeviceMemoryError,
    WeightsMismatchError,
)
from services.training.service.pretrained import PretrainedUnusable


class TrainingDiverged(Unprocessable):
    slug = "training-diverged"
    title = "The training loss became infinite or NaN"


class BatchTooLarge(Unprocessable):
    slug = "batch-too-large"
    title = "The device's memory does not hold a batch"


@contextmanager
def engine_problems(whose: str) -> Generator[None]:
    """An engine's errors as problems of the request; `whose` says what was trained."""
    try:
        yield
    except NotFiniteError as error:
        raise TrainingDiverged(f"{whose}: {error}", field="classifier.learning_rate") from error
    except WeightsMismatchError as error:
        raise PretrainedUnusable(f"Of this file, {error}", field="classifier.pretrained") from error
    except OutOfDeviceMemoryError as error:
        raise BatchTooLarge(f"{whose}: {error}", field="classifier.batch_size") from error
