"""Draws samples of the phantom population, scanner, frame and all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from api_schemas.findings import FINDINGS, Race, Sex, View
from api_schemas.imports import PhantomSite
from services.datasets.importers.phantom.anatomy import (
    POSE_DRAWS,
    SHAPE_DRAWS,
    Body,
    draw_chest,
)
from services.datasets.importers.phantom.canvas import Array, Canvas, Variation, column, grid
from services.datasets.importers.phantom.pathology import PLACE_DRAWS, paint_findings
from services.datasets.importers.phantom.population import PhantomSample, stream

PATIENT_STREAM, IMAGE_STREAM = 1, 2
BATCH_PIXELS = 2**18
"""Pixels drawn at once: the working arrays stay in the processor's cache."""
SUPERSAMPLED_PX = 128
"""Up to this size a picture is drawn at twice its size and averaged down."""
WEAKEST = 0.25
"""Every finding that is there shows at least this strongly."""
FRAME = 0.125
RACE_BLOCK = 0.30

PATIENT_DRAWS = (
    *SHAPE_DRAWS,
    *PLACE_DRAWS,
    *(f"strength {f}" for f in FINDINGS),
    *(f"side {f}" for f in FINDINGS),
)
IMAGE_DRAWS = (*POSE_DRAWS, "gamma", "contrast", "noise", *(f"change {f}" for f in FINDINGS))
_PATIENT_NAMES = {name: k for k, name in enumerate(PATIENT_DRAWS)}
_IMAGE_NAMES = {name: k for k, name in enumerate(IMAGE_DRAWS)}


@dataclass(frozen=True)
class Scanner:
    """How a site's machine renders opacity. `unsharp` is the width of an edge (image is 2)."""

    gamma: float
    contrast: float
    offset: float
    unsharp: float
    noise: float
    vignette: float


SCANNERS: Mapping[PhantomSite, Scanner] = {
    PhantomSite.A: Scanner(1.0, 1.0, 0.0, 0.05, 0.025, 0.0),
    PhantomSite.B: Scanner(0.8, 0.92, 0.03, 0.08, 0.020, 0.08),
    PhantomSite.C: Scanner(1.2, 1.08, -0.01, 0.04, 0.045, 0.05),
}


def draw(samples: Sequence[PhantomSample], size_px: int) -> npt.NDArray[np.uint8]:
    """The pictures of `samples`, (N, H, W) uint8 with H = W = `size_px`.

    A picture depends on its own sample and the size alone, never on its neighbours.
    """
    factor = 2 if size_px <= SUPERSAMPLED_PX else 1
    at_once = max(1, BATCH_PIXELS // (factor * size_px) ** 2)
    parts = [
        _draw_batch(samples[i : i + at_once], size_px, factor)
        for i in range(0, len(samples), at_once)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, size_px, size_px), np.uint8)


def _draw_batch(
    samples: Sequence[PhantomSample], size_px: int, factor: int
) -> npt.NDArray[np.uint8]:
    patient, image, grain = _random(samples, size_px)
    scanners = [SCANNERS[s.site] for s in samples]
    canvas = grid(factor * size_px, column([s.unsharp for s in scanners]))
    body = _body(samples, patient, image)
    chest = draw_chest(canvas, body, patient, image)
    picture = paint_findings(canvas, chest, body, patient)
    picture = _expose(canvas, picture, scanners, image)
    picture = _frame(canvas, picture, samples)
    n = len(samples)
    picture = picture.reshape(n, size_px, factor, size_px, factor).mean((2, 4))
    sigma = column([s.noise for s in scanners]) * image.between("noise", 0.7, 1.3)
    return (np.clip(picture + sigma * grain, 0, 1) * 255 + 0.5).astype(np.uint8)


def _random(samples: Sequence[PhantomSample], size_px: int) -> tuple[Variation, Variation, Array]:
    """What varies by patient, by image, and the grain of each image (N, H, W)."""
    patient = np.empty((len(samples), len(PATIENT_DRAWS)), np.float32)
    image = np.empty((len(samples), len(IMAGE_DRAWS)), np.float32)
    grain = np.empty((len(samples), size_px, size_px), np.float32)
    for n, s in enumerate(samples):
        stream(s.site, s.seed, PATIENT_STREAM, s.patient).random(out=patient[n], dtype=np.float32)
        rng = stream(s.site, s.seed, IMAGE_STREAM, s.patient, s.image)
        rng.random(out=image[n], dtype=np.float32)
        rng.standard_normal(out=grain[n], dtype=np.float32)
    return Variation(_PATIENT_NAMES, patient), Variation(_IMAGE_NAMES, image), grain


def _body(samples: Sequence[PhantomSample], patient: Variation, image: Variation) -> Body:
    strength = {
        f: column([f in s.truth for s in samples])
        * (WEAKEST + (1 - WEAKEST) * patient[f"strength {f}"])
        * image.between(f"change {f}", 0.8, 1.2)
        for f in FINDINGS
    }
    return Body(
        female=column([s.sex is Sex.FEMALE for s in samples]),
        age=column([(s.age - 55) / 10 for s in samples]),
        anteroposterior=column([s.view is View.AP for s in samples]),
        strength=strength,
        side={f: patient.sign(f"side {f}") for f in FINDINGS},
    )


def _expose(canvas: Canvas, picture: Array, scanners: Sequence[Scanner], image: Variation) -> Array:
    """Opacity to grey, as the site's scanner renders it."""
    gamma = column([s.gamma for s in scanners]) * image.between("gamma", 0.92, 1.08)
    contrast = column([s.contrast for s in scanners]) * image.between("contrast", 0.94, 1.06)
    offset = column([s.offset for s in scanners])
    dark = column([s.vignette for s in scanners]) * (canvas.x**2 + canvas.y**2)
    return np.clip(picture, 0, 1) ** gamma * contrast + offset - dark


def _frame(canvas: Canvas, picture: Array, samples: Sequence[PhantomSample]) -> Array:
    """The ruler-like frame that says "phantom", with the block that codes the race group.

    The block stands at one of five places at the lower edge: an arbitrary code, no anatomy.
    """
    x, y = np.abs(canvas.x), np.abs(canvas.y)
    band = np.maximum(x, y) > 1 - FRAME
    along = np.where(y > x, canvas.x, canvas.y)
    ticks = 0.25 + 0.45 * (np.sin(along * 8 * np.pi) > 0)
    framed = np.where(band, ticks.astype(np.float32), picture)
    centre = column([(tuple(Race).index(s.race) - 2) * 0.36 for s in samples])
    bottom = canvas.y > 1 - FRAME
    framed = np.where(bottom, np.float32(0.05), framed)
    return np.where(bottom & (np.abs(canvas.x - centre) < RACE_BLOCK / 2), np.float32(1), framed)
