"""A small learnable problem: bright squares whose places are the labels."""

import numpy as np

from services.training.ports.engine import UNKNOWN, Part, RunSpec, StageSpec

SIZE_PX = 32
LABELS = ("left", "right", "never known")


def squares(count: int, seed: int, contrast: int = 120) -> Part:
    """`count` images with their truth; the third label is never known."""
    rng = np.random.default_rng(seed)
    images = rng.integers(40, 90, (count, SIZE_PX, SIZE_PX), dtype=np.uint8)
    targets = rng.integers(0, 2, (count, len(LABELS))).astype(np.int8)
    for image, (left, right, _) in zip(images, targets, strict=True):
        image[8:16, 4:12] += np.uint8(contrast * left)
        image[8:16, 20:28] += np.uint8(contrast * right)
    targets[:, 2] = UNKNOWN
    return Part(images, np.arange(count), targets)


def run_spec(steps: int, **changes: object) -> RunSpec:
    values = {
        "labels": LABELS,
        "size_px": SIZE_PX,
        "seed": 3,
        "stages": (StageSpec((squares(48, 1), squares(24, 2)), steps),),
        "validation": squares(40, 5),
        "preset": "fast",
        "batch_size": 16,
        "learning_rate": 1e-3,
        "weight_decay": 0.05,
        "validate_every": 10,
    }
    return RunSpec(**{**values, **changes})  # type: ignore[arg-type]
