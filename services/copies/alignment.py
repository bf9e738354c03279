"""How alike two pictures are once one is moved to where it fits the other best.

The enhanced correlation coefficient of Evangelidis and Psarakis (IEEE TPAMI 30(10), 2008): Gauss-
Newton steps on the correlation itself, here over shift, angle and scale. Copies that lie between
the moves of an index come out as alike as those that lie on them; other people's pictures gain
little.
"""

import numpy as np

from services.copies.pictures import (
    FINE,
    STEP,
    TINY,
    Floats,
    Moves,
    Pictures,
    faded,
    places,
    sampled,
)

LIMITS = np.array([2.6, 2.6, np.deg2rad(5.0), 0.07], np.float32)
"""How far a move may go, so that the patch stays inside the picture."""
STEPS = 3


def aligned(patch: Floats, pictures: Pictures, moves: Moves) -> Floats:
    """(N,): the likeness of patches (N, 1024) of length 1 to pictures (N, 80, 80), pair by pair,
    looked for from `moves` (N, 4).
    """
    layers = _with_slopes(pictures.astype(np.float32))
    best = np.full(len(patch), -1.0, np.float32)
    p = moves.copy()
    for step in range(STEPS + 1):
        y, x = places(p)
        moved = sampled(layers, y, x)
        w = faded(moved[..., 0])  # (N, 1024)
        norm = np.linalg.norm(w, axis=1)
        fit = (patch * w).sum(axis=1)
        best = np.maximum(best, fit / np.maximum(norm, TINY))
        if step == STEPS:
            break
        J = _jacobian(moved[..., 1], moved[..., 2], y, x, p)  # (N, 4, 1024)
        p = np.clip(p + _advance(J, patch, w, norm, fit), -LIMITS, LIMITS)
    return best


def _with_slopes(pictures: Floats) -> Floats:
    """(N, 80, 80, 3): the pictures, and how they change downwards and to the right."""
    down, right = (np.asarray(g) for g in np.gradient(pictures, axis=(1, 2)))
    return np.stack([pictures, down, right], axis=-1)


def _jacobian(gy: Floats, gx: Floats, y: Floats, x: Floats, p: Moves) -> Floats:
    """How the moved patch changes with shift, angle and scale."""
    middle = (FINE - 1) / 2
    v, u = y - middle - p[:, :1] * STEP, x - middle - p[:, 1:2] * STEP
    J = np.stack([gy * STEP, gx * STEP, gx * v - gy * u, gy * v + gx * u], axis=1)
    return faded(J.astype(np.float32, copy=False))


def _advance(J: Floats, patch: Floats, w: Floats, norm: Floats, fit: Floats) -> Moves:
    """The step that the correlation asks for: equations 20 and 21 of the paper."""
    H = J @ J.transpose(0, 2, 1)
    G = np.linalg.pinv(H, hermitian=True)
    of_patch, of_w = (J @ patch[:, :, None])[:, :, 0], (J @ w[:, :, None])[:, :, 0]
    to_patch, to_w = (np.einsum("nij,nj->ni", G, a) for a in (of_patch, of_w))
    rest = fit - (of_patch * to_w).sum(axis=1)
    over = norm**2 - (of_w * to_w).sum(axis=1)
    gain = np.where(rest > TINY, over / np.maximum(rest, TINY), norm)
    return (gain[:, None] * to_patch - to_w).astype(np.float32)
