"""The predictions table as arrays: checked once, in one canonical order.

Knows the table's schema; does not know which plan it belongs to.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from api_schemas.findings import FINDINGS
from api_schemas.manifest import PREDICTIONS
from services.evaluation.statistics.cases import UNKNOWN, Cases, Floats, Ints

Names = NDArray[np.str_]
LONGEST = 500
"""Characters of a sample's or patient's name: all of a table take as much memory as the longest."""
NAME = re.compile(rf"[^\x00-\x1f\x7f]{{1,{LONGEST}}}")


class Inconsistent(ValueError):
    """A table of the right schema that cannot be the predictions of one classifier."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scores of one classifier on one test set: labels in CheXpert's order, samples sorted by name
    until they are taken in another order.
    """

    labels: tuple[str, ...]
    samples: Names  # (N,)
    patients: Names  # (N,)
    truth: NDArray[np.int8]  # (N, L)
    scores: Floats  # (N, L)

    @classmethod
    def of(cls, table: pa.Table) -> "Predictions":
        """From a table of schema `PREDICTIONS` in any order of rows.

        Raises `Inconsistent` unless every sample has every label exactly once, one patient,
        truths of 0, 1 or null, and finite scores.
        """
        if table.num_rows == 0:
            raise Inconsistent("no rows")
        labels, label = _labels(table["label"])
        samples, sample = _sorted_codes(table, "sample_id")
        shape = (len(samples), len(labels))
        cell = sample * len(labels) + label
        if len(cell) != len(samples) * len(labels) or len(np.unique(cell)) != len(cell):
            raise Inconsistent("each sample must have each label exactly once")
        order = np.argsort(cell)
        patients, patient = _sorted_codes(table, "patient_id")
        by_sample = patient[order].reshape(shape)
        if (by_sample != by_sample[:, :1]).any():
            raise Inconsistent("a sample has more than one patient_id")
        truth = _truth(table["truth"])[order].reshape(shape)
        scores = table["score"].to_numpy().astype(np.float64)[order].reshape(shape)
        _check_finite(scores, labels)
        return cls(labels, samples, patients[by_sample[:, 0]], truth, scores)

    def table(self) -> pa.Table:
        """The canonical table: the same content gives the same rows in the same order."""
        N, L = self.truth.shape
        truth, image = self.truth.ravel(), np.repeat(np.arange(N), L)
        return pa.table(
            {
                "sample_id": pa.array(self.samples.tolist(), pa.string()).take(image),
                "patient_id": pa.array(self.patients.tolist(), pa.string()).take(image),
                "label": pa.array(self.labels, pa.string()).take(np.tile(np.arange(L), N)),
                "truth": pa.array(truth, pa.int8(), mask=truth == UNKNOWN),
                "score": self.scores.ravel(),
            },
            schema=PREDICTIONS,
        )

    def by_content(self) -> Ints:
        """(N,): the samples in an order that scores and truth alone give.

        Names differ between installations, and sums in another order differ in their last bits.
        """
        return np.lexsort((*self.truth.T, *self.scores.T))

    def take(self, order: Ints) -> "Predictions":
        """The same predictions with their samples in another order."""
        return Predictions(
            self.labels,
            self.samples[order],
            self.patients[order],
            self.truth[order],
            self.scores[order],
        )

    def cases(self) -> Cases:
        return Cases.of(self.labels, self.truth, self.patients)

    def fingerprints(self) -> dict[str, str]:
        """Digests of what all predictions on a test set must share, by name of the fact."""
        return {
            "labels": _digest("\n".join(self.labels).encode()),
            "samples": _digest("\n".join(self.samples).encode()),
            "patients": _digest("\n".join(self.patients).encode()),
            "truth": _digest(np.ascontiguousarray(self.truth).tobytes()),
        }


def _labels(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Ints]:
    encoded = _encoded(column)
    present = encoded.dictionary.to_pylist()
    unknown = sorted(set(present) - {str(f) for f in FINDINGS})
    if unknown:
        raise Inconsistent(f"label: {len(unknown)} that CheXpert does not have")
    labels = tuple(str(f) for f in FINDINGS if f in present)
    position = np.array([labels.index(name) for name in present])
    return labels, position[encoded.indices.to_numpy()]


def _sorted_codes(table: pa.Table, name: str) -> tuple[Names, Ints]:
    """The distinct names of a column, sorted, and each row's position among them."""
    encoded = _encoded(table[name])
    names = encoded.dictionary.to_pylist()
    if not all(NAME.fullmatch(each) for each in names):
        msg = f"{name}: 1 to {LONGEST} characters, no control character"
        raise Inconsistent(msg)
    values = np.array(names)
    order = np.argsort(values)
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    return values[order], position[encoded.indices.to_numpy()]


def _encoded(column: pa.ChunkedArray) -> Any:
    return column.combine_chunks().dictionary_encode()


def _truth(column: pa.ChunkedArray) -> NDArray[np.int8]:
    given = column.drop_null().to_numpy()
    if not np.isin(given, (0, 1)).all():
        raise Inconsistent("truth: 0, 1 or null (unknown) only")
    return pc.fill_null(column, UNKNOWN).to_numpy().astype(np.int8)


def _check_finite(scores: Floats, labels: tuple[str, ...]) -> None:
    wrong = np.count_nonzero(~np.isfinite(scores), axis=0)
    if wrong.any():
        where = ", ".join(f"{n} of {label}" for n, label in zip(wrong, labels, strict=True) if n)
        raise Inconsistent(f"score: finite numbers only; NaN or infinite are {where}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
