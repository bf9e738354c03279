"""MS-SSIM against the formula, window by window."""

import math

import numpy as np
import pytest

from services.evaluation.statistics.ssim import TooSmall, ms_ssim, scales


def picture(seed: int, side: int = 24) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(rng.normal(size=(side, side)), axis=1)
    return np.clip(128 + 25 * smooth, 0, 255).astype(np.uint8)


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """Equation 7 of the paper in loops; two scales, as 24 px have."""
    g = [math.exp(-(k**2) / 4.5) for k in range(-5, 6)]
    w = np.array([[a * b for b in g] for a in g]) / sum(g) ** 2
    c1, c2 = 2.55**2, 7.65**2
    total = 0.0448 + 0.2856
    value, a, b = 1.0, x.astype(float), y.astype(float)
    for scale, beta in enumerate([0.0448 / total, 0.2856 / total]):
        terms = []
        for r in range(len(a) - 10):
            for c in range(len(a) - 10):
                p, q = a[r : r + 11, c : c + 11], b[r : r + 11, c : c + 11]
                mu, nu = (w * p).sum(), (w * q).sum()
                vp, vq = (w * (p - mu) ** 2).sum(), (w * (q - nu) ** 2).sum()
                cov = (w * (p - mu) * (q - nu)).sum()
                cs = (2 * cov + c2) / (vp + vq + c2)
                luminance = (2 * mu * nu + c1) / (mu**2 + nu**2 + c1)
                terms.append(cs * luminance if scale == 1 else cs)
        value *= max(0.0, float(np.mean(terms))) ** beta
        a, b = (
            np.array(
                [
                    [z[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean() for c in range(len(z) // 2)]
                    for r in range(len(z) // 2)
                ]
            )
            for z in (a, b)
        )
    return value


@pytest.mark.parametrize("noise", [5, 40])
def test_it_is_the_formula(noise: int) -> None:
    x = picture(1)
    other = x + np.random.default_rng(2).normal(0, noise, x.shape)
    y = np.clip(other, 0, 255).astype(np.uint8)
    found = ms_ssim(x, y)
    assert 0.2 < found < 0.999
    assert found == pytest.approx(by_hand(x, y), rel=1e-9)
    assert found == pytest.approx(ms_ssim(y, x), rel=1e-12)


@pytest.mark.parametrize("side", [11, 31, 64, 256])
def test_an_image_is_like_itself(side: int) -> None:
    x = picture(3, side)
    assert ms_ssim(x, x) == pytest.approx(1, abs=1e-12)
    assert ms_ssim(x, picture(4, side)) < 0.9


def test_a_negative_is_not_alike_and_no_complex_number() -> None:
    x = picture(5)
    assert ms_ssim(x, 255 - x) == 0


def test_small_images_have_fewer_scales() -> None:
    assert [scales(side, 300) for side in (11, 32, 64, 128, 175, 176, 256)] == [1, 2, 3, 4, 4, 5, 5]
    with pytest.raises(TooSmall):
        scales(300, 10)
