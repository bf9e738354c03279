"""The findings that are laid over the chest, each in a place and manner of its own.

A painter gets the pictures that have its finding and returns them painted. `away` is the
distance from the midline towards the finding's side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from api_schemas.findings import Finding
from services.datasets.importers.phantom.anatomy import LUNG_TOP, Body, Chest, over
from services.datasets.importers.phantom.canvas import Array, Canvas, Variation

PLACE_DRAWS = (
    "effusion level",
    "consolidation height",
    "consolidation size",
    "pneumonia height",
    "mottle x",
    "mottle y",
    "plate height",
    "plate tilt",
    "lesion height",
    "lesion away",
    "lesion size",
    "broken rib",
    "device",
    "catheter",
)
"""Random numbers of a patient that place the findings."""


@dataclass(frozen=True)
class Case:
    """The pictures that have one finding, their side of it and its strength there."""

    canvas: Canvas
    chest: Chest
    place: Variation
    strength: Array
    side: Array

    @property
    def away(self) -> Array:
        return self.side * self.canvas.x

    @property
    def lung(self) -> Array:
        return self.chest.lung(self.side)


def _pleural_effusion(case: Case) -> Array:
    """Fluid at one base, its surface climbing to the side (meniscus)."""
    level = (
        case.chest.floor
        - 0.08
        - 0.28 * case.strength * case.place.between("effusion level", 0.8, 1.2)
    )
    surface = level + 0.16 - 0.45 * np.clip(case.away - 0.15, 0, 1) ** 1.5
    fluid = case.canvas.inside(case.canvas.y - surface, 0.04) * case.lung
    return over(case.chest.image, fluid, 0.64)


def _pneumothorax(case: Case) -> Array:
    """A dark crescent without markings at one apex, edged by a thin pleural line."""
    canvas = case.canvas
    depth = 0.08 + 0.20 * case.strength
    fade = np.clip((0.15 - canvas.y) / 0.6, 0, 1)
    edge = case.chest.outer - depth * fade - case.away
    top = LUNG_TOP + 1.1 * depth * fade - canvas.y
    air = canvas.inside(np.maximum(-edge, top)) * case.lung * (fade > 0)
    image = over(case.chest.image, (0.3 + 0.6 * case.strength) * air, 0.02)
    pleura = canvas.line(np.maximum(-edge, top), 0.03) * case.lung * fade
    return image + 0.2 * case.strength * pleura


def _edema(case: Case) -> Array:
    """Haze around both hila, as the wings of a bat."""
    canvas, chest = case.canvas, case.chest
    u = (np.abs(canvas.x) - 0.2) / 0.20
    v = (canvas.y + 0.04) / 0.24
    haze = np.exp(-(u * u + v * v)) * (chest.left + chest.right)
    return chest.image + (0.04 + 0.24 * case.strength) * haze


def _consolidation(case: Case) -> Array:
    """One dense patch in an upper lobe, cut straight below by the fissure."""
    canvas, place = case.canvas, case.place
    cy = place.between("consolidation height", -0.40, -0.26)
    size = place.between("consolidation size", 0.13, 0.19)
    u, v = (case.away - 0.36) / (1.2 * size), (canvas.y - cy) / size
    patch = canvas.inside((1 - np.sqrt(u * u + v * v)) * size, 0.05)
    patch *= canvas.inside(cy + 0.5 * size - canvas.y)
    return over(case.chest.image, (0.45 + 0.5 * case.strength) * patch * case.lung, 0.62)


def _pneumonia(case: Case) -> Array:
    """Mottled shadows in one lower zone."""
    canvas, place = case.canvas, case.place
    u = (case.away - 0.38) / 0.24
    v = (canvas.y - place.between("pneumonia height", 0.10, 0.20)) / 0.17
    zone = np.exp(-(u * u + v * v)) * case.lung
    waves = np.sin(19 * canvas.x + 6.3 * place["mottle x"]) * np.sin(
        21 * canvas.y + 6.3 * place["mottle y"]
    )
    return case.chest.image + (0.16 + 0.24 * case.strength) * zone * (1 + 0.7 * waves)


def _atelectasis(case: Case) -> Array:
    """A plate-like streak over a raised diaphragm (the diaphragm is drawn with the chest)."""
    canvas, place = case.canvas, case.place
    cy = case.chest.floor - place.between("plate height", 0.26, 0.32)
    tilt = place.between("plate tilt", -0.15, 0.1)
    plate = canvas.line(canvas.y - cy - tilt * (case.away - 0.36), 0.09)
    plate *= canvas.inside(case.away - 0.16) * case.lung
    return case.chest.image + (0.30 + 0.30 * case.strength) * plate


def _lung_lesion(case: Case) -> Array:
    """A bright round nodule in a mid zone."""
    place = case.place
    r = place.between("lesion size", 0.065, 0.10)
    cx = case.side * place.between("lesion away", 0.38, 0.50)
    cy = place.between("lesion height", -0.16, 0.02)
    nodule = case.canvas.ellipse(cx, cy, r, r)
    return case.chest.image + (0.22 + 0.36 * case.strength) * nodule


def _lung_opacity(case: Case) -> Array:
    """A broad faint veil over the whole of one lung."""
    return case.chest.image + (0.06 + 0.14 * case.strength) * case.lung


def _fracture(case: Case) -> Array:
    """A lateral rib broken: a dark gap and the outer piece displaced downwards, with callus."""
    canvas = case.canvas
    cy = -0.36 + 0.12 * np.floor(2 * case.place["broken rib"])
    edge = case.chest.outer
    gap = np.exp(-(((case.away - edge + 0.25) / 0.06) ** 2) - ((canvas.y - cy + 0.04) / 0.09) ** 2)
    along = case.away - edge
    piece = canvas.line(canvas.y - cy - 0.10 - 0.9 * (along + 0.08), 0.13)
    piece *= canvas.inside(along + 0.20) * canvas.inside(0.06 - along)
    amount = 0.5 + 0.5 * case.strength
    return case.chest.image + amount * (0.42 * piece - 0.14 * gap)


def _support_devices(case: Case) -> Array:
    """A pacemaker with its lead, or a catheter from the neck; metal is the brightest."""
    canvas, place = case.canvas, case.place
    box = canvas.inside(0.085 - np.abs(case.away - 0.47)) * canvas.inside(
        0.075 - np.abs(canvas.y + 0.46)
    )
    bend = 0.47 - 0.42 * np.clip((canvas.y + 0.50) / 0.30, 0, 1) ** 0.6
    lead = canvas.line(case.away - bend, 0.035) * canvas.inside(canvas.y + 0.46)
    lead *= canvas.inside(0.2 - canvas.y)
    tip = place.between("catheter", -0.05, 0.25)
    catheter = canvas.line(case.away - 0.06 - 0.05 * np.cos(3 * canvas.y), 0.045)
    catheter *= canvas.inside(tip - canvas.y)
    pacemaker = place.chance("device")
    metal = np.where(pacemaker, np.maximum(box, lead), catheter)
    return over(case.chest.image, (0.35 + 0.5 * case.strength) * metal, 1.0)


def _pleural_other(case: Case) -> Array:
    """A thickened bright rim along one side wall."""
    width = 0.07 + 0.06 * case.strength
    rim = case.canvas.inside(case.away - case.chest.outer + width, 0.02) * case.lung
    rim *= np.clip((case.canvas.y + 0.30) / 0.2, 0, 1)
    return over(case.chest.image, (0.45 + 0.5 * case.strength) * rim, 0.72)


PAINTERS: Mapping[Finding, Callable[[Case], Array]] = {
    Finding.LUNG_OPACITY: _lung_opacity,
    Finding.EDEMA: _edema,
    Finding.PNEUMONIA: _pneumonia,
    Finding.CONSOLIDATION: _consolidation,
    Finding.ATELECTASIS: _atelectasis,
    Finding.LUNG_LESION: _lung_lesion,
    Finding.PNEUMOTHORAX: _pneumothorax,
    Finding.PLEURAL_OTHER: _pleural_other,
    Finding.PLEURAL_EFFUSION: _pleural_effusion,
    Finding.FRACTURE: _fracture,
    Finding.SUPPORT_DEVICES: _support_devices,
}
"""In the order of painting: hazes first, metal last."""


def paint_findings(canvas: Canvas, chest: Chest, body: Body, place: Variation) -> Array:
    """The pictures (N, H, W) with every finding laid over them that is not a change of shape."""
    image = chest.image
    for finding, painter in PAINTERS.items():
        which = np.flatnonzero(body.strength[finding][:, 0, 0] > 0)
        if which.size:
            case = Case(
                canvas.take(which),
                chest.take(which),
                place.take(which),
                body.strength[finding][which],
                body.side[finding][which],
            )
            image[which] = painter(case)
    return image
