"""Conditions as vectors. An encoder has a version: weights are only good with the one they know."""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from api_schemas.findings import FINDINGS, Race, Sex
from api_schemas.generation import Condition

Vectors = NDArray[np.float32]
SEXES, RACES = tuple(Sex), tuple(Race)


class ConditionIncomplete(ValueError):
    """An attribute is unknown, and the encoder has no way to say so."""


class Encoder(Protocol):
    """`width` is D; `attribute` says to which attribute each of the D entries belongs."""

    version: str
    width: int
    attribute: NDArray[np.int64]  # (D,)

    def encode(self, conditions: Sequence[Condition]) -> Vectors: ...  # (N, D)


def _one_hot(value: str | None, among: Sequence[str]) -> list[float]:
    return [float(value == name) for name in among]


class MaskedEncoder:
    """Age, sex, race and 14 findings, each with a bit that says whether it is known.

    Everything of an unknown attribute is 0, its bit too: to hide an attribute is to multiply by 0.
    A finding that is known is +1 or -1; age is centred at 50 in units of 25 years.
    """

    version = "masked/1"
    attribute = np.repeat(
        np.arange(3 + len(FINDINGS)), [2, 1 + len(SEXES), 1 + len(RACES)] + [2] * len(FINDINGS)
    )
    width = len(attribute)

    def encode(self, conditions: Sequence[Condition]) -> Vectors:
        return np.array([self._vector(c) for c in conditions], np.float32).reshape(-1, self.width)

    def _vector(self, c: Condition) -> list[float]:
        age = [0.0, 0.0] if c.age is None else [(c.age - 50) / 25, 1.0]
        sex = [*_one_hot(c.sex, SEXES), float(c.sex is not None)]
        race = [*_one_hot(c.race, RACES), float(c.race is not None)]
        signs = [
            (2.0 * c.findings[f] - 1.0, 1.0) if f in c.findings else (0.0, 0.0) for f in FINDINGS
        ]
        return [*age, *sex, *race, *(entry for pair in signs for entry in pair)]


class PublishedEncoder:
    """The paper's 22 floats: raw age // 10, sex and race one-hot, 14 labels; nothing unknown."""

    version = "paper22"
    attribute = np.repeat(
        np.arange(3 + len(FINDINGS)), [1, len(SEXES), len(RACES)] + [1] * len(FINDINGS)
    )
    width = len(attribute)

    def encode(self, conditions: Sequence[Condition]) -> Vectors:
        return np.array([self._vector(c) for c in conditions], np.float32).reshape(-1, self.width)

    def _vector(self, c: Condition) -> list[float]:
        if c.age is None or c.sex is None or c.race is None or len(c.findings) < len(FINDINGS):
            msg = f"{self.version} needs age, sex, race and all {len(FINDINGS)} findings"
            raise ConditionIncomplete(msg)
        findings = [float(c.findings[f]) for f in FINDINGS]
        return [float(c.age // 10), *_one_hot(c.sex, SEXES), *_one_hot(c.race, RACES), *findings]


ENCODERS: Final[dict[str, Encoder]] = {e.version: e for e in (MaskedEncoder(), PublishedEncoder())}
