"""Patients dealt into parts that are alike.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011) with patients as the units and
their images' attributes, counted, as the labels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
"""(patients, attributes): how many of a patient's images have an attribute."""


def deal(x: Counts, images: NDArray[np.int64], shares: Sequence[float]) -> NDArray[np.intp]:
    """The part of each patient, so that part j has about `shares[j]` of every attribute.

    The rarest attribute goes first, for it is the hardest to share; each of its patients goes
    to the part that lacks it most, ties to the part that lacks images most. Patients are taken
    in the order given: shuffle them first.
    """
    r = np.array(shares) / sum(shares)
    c = r * images.sum()  # images that each part lacks
    C = np.outer(x.sum(axis=0), r)  # (attributes, parts): the same by attribute
    part = np.full(len(x), -1, dtype=np.intp)
    left = x.sum(axis=0)
    while (left > 0).any():
        rarest = int(np.where(left > 0, left, np.inf).argmin())
        for i in np.flatnonzero((part < 0) & (x[:, rarest] > 0)):
            j = _neediest(C[rarest], c)
            part[i] = j
            C[:, j] -= x[i]
            c[j] -= images[i]
            left -= x[i]
        left[rarest] = 0.0
    for i in np.flatnonzero(part < 0):
        part[i] = int(c.argmax())
        c[part[i]] -= images[i]
    return part


def _neediest(lacks: Counts, images: Counts) -> int:
    """The part with the greatest lack; of several the one that lacks most images."""
    most = lacks == lacks.max()
    return int(np.where(most, images, -np.inf).argmax())
