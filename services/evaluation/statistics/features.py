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


class Features(Protocol):
    """A map from images to vectors. A change of what it gives is a new version."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def about(self) -> str: ...

    @property
    def dimension(self) -> int: ...

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


OFFERED: tuple[Features, ...] = (Descriptors(), GreyLevels())
