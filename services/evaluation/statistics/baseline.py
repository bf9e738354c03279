"""The baseline of trivial features: how much of a label can be read from the frame of a picture.

Border, black rows, exposure and size say nothing of a lung. A classifier that does no better than
they may have learnt them. Knows arrays; does not know whose images they are.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.evaluation.statistics.cases import Bools, Cases, Floats, Ints, LabelCases, numbered
from services.evaluation.statistics.inference import Inference, auroc_inference
from services.evaluation.statistics.influence import auroc, placements

Pixels = NDArray[np.uint8]

BLACK, WHITE = 8, 247
"""Grey levels up to which a pixel is black, and from which it is white."""
RIM, CORNER = 0.04, 0.1
"""Of the shorter side: width of the border, side of a corner."""
FOLDS = 5
CHANCE = 0.5
PENALTY = 1.0
"""Half the squared length of the weights counts this much beside the log-likelihood."""
CLIP = 4.0
"""Standard deviations from the mean beyond which a feature is cut off."""
STEPS = 25
DECIMALS = 6
"""Scores are rounded: processors differ in later digits, and ranks must not."""
MOST = 10_000
"""Images that are read of a set, by whole patients."""


class Feature(NamedTuple):
    name: str
    about: str


FEATURES = (
    Feature("height", "rows of pixels of the stored image"),
    Feature("width", "columns of pixels of the stored image"),
    Feature("black rows", "share of rows that are black throughout: a picture wider than high"),
    Feature("black columns", "share of columns that are black: a picture higher than wide"),
    Feature("brightness", "mean grey level"),
    Feature("contrast", "standard deviation of the grey levels"),
    Feature("black", f"share of pixels of grey level {BLACK} or less"),
    Feature("white", f"share of pixels of grey level {WHITE} or more"),
    Feature("border", f"mean grey level of the outer {RIM:.0%} on all sides"),
    Feature("corners", "mean grey level of the four corners, where markers are"),
    Feature("sharpness", "mean step from a pixel to the next: blur, noise, the size scanned at"),
)
"""What is measured of an image, in this order."""

LEVELS = np.arange(256, dtype=np.float64)


def features_of(px: Pixels) -> Floats:
    """`FEATURES` of an image (H, W); well under a millisecond for 256 x 256 pixels."""
    H, W = px.shape
    share = np.bincount(px.ravel(), minlength=256) / px.size
    mean = float(share @ LEVELS)
    rim, corner = (max(1, round(part * min(H, W))) for part in (RIM, CORNER))
    inner = px[rim : H - rim, rim : W - rim]
    around = px.size - inner.size
    total = mean * px.size
    border = (total - float(inner.sum())) / around if around else mean
    ends = (slice(None, corner), slice(-corner, None))
    corners = [float(px[a, b].mean()) for a in ends for b in ends]
    return np.array(
        [
            H,
            W,
            float((px.max(axis=1) <= BLACK).mean()),
            float((px.max(axis=0) <= BLACK).mean()),
            mean,
            float(np.sqrt(max(0.0, share @ (LEVELS - mean) ** 2))),
            float(share[: BLACK + 1].sum()),
            float(share[WHITE:].sum()),
            border,
            float(np.mean(corners)),
            (_steps(px) + _steps(px.T)) / 2,
        ]
    )


def _steps(px: Pixels) -> float:
    if px.shape[0] == 1:
        return 0.0
    above, below = px[:-1], px[1:]
    return float((np.maximum(above, below) - np.minimum(above, below)).mean())


@dataclass(frozen=True)
class Baseline:
    """How well trivial features find one label. `alone` is the AUROC of each of `FEATURES`, below
    .5 where it is smaller in images with the finding; the feature at `best` tells most.
    """

    inference: Inference
    alone: tuple[float, ...]

    @property
    def best(self) -> int:
        return int(np.argmax(np.abs(np.array(self.alone) - CHANCE)))


def baseline(label: LabelCases, X: Floats) -> Baseline | None:
    """Of a label, from the features (N, d) of the test set's images.

    Every patient is scored by weights that were fitted to other patients. None where a class has
    fewer than two patients. The interval is of these scores: it does not know that the weights
    would be others with other patients.
    """
    if label.fewest < 2:  # noqa: PLR2004 - one to fit to, one to score
        return None
    Z = _standardised(X[label.rows], X[label.rows])
    scores = np.zeros(len(X))
    scores[label.rows] = cross_validated(Z, label)
    A = auroc(label, scores)
    assert A is not None  # noqa: S101 - both classes have patients
    alone = tuple(placements(label.y, column)[0] for column in X[label.rows].T)
    return Baseline(auroc_inference(A), alone)


@dataclass(frozen=True, eq=False)
class Learner:
    """Trivial features of the images that classifiers were trained on, with who has what."""

    cases: Cases
    features: Floats  # (N, d)

    def infer(self, name: str, label: LabelCases, X: Floats) -> Inference | None:
        """Like `baseline`, by weights that were fitted to the training images. None where they
        have fewer than two patients with or without the finding.
        """
        if name not in self.cases.labels:
            return None
        own = self.cases.by_label[self.cases.labels.index(name)]
        if own.fewest < 2:  # noqa: PLR2004 - as for the test set
            return None
        seen = self.features[own.rows]
        w = weights(_standardised(seen, seen), own.y)
        A = auroc(label, np.round(_standardised(X, seen) @ w, DECIMALS))
        return None if A is None else auroc_inference(A)


def cross_validated(Z: Floats, label: LabelCases) -> Floats:
    """A score for each of the label's images, by a logistic regression that was fitted to the
    images of other patients.

    Without the intercepts of the folds: each is lower the more positives are in the fold itself,
    which would rank the folds the wrong way round.
    """
    folds = _folds(label)[label.patient]
    scores = np.empty(len(Z))
    for fold in np.unique(folds):
        held = folds == fold
        scores[held] = Z[held] @ weights(Z[~held], label.y[~held])
    return np.round(scores, DECIMALS)


def weights(Z: Floats, y: Bools) -> Floats:
    """Of a logistic regression with an intercept and a ridge penalty on the weights (d,)."""
    n, d = Z.shape
    share = y.mean() if n else 0.0
    if not 0 < share < 1:
        return np.zeros(d)
    X = np.column_stack([np.ones(n), Z])
    ridge = np.diag([0.0] + [PENALTY] * d)
    w = np.concatenate([[np.log(share / (1 - share))], np.zeros(d)])
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(X @ w, -30, 30)))
        slope = X.T @ (y - p) - ridge @ w
        bend = (X * (p * (1 - p))[:, None]).T @ X + ridge
        step = np.linalg.solve(bend + 1e-9 * np.eye(d + 1), slope)
        w += step * min(1.0, 5.0 / max(1e-12, float(np.abs(step).max())))
        if float(np.abs(step).max()) < 1e-8:  # noqa: PLR2004 - beyond what is rounded away
            break
    return w[1:]


def some_patients(patient: Ints, G: int, most: int = MOST) -> Bools:
    """(N,): the images of the first patients who together have at most so many; of the very first
    one whatever they are.
    """
    together = np.cumsum(np.bincount(patient, minlength=G))
    kept = together <= most
    kept[0] = True
    return kept[patient]


def apart(first: Floats, second: Floats, patients: NDArray[np.str_]) -> Baseline | None:
    """How well trivial features tell two sets of images apart: the AUROC of "is of the second
    set", like that of a label. `patients` are those of the first set's images, then the second's.
    """
    y = np.concatenate([np.zeros(len(first), np.int8), np.ones(len(second), np.int8)])
    codes, G = numbered(patients)
    cases = Cases(("second",), y[:, None], codes, G)
    return baseline(cases.by_label[0], np.concatenate([first, second]))


def _folds(label: LabelCases) -> Ints:
    """The fold of every patient (G,): the bearers of the rarer class are dealt first, so that
    every fold has some, and then the others.
    """
    folds = min(FOLDS, label.fewest)
    bearers = label.bearers
    dealt = np.empty(label.G, np.int64)
    for each in (bearers, ~bearers):
        dealt[each] = np.arange(np.count_nonzero(each)) % folds
    return dealt


def _standardised(X: Floats, among: Floats) -> Floats:
    """With mean 0 and standard deviation 1 in `among`; what never varies there is 0."""
    spread = among.std(axis=0)
    varies = spread > 1e-9  # noqa: PLR2004 - rounding
    Z = (X - among.mean(axis=0)) / np.where(varies, spread, 1.0) * varies
    return np.clip(Z, -CLIP, CLIP)
