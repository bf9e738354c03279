"""How like is too like: a threshold from real pictures, and a proof that it finds copies.

The likeness of a real picture to the likest of *other* patients' is what a synthetic one may have
by chance. Its distribution depends on the pictures and on how many there are, so each generator
has its own. Knows arrays.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import rotate, shift

from services.copies.pictures import Floats, Pixels

FALSE_FLAGS = 0.01
LEAST = 99
"""Real pictures below which the likest of them is no 99th percentile."""
FOLDS = 5
NOISE = 10.0
"""Grey levels."""
SHIFT, ANGLE = 0.04, 3.0

Change = Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]


@dataclass(frozen=True)
class Null:
    """What real pictures are taken for copies of other patients' at `threshold`.

    `rate` is cross-fitted: each patient's pictures are judged by a threshold from the others.
    """

    threshold: float
    rate: float


def threshold(like: Floats) -> float:
    """Above it lies a new picture of the same kind with a chance of at most 1 %.

    `like` are at least `LEAST` likenesses. By rank: the chance is (n + 1 - k) / (n + 1).
    """
    n = len(like)
    k = min(n, int(np.ceil((1.0 - FALSE_FLAGS) * (n + 1))))
    return rounded(np.sort(like)[k - 1])


def null(like: Floats, patients: Sequence[str]) -> Null | None:
    """Of the likenesses of real pictures and whose they are; None where there are too few."""
    if len(like) < LEAST:
        return None
    number = {patient: place for place, patient in enumerate(dict.fromkeys(patients))}
    fold = np.array([number[patient] % FOLDS for patient in patients])
    wrong = 0
    for each in range(FOLDS):
        mine, others = like[fold == each], like[fold != each]
        if len(mine) and len(others):
            wrong += int(above(mine, threshold(others)).sum())
    return Null(threshold(like), wrong / len(like))


def above(like: Floats, limit: float) -> NDArray[np.bool_]:
    """What counts as a copy; to four digits, so that the last bits of a sum decide nothing."""
    return np.round(like.astype(np.float64), 4) > limit


def rounded(value: np.floating) -> float:
    return round(float(value), 4)


# ---------------------------------------------------------------- injected copies


def _flipped(px: NDArray[np.float32], _: np.random.Generator) -> NDArray[np.float32]:
    return px[:, ::-1]


def _shifted(px: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    way = rng.choice((-SHIFT, SHIFT), 2) * px.shape
    return np.asarray(shift(px, way, order=1, mode="constant"), np.float32)


def _rotated(px: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    turned = rotate(px, rng.choice((-ANGLE, ANGLE)), reshape=False, order=1, mode="constant")
    return np.asarray(turned, np.float32)


def _noisy(px: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    return px + rng.normal(0.0, NOISE, px.shape).astype(np.float32)


ALTERATIONS: Mapping[str, tuple[Change, ...]] = MappingProxyType(
    {
        "flipped": (_flipped,),
        "shifted 4 %": (_shifted,),
        "rotated 3 degrees": (_rotated,),
        "noise": (_noisy,),
        "all four": (_flipped, _rotated, _shifted, _noisy),
    }
)
"""What is done to copies that are injected to see whether they are found. Shifts go along both
axes; what they and turns leave behind is black.
"""


def altered(pixels: Pixels, alteration: str, seed: int) -> Pixels:
    """A copy of a picture, altered as `ALTERATIONS` says."""
    rng = np.random.default_rng(seed)
    px = pixels.astype(np.float32)
    for change in ALTERATIONS[alteration]:
        px = change(px, rng)
    return np.clip(np.rint(px), 0, 255).astype(np.uint8)
