"""What a study's answers should be, reckoned anew from its predictions: plainly and slowly.

Written from docs/statistics.md alone and shares no code with the product: pairs instead of ranks,
derivatives by trying instead of by formula, an optimiser instead of Newton's steps. Knows rows of
predictions and of people; does not know HTTP.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy import optimize, stats

MACRO, NO_FINDING = "macro", "No Finding"
PROBABILISTIC = ("brier", "calibration_intercept", "calibration_slope")
STEP = 1e-5

Row = dict[str, Any]


@dataclass
class Scored:
    """One arm and seed on one label of one test set: the images whose truth is known."""

    y: np.ndarray
    s: np.ndarray
    who: list[str]

    def within(self, members: np.ndarray) -> "Scored":
        who = [w for w, m in zip(self.who, members, strict=True) if m]
        return Scored(self.y[members], self.s[members], who)


@dataclass
class Found:
    """A quantity by seed, each patient's pull on each, and who bears it: the patients of the
    rarer class of the rarest label, and those of the rarer class of any.
    """

    values: list[float]
    pulls: list[dict[str, float]]
    fewest: int
    bearers: frozenset[str]
    exact: bool = False

    @property
    def value(self) -> float:
        return math.fsum(self.values) / len(self.values)


def weighted(parts: Sequence[tuple[float, Found | None]]) -> Found | None:
    """A sum of quantities, seed by seed and patient by patient; of one that is missing nothing."""
    known = [(w, p) for w, p in parts if p is not None]
    if len(known) < len(parts) or not parts:
        return None
    seeds = range(len(known[0][1].values))
    pulls: list[dict[str, float]] = [{} for _ in seeds]
    for w, part in known:
        for pull, theirs in zip(pulls, part.pulls, strict=True):
            for patient, x in theirs.items():
                pull[patient] = pull.get(patient, 0.0) + w * x
    values = [math.fsum(w * p.values[r] for w, p in known) for r in seeds]
    bearers = min((p.bearers for _, p in known), key=len)
    exact = any(p.exact for _, p in known)
    return Found(values, pulls, min(p.fewest for _, p in known), bearers, exact)


def mean(parts: Sequence[Found | None]) -> Found | None:
    made = weighted([(1 / len(parts), p) for p in parts])
    if made:
        made.values = [
            math.fsum(p.values[r] for p in parts if p) / len(parts) for r in range(len(made.values))
        ]
        made.exact = all(p.exact for p in parts if p)
    return made


def macro_of(aurocs: Sequence[Found | None]) -> Found | None:
    """Its bearers are those of the rarer class of any of its labels."""
    made = mean(aurocs)
    if made:
        made.bearers = frozenset().union(*(a.bearers for a in aurocs if a))
    return made


def minus(a: Found | None, b: Found | None) -> Found | None:
    return weighted([(1.0, a), (-1.0, b)])


def over_seeds(runs: Sequence[Found | None]) -> Found | None:
    made = weighted([(1 / len(runs), run) for run in runs])
    if made:
        made.values = [run.value for run in runs if run]
        made.pulls = [run.pulls[0] for run in runs if run]
        made.exact = all(run.exact for run in runs if run)
    return made


# ---------------------------------------------------------------- pulls


def class_patients(of: Scored, y: int) -> frozenset[str]:
    return frozenset(w for w, yi in zip(of.who, of.y, strict=True) if yi == y)


def rarer(of: Scored) -> frozenset[str]:
    return min(class_patients(of, 1), class_patients(of, 0), key=len)


def by_patient(of: Scored, phi: np.ndarray, classes: Sequence[int]) -> dict[str, float]:
    """The pulls of the images, corrected within each class, summed by patient."""
    total: dict[str, float] = {}
    for each in set(classes):
        inside = [i for i, c in enumerate(classes) if c == each]
        images: dict[str, list[int]] = {}
        for i in inside:
            images.setdefault(of.who[i], []).append(i)
        I = len(images)  # noqa: E741 - the formula's symbol
        for patient, theirs in images.items():
            c = math.sqrt((I - 1) / I) / (1 - len(theirs) / len(inside)) if I > 1 else 1.0
            total[patient] = total.get(patient, 0.0) + c * math.fsum(phi[i] for i in theirs)
    return total


def found(of: Scored, value: float, phi: np.ndarray, *, share: bool = True) -> Found:
    bearers = rarer(of)
    pull = by_patient(of, phi, of.y.tolist())
    return Found([value], [pull], len(bearers), bearers, share and value in {0.0, 1.0})


def auroc(of: Scored) -> Found | None:
    """Every pair of an ill and a healthy image, one after the other."""
    ill, healthy = of.s[of.y == 1], of.s[of.y == 0]
    if not len(ill) or not len(healthy):
        return None

    def beats(a: float, b: float) -> float:
        return 1.0 if a > b else 0.5 if a == b else 0.0

    won = [beats(a, b) for a, b in product(ill, healthy)]
    A = math.fsum(won) / len(won)
    phi = np.empty(len(of.y))
    for i, (y, s) in enumerate(zip(of.y, of.s, strict=True)):
        if y:
            phi[i] = (math.fsum(beats(s, b) for b in healthy) / len(healthy) - A) / len(ill)
        else:
            phi[i] = (math.fsum(beats(a, s) for a in ill) / len(ill) - A) / len(healthy)
    return found(of, A, phi)


def average_precision(of: Scored) -> Found | None:
    """By definition; a pull is what changing the image's weight a little does."""
    if of.y.min() == of.y.max():
        return None
    above = (of.s[None, :] >= of.s[:, None]).astype(float)  # of each image, who is not below

    def at(weights: np.ndarray) -> float:
        precision = (above @ (weights * of.y)) / (above @ weights)
        return float((weights * of.y) @ precision / (weights @ of.y))

    unit = np.eye(len(of.y)) * STEP
    phi = np.array([(at(1 + e) - at(1 - e)) / (2 * STEP) for e in unit])
    return found(of, at(np.ones(len(of.y))), phi)


def brier(of: Scored) -> Found:
    loss = (of.s - of.y) ** 2
    value = math.fsum(loss) / len(loss)
    everybody = frozenset(of.who)
    pull = by_patient(of, (loss - value) / len(loss), [0] * len(loss))
    return Found([value], [pull], len(everybody), everybody)


def recalibrated(of: Scored, *, slope: bool) -> Found | None:
    """The coefficient that makes the data likeliest, found by a general optimiser."""
    if of.y.min() == of.y.max():
        return None
    s = np.clip(of.s, 1e-6, 1 - 1e-6)
    x = np.log(s / (1 - s))
    X = np.column_stack([np.ones(len(x)), x]) if slope else np.ones((len(x), 1))
    fixed = np.zeros(len(x)) if slope else x
    if slope and (x.min() == x.max() or auroc(of).value in {0.0, 1.0}):
        return None  # constant scores, or separated classes

    def unlikely(beta: np.ndarray) -> float:
        z = X @ beta + fixed
        return float(np.logaddexp(0, z).sum() - of.y @ z)

    def uphill(beta: np.ndarray) -> np.ndarray:
        return X.T @ (of.y - 1 / (1 + np.exp(-(X @ beta + fixed))))

    near = optimize.minimize(unlikely, np.zeros(X.shape[1]), method="Nelder-Mead").x
    beta = optimize.root(uphill, near, tol=1e-13).x
    p = 1 / (1 + np.exp(-(X @ beta + fixed)))
    phi = np.linalg.inv((X.T * (p * (1 - p))) @ X) @ (X.T * (of.y - p))
    return found(of, float(beta[-1]), phi[-1], share=False)


# ---------------------------------------------------------------- operating points


@dataclass
class Threshold:
    t: float
    h: np.ndarray
    E: np.ndarray
    low: float
    high: float


def threshold(of: Scored, s: np.ndarray, E: np.ndarray, above: int, due: np.ndarray) -> Threshold:
    """The lowest score that at most `above` of the cases E exceed, and how each moves it."""
    scores = sorted(s[E])
    t = min(c for c in scores if sum(x > c for x in scores) <= above)
    h = np.where(E, (s > t) - due, 0.0)
    h = np.where(E, h - h[E].mean(), 0.0)
    se = math.sqrt(math.fsum(x * x for x in by_patient(of, h, of.y.tolist()).values()))
    reach, rank = max(3, math.ceil(2 * se)), len(scores) - above - 1
    low, high = scores[max(0, rank - reach)], scores[min(len(scores) - 1, rank + reach)]
    return Threshold(t, h, E, low, high)


def rate(of: Scored, s: np.ndarray, D: np.ndarray, cut: Threshold) -> Found | None:
    if not D.any():
        return None
    R = float((s[D] > cut.t).mean())
    near = (s >= cut.low) & (s <= cut.high)
    kappa = (near & D).sum() / (near & cut.E).sum()
    made = found(of, R, (D * ((s > cut.t) - R) - kappa * cut.h) / D.sum())
    theirs = frozenset(w for w, d in zip(of.who, D, strict=True) if d)
    made.fewest = min(made.fewest, len(theirs))
    made.bearers = min(made.bearers, theirs, key=len)
    return made


def usable(of: Scored) -> bool:
    return 0 < of.y.sum() < len(of.y) and of.s.min() < of.s.max()


def at_fixed(of: Scored, kind: str, percent: int) -> Found | None:
    if not usable(of):
        return None
    s, E = (of.s, of.y == 0) if kind == "specificity" else (-of.s, of.y == 1)
    spared = E.sum() * (100 - percent) // 100
    return rate(of, s, ~E, threshold(of, s, E, int(spared), np.zeros(len(s))))


def not_recognised(label: str, of: Scored, members: np.ndarray) -> Found | None:
    """Underdiagnosis of "No Finding", what is missed of any other label."""
    if not usable(of):
        return None
    everything = np.ones(len(of.y), bool)
    cut = threshold(of, of.s, everything, int(of.y.sum()), of.y.astype(float))
    if label == NO_FINDING:
        return rate(of, of.s, (of.y == 0) & members, cut)
    alarm = rate(of, of.s, (of.y == 1) & members, cut)
    missed = weighted([(-1.0, alarm)])
    if missed:
        missed.values = [1 + v for v in missed.values]
    return missed


METRICS: dict[str, Callable[[Scored], Found | None]] = {
    "average_precision": average_precision,
    "sensitivity_at_90_specificity": lambda of: at_fixed(of, "specificity", 90),
    "sensitivity_at_95_specificity": lambda of: at_fixed(of, "specificity", 95),
    "specificity_at_90_sensitivity": lambda of: at_fixed(of, "sensitivity", 90),
    "specificity_at_95_sensitivity": lambda of: at_fixed(of, "sensitivity", 95),
    "brier": brier,
    "calibration_intercept": lambda of: recalibrated(of, slope=False),
    "calibration_slope": lambda of: recalibrated(of, slope=True),
}


# ---------------------------------------------------------------- what may be said


@dataclass
class Said:
    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    nu: float | None = None
    test_sd: float | None = None
    seed_sd: float | None = None
    exact: bool = False
    carriers: float | None = None


@dataclass
class Spread:
    """V and nu, and what they are made of; `carriers`: (sum Phi^2)^2 / sum Phi^4."""

    V: float
    nu: float
    seed_sd: float | None
    test_sd: float
    carriers: float
    seeds_outweigh: bool


def spread(of: Found) -> Spread | None:
    """None where nothing honest can be said."""
    R, everybody = len(of.values), sorted({who for pull in of.pulls for who in pull})
    mean_pull = [math.fsum(pull.get(who, 0.0) for pull in of.pulls) / R for who in everybody]
    squares = [x * x for x in mean_pull]
    A = math.fsum(squares)
    seeds = float(np.var(of.values, ddof=1)) if R > 1 else None
    B, C = (seeds or 0.0) / R, 0.0
    if R > 1:
        apart = (
            (pull.get(who, 0.0) - x) ** 2
            for pull in of.pulls
            for who, x in zip(everybody, mean_pull, strict=True)
        )
        C = math.fsum(apart) / (R * (R - 1))
    own = max(A - C, 0.0)
    V = max(own + B, A)
    if of.fewest < 2 or V < 1e-24:
        return None
    fourth = math.fsum(x * x for x in squares)
    carriers = A * A / fourth if fourth else 0.0
    total = 0.0
    b = min(B / V, 1.0)
    if b < 1:
        taking_part = sum(abs(x) > 1e-12 * max(map(abs, mean_pull)) for x in mean_pull)
        most = max(1, min(len(of.bearers), taking_part) - 1)
        excess = 1 / carriers - 1 / taking_part
        nu_patients = min(max(2 / excess, 1.0), most) if excess > 0 else most
        total += (1 - b) ** (2 - 2 / R) / nu_patients
    if R > 1:
        total += b ** (2 - 2 / R) / (R - 1)
    sd = None if seeds is None else math.sqrt(seeds)
    return Spread(V, 1 / total, sd, math.sqrt(A), carriers, max(B - C, 0.0) > own)


LOGIT_SCALES = {"logit", "share", "auroc"}


def said_of(of: Found, *, scale: str, level: float = 0.95) -> Said:
    """`scale`: "logit", "share" (an exact limit at 0 and 1), "auroc" (bounded), "gap" and
    "coefficient".
    """
    value = of.value
    if scale in {"share", "auroc"} and value in {0.0, 1.0}:
        limit = 0.05 ** (1 / of.fewest)
        low, high = (limit, 1.0) if value else (0.0, 1 - limit)
        return Said(value, low, high, exact=True)
    known = spread(of)
    if known is None or (scale in LOGIT_SCALES and not 0 < value < 1):
        return Said(value)
    nu, seed_sd, test_sd, carriers = known.nu, known.seed_sd, known.test_sd, known.carriers
    half = stats.t.ppf(0.5 + level / 2, nu) * math.sqrt(known.V)
    if scale in LOGIT_SCALES:
        middle, half = math.log(value / (1 - value)), half / (value * (1 - value))
        low, high = (1 / (1 + math.exp(-(middle + side * half))) for side in (-1, 1))
        if scale == "auroc" and min(nu, carriers) < 2 and not known.seeds_outweigh:
            x, m = value * of.fewest, of.fewest
            low = max(low, float(stats.beta.ppf(0.025, x, m - x + 1)))
            high = min(high, float(stats.beta.ppf(0.975, x + 1, m - x)))
    else:
        reach = math.inf if scale == "coefficient" else 1.0
        low, high = max(-reach, value - half), min(reach, value + half)
        if min(nu, carriers) < 2 and (low, high) == (-reach, reach):
            return Said(value, None, None, None, nu, test_sd, seed_sd, carriers=carriers)
    return Said(value, low, high, None, nu, test_sd, seed_sd, carriers=carriers)


def difference_of(D: Found, *, scale: str = "gap", level: float = 0.95) -> Said:
    said = said_of(D, scale=scale, level=level)
    known = spread(D)
    if known and said.low is not None and len(D.bearers) >= 5 and not D.exact:
        said.p = float(2 * stats.t.sf(abs(D.value) / math.sqrt(known.V), known.nu))
    return said


def against_margin(D: Found, margin: float, kind: str) -> Said:
    """The 90 % interval, and the larger p of the one-sided tests that are asked for."""
    said = difference_of(D, level=0.9)
    known = spread(D)
    if known and said.p is not None:
        sides = [D.value + margin] + ([margin - D.value] if kind == "equivalence" else [])
        said.p = max(float(stats.t.sf(x / math.sqrt(known.V), known.nu)) for x in sides)
    return said


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """The k-th smallest of m times m + 1 - k, never less than the one before."""
    m, adjusted = len(ps), []
    for p in ps:
        smaller = sorted(1.0 if q is None else q for q in ps)
        rank = smaller.index(1.0 if p is None else p)
        adjusted.append(
            None if p is None else min(1.0, max((m - k) * smaller[k] for k in range(rank + 1)))
        )
    return adjusted
