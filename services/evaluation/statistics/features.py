"""What distances between sets of images are measured in.

The choice decides what a distance sees, and is contested (Kynkäänniemi et al., ICLR 2023; Stein et
al., NeurIPS 2023): so there are several, each with its name and version beside every number.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.copies.pictures import DESCRIPTOR, descriptors, patches, picture
from services.evaluation.statistics.cases import Floats

Pixels = NDArray[np.uint8]
GRID = 12
OCTAVES, CELLS = 3, 4
"""Of texture: scales from the finest, and cells across."""
UNIT = 2**OCTAVES * CELLS
"""Pixels of the smallest image that has texture; sides are cut to multiples of it."""


class Space(Protocol):
    """What vectors of images are in. A change of what it gives of an image is a new version."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def about(self) -> str: ...

    @property
    def dimension(self) -> int: ...


class Features(Space, Protocol):
    """A map from images to vectors."""

    def __call__(self, images: Sequence[Pixels], /) -> Floats:
        """N images (H, W), of whatever sizes, to (N, dimension)."""
        ...


class Descriptors:
    """The lowest 144 frequencies of an image without its exposure and local contrast: what near
    copies are looked for with. Blind to how bright an image is, and to fine texture.

    Of mean square 1, as the kernel of KID divides by the dimension: shorter ones would leave it
    next to linear.
    """

    name, version, dimension = "descriptors", "1", DESCRIPTOR
    about = "the coarse shapes of an image; exposure, local contrast and fine texture do not count"

    def __call__(self, images: Sequence[Pixels]) -> Floats:
        small = np.stack([picture(each) for each in images])
        return descriptors(patches(small)).astype(np.float64) * np.sqrt(DESCRIPTOR)


class GreyLevels:
    """Mean grey levels (0 to 1) of a grid of 12 x 12 fields: exposure, contrast and gross
    anatomy. Blind to everything smaller than a field.
    """

    name, version, dimension = "grey-levels", "1", GRID**2
    about = "how bright each of 12 x 12 fields is; nothing smaller than a field counts"

    def __call__(self, images: Sequence[Pixels]) -> Floats:
        size = (GRID, GRID)
        fields = [
            np.asarray(Image.fromarray(each).convert("F").resize(size, Image.Resampling.BOX))
            for each in images
        ]
        return np.stack(fields).reshape(len(images), -1).astype(np.float64) / 255


class Texture:
    """How rough an image is: the energy of its Haar details in 3 octaves from the finest, 3
    directions and 4 x 4 cells, as log10(1 + grey levels^2). Sees blur and noise, which the others
    do not; blind to what is where within a cell.
    """

    name, version, dimension = "texture", "1", OCTAVES * 3 * CELLS**2
    about = "how rough each of 4 x 4 fields is at 3 scales: blur and noise count, shapes do not"

    def __call__(self, images: Sequence[Pixels]) -> Floats:
        return np.stack([self._of(each) for each in images])

    def _of(self, image: Pixels) -> Floats:
        H, W = (max(UNIT, side // UNIT * UNIT) for side in image.shape)
        if min(image.shape) < UNIT:
            larger = Image.fromarray(image).resize((W, H), Image.Resampling.BILINEAR)
            image = np.asarray(larger)
        a = image[:H, :W].astype(np.float64)
        found: list[Floats] = []
        for _ in range(OCTAVES):
            p, q, r, s = a[::2, ::2], a[::2, 1::2], a[1::2, ::2], a[1::2, 1::2]
            details = np.stack([p - q + r - s, p + q - r - s, p - q - r + s]) / 2
            energy = details**2
            h, w = (side // CELLS for side in energy.shape[1:])
            found.append(energy.reshape(3, CELLS, h, CELLS, w).mean(axis=(2, 4)).ravel())
            a = (p + q + r + s) / 4
        return np.log10(1 + np.concatenate(found))


OFFERED: tuple[Features, ...] = (Descriptors(), GreyLevels(), Texture())
