"""The healthy phantom chest, and the findings that are a change of its shape.

Brightness is opacity: 0 is air, 1 is metal. Knows no labels' names but those findings that
reshape an organ; what is laid over the lungs is in `pathology`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from api_schemas.findings import Finding
from services.datasets.importers.phantom.canvas import Array, Canvas, Variation

SHAPE_DRAWS = (
    "habitus",
    "lung height",
    "lung width",
    "heart width",
    "heart height",
    "vessels",
    "knob",
    "rib phase",
    "rib slope",
    "bone",
    "breast",
    "tissue",
)
"""Random numbers of a patient; they stay from image to image."""
POSE_DRAWS = ("breath", "shift", "rotation", "bubble")
"""Random numbers of an image."""

LUNG_TOP = -0.74
TISSUE, LUNG, HEART, BELLY = 0.52, 0.17, 0.70, 0.66


@dataclass(frozen=True)
class Body:
    """Who is drawn: (N, 1, 1) each, `strength` 0 where a finding is absent."""

    female: Array
    age: Array  # decades from 55
    anteroposterior: Array
    strength: Mapping[Finding, Array]
    side: Mapping[Finding, Array]  # -1 image left, 1 image right

    def take(self, which: npt.NDArray[np.intp]) -> "Body":
        return Body(
            self.female[which],
            self.age[which],
            self.anteroposterior[which],
            {f: a[which] for f, a in self.strength.items()},
            {f: a[which] for f, a in self.side.items()},
        )


@dataclass(frozen=True)
class Chest:
    """The drawn chest with what the findings need to find their place."""

    image: Array  # (N, H, W)
    outer: Array  # (N, H, 1) half width of the pleural cavity at each height
    inner: Array  # (N, 1, 1) half width of the mediastinum
    floor: Array  # (N, 1, 1) height of the diaphragm's dome
    left: Array  # (N, H, W) lung mask at the image's left, the heart in front left out
    right: Array

    def take(self, which: npt.NDArray[np.intp]) -> "Chest":
        return Chest(
            self.image[which],
            self.outer[which],
            self.inner[which],
            self.floor[which],
            self.left[which],
            self.right[which],
        )

    def lung(self, side: Array) -> Array:
        return np.where(side < 0, self.left, self.right)


def over(image: Array, mask: Array, opacity: Array | float) -> Array:
    """`image` with `mask` painted in `opacity`."""
    return image + mask * (opacity - image)


def draw_chest(canvas: Canvas, body: Body, shape: Variation, pose: Variation) -> Chest:
    """A chest of every patient of the batch."""
    x = canvas.x - pose.between("shift", -0.03, 0.03)
    canvas = Canvas(x, canvas.y, canvas.pen)
    outer, trunk = _outlines(canvas, body, shape)
    floor = _floor(body, shape, pose)
    inner = 0.105 + 0.02 * shape["heart width"] + 0 * floor
    left = _lung(canvas, -1, outer, inner, _dome(canvas, -1, floor, body))
    right = _lung(canvas, 1, outer, inner, _dome(canvas, 1, floor, body))
    image = TISSUE * trunk * shape.between("tissue", 0.92, 1.08)
    image = over(image, trunk * canvas.inside(canvas.y - floor - 0.1, 0.3), BELLY)
    image = over(image, left + right, LUNG)
    image += _ribs(canvas, body, shape, outer, floor)
    image = over(image, _mediastinum(canvas, body, shape), 0.62)
    heart = _heart(canvas, body, shape, floor)
    image = over(image, heart, HEART)
    image += _bones(canvas, body, shape) + _breasts(canvas, body, shape)
    image += _view_signs(canvas, body, pose, floor)
    seen = 1 - 0.85 * heart
    return Chest(image, outer, inner, floor, left * seen, right * seen)


def _outlines(canvas: Canvas, body: Body, shape: Variation) -> tuple[Array, Array]:
    """Half width of the pleural cavity (N, H, 1) and the mask of the trunk (N, H, W)."""
    width = shape.between("lung width", 0.64, 0.72) - 0.05 * body.female
    t = np.clip((canvas.y - LUNG_TOP) / 1.3, 0, 1)
    outer = width * np.sqrt(1 - (1 - t) ** 3)
    wall = 0.10 + 0.10 * shape["habitus"] - 0.03 * body.female
    shoulder = np.clip((canvas.y + 0.98) / 0.3, 0, 1)
    trunk = 0.2 + (width + wall - 0.2) * shoulder**0.7
    return outer, canvas.inside(trunk - np.abs(canvas.x))


def _floor(body: Body, shape: Variation, pose: Variation) -> Array:
    height = shape.between("lung height", 0.38, 0.48) + pose.between("breath", -0.03, 0.03)
    return height - 0.06 * body.anteroposterior - 0.012 * body.age


def _dome(canvas: Canvas, side: int, floor: Array, body: Body) -> Array:
    """Height of one half of the diaphragm: domed, the image's left a little higher."""
    collapsed = body.side[Finding.ATELECTASIS] == side
    raised = 0.18 * body.strength[Finding.ATELECTASIS] * collapsed
    u = (side * canvas.x - 0.36) / 0.34
    return floor - raised - 0.04 * (side < 0) + 0.17 * u * u


def _lung(canvas: Canvas, side: int, outer: Array, inner: Array, dome: Array) -> Array:
    lateral = side * canvas.x
    across = canvas.inside(outer - lateral) * canvas.inside(lateral - inner, 0.02)
    return across * canvas.inside(dome - canvas.y) * canvas.inside(canvas.y - LUNG_TOP)


def _ribs(canvas: Canvas, body: Body, shape: Variation, outer: Array, floor: Array) -> Array:
    """Posterior ribs as a periodic band that falls to the side; bone thins with age."""
    away = np.abs(canvas.x)
    slope = shape.between("rib slope", 0.30, 0.42)
    phase = (canvas.y - slope * away * away) / 0.235 + shape["rib phase"] * 0.3
    bands = np.clip(1.4 * np.cos(2 * np.pi * phase) - 0.25, 0, 1)
    cage = canvas.inside(outer + 0.04 - away) * canvas.inside(floor + 0.15 - canvas.y, 0.1)
    density = shape.between("bone", 0.12, 0.15) * (1 - 0.16 * body.age - 0.08 * body.female)
    return density * bands * cage


def _mediastinum(canvas: Canvas, body: Body, shape: Variation) -> Array:
    """Spine and great vessels; the aortic knob grows with age."""
    wide = 0.11 * body.strength[Finding.ENLARGED_CARDIOMEDIASTINUM]
    bulge = np.exp(-(((canvas.y + 0.36) / 0.26) ** 2))
    half = shape.between("vessels", 0.10, 0.13) + wide * bulge
    trunk = canvas.inside(half - np.abs(canvas.x), 0.02)
    radius = np.maximum(0.055 + 0.02 * shape["knob"] + 0.016 * body.age, 0.02)
    knob = canvas.ellipse(0.11 + 0.5 * radius, -0.33 + 0 * radius, radius, 1.15 * radius)
    return np.maximum(trunk, knob)


def _heart(canvas: Canvas, body: Body, shape: Variation, floor: Array) -> Array:
    magnified = 1 + 0.10 * body.anteroposterior
    enlarged = body.strength[Finding.CARDIOMEGALY]
    rx = shape.between("heart width", 0.24, 0.30) * magnified * (1 + 0.45 * enlarged)
    ry = shape.between("heart height", 0.24, 0.28) * magnified * (1 + 0.12 * enlarged)
    cy = floor - 0.62 * ry
    tilted = canvas.y - 0.25 * canvas.x
    cx = 0.08 + 0.05 * enlarged
    u, v = (canvas.x - cx) / rx, (tilted - cy) / ry
    return canvas.inside((1 - np.sqrt(u * u + v * v)) * ry, 0.02)


def _bones(canvas: Canvas, body: Body, shape: Variation) -> Array:
    """Clavicles and vertebrae."""
    away = np.abs(canvas.x)
    density = shape.between("bone", 0.15, 0.2) * (1 - 0.1 * body.age - 0.08 * body.female)
    height = -0.60 - 0.16 * (away - 0.1) - 0.05 * body.anteroposterior
    ends = canvas.inside(away - 0.09) * canvas.inside(0.68 - away)
    clavicles = canvas.line(canvas.y - height, 0.06) * ends
    vertebrae = 0.5 * canvas.inside(0.075 - away) * (np.cos(canvas.y * 26) > 0)
    return density * (clavicles + vertebrae)


def _breasts(canvas: Canvas, body: Body, shape: Variation) -> Array:
    """Soft shadows over the lower lungs of female phantoms."""
    r = shape.between("breast", 0.24, 0.33)
    away = np.abs(canvas.x)
    d = 1 - np.sqrt(((away - 0.40) / r) ** 2 + ((canvas.y - 0.22) / (0.9 * r)) ** 2)
    lower = 0.45 + 0.55 * np.clip((canvas.y - 0.22) / r, 0, 1)
    return 0.20 * body.female * canvas.inside(d * r, 0.05) * lower


def _view_signs(canvas: Canvas, body: Body, pose: Variation, floor: Array) -> Array:
    """PA (standing): a gas bubble under the image's right dome. AP (lying): shoulder blades."""
    ap = body.anteroposterior
    bubble = canvas.ellipse(
        0.36 + 0 * floor, floor + 0.20, pose.between("bubble", 0.11, 0.16), 0.07
    )
    blade = canvas.line(np.abs(canvas.x) - 0.60 - 0.10 * canvas.y, 0.09)
    blade *= canvas.inside(0.05 - canvas.y) * canvas.inside(canvas.y + 0.58)
    return 0.17 * ap * blade - 0.34 * (1 - ap) * bubble
