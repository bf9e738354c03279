"""How alike two images look: multi-scale structural similarity, MS-SSIM.

Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment",
Asilomar 2003; window and constants of Wang et al., IEEE TIP 13(4), 2004.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from services.evaluation.statistics.cases import Floats

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""beta_j of scales 1 to 5 (section 3.2 of the paper)."""
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


class TooSmall(ValueError):
    """No window fits into the image."""


def scales(height: int, width: int) -> int:
    """How many of the five scales an image has room for: 5 from 176 px on, 3 at 64 px."""
    fit = [j for j in range(len(WEIGHTS)) if min(height, width) // 2**j >= WINDOW]
    if not fit:
        msg = f"{min(height, width)} px: a window has {WINDOW}"
        raise TooSmall(msg)
    return len(fit)


def ms_ssim(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> float:
    """MS-SSIM of two images (H, W) of 8 bits; 1 for the same.

    [l_M]^beta_M prod_j [c_j s_j]^beta_j over the scales that fit, their weights made to sum to 1.
    A mean of c s below zero counts as zero, which the paper leaves open. Raises `TooSmall`.
    """
    M = scales(*x.shape)
    beta = np.array(WEIGHTS[:M]) / sum(WEIGHTS[:M])
    a, b = x.astype(np.float64), y.astype(np.float64)
    product = 1.0
    for j in range(M):
        luminance, structure = _compared(a, b)
        term = luminance * structure if j == M - 1 else structure
        product *= max(0.0, float(term.mean())) ** float(beta[j])
        a, b = _halved(a), _halved(b)
    return product


def _compared(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """The terms l and c s of every window that lies inside the images."""
    mu, nu, aa, bb, ab = _blurred(np.stack([a, b, a * a, b * b, a * b]))
    luminance = (2 * mu * nu + C1) / (mu * mu + nu * nu + C1)
    structure = (2 * (ab - mu * nu) + C2) / (aa - mu * mu + bb - nu * nu + C2)
    return luminance, structure


def _blurred(layers: Floats) -> Floats:
    axis = np.arange(WINDOW) - WINDOW // 2
    g = np.exp(-(axis**2) / (2 * SIGMA**2))
    g /= g.sum()
    rim = WINDOW // 2
    blurred = correlate1d(correlate1d(layers, g, axis=1), g, axis=2)
    return blurred[:, rim:-rim, rim:-rim]


def _halved(a: Floats) -> Floats:
    """The means of 2 x 2 pixels; an odd last row or column is left out."""
    H, W = (side // 2 * 2 for side in a.shape)
    return a[:H, :W].reshape(H // 2, 2, W // 2, 2).mean(axis=(1, 3))
