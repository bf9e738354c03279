"""Predictions in any order of rows are the same predictions; anything doubtful is refused."""

from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest

from api_schemas.manifest import PREDICTIONS, content_digest
from services.evaluation.statistics.cases import UNKNOWN
from services.evaluation.statistics.judgement import judge
from services.evaluation.statistics.predictions import Inconsistent, Predictions

LABELS = ("Fracture", "Edema")
ROWS = [
    ("s2", "p1", "Edema", 1, 0.9),
    ("s2", "p1", "Fracture", None, 0.2),
    ("s10", "p2", "Edema", 0, 0.4),
    ("s10", "p2", "Fracture", 1, 0.3),
    ("s1", "p1", "Edema", 0, 0.1),
    ("s1", "p1", "Fracture", 0, 0.7),
]


def table(rows: list[tuple]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table(dict(zip(PREDICTIONS.names, map(list, columns), strict=True)), PREDICTIONS)


def test_arrays_are_in_canonical_order() -> None:
    found = Predictions.of(table(ROWS))
    assert found.labels == ("Fracture", "Edema")  # CheXpert's order
    assert list(found.samples) == ["s1", "s10", "s2"]
    assert list(found.patients) == ["p1", "p2", "p1"]
    np.testing.assert_array_equal(found.truth, [[0, 0], [1, 0], [UNKNOWN, 1]])
    np.testing.assert_array_equal(found.scores, [[0.7, 0.1], [0.3, 0.4], [0.2, 0.9]])


def test_row_order_changes_nothing() -> None:
    a, b = Predictions.of(table(ROWS)), Predictions.of(table(ROWS[::-1]))
    assert content_digest(a.table()) == content_digest(b.table())
    assert a.fingerprints() == b.fingerprints()


def test_the_canonical_table_is_read_back_as_itself() -> None:
    first = Predictions.of(table(ROWS))
    again = Predictions.of(first.table())
    np.testing.assert_array_equal(first.scores, again.scores)
    np.testing.assert_array_equal(first.truth, again.truth)
    assert first.table().schema == PREDICTIONS


def test_names_change_no_bit_of_a_result() -> None:
    """Another installation gives samples and patients other names, and so sorts them otherwise."""
    rng = np.random.default_rng(5)
    images = [(f"s{i}", f"p{rng.integers(40)}") for i in range(200)]
    truth = {(s, label): int(rng.integers(2)) for s, _ in images for label in LABELS}
    rows = [
        (s, p, label, truth[s, label], 0.3 * truth[s, label] + float(rng.random()))
        for s, p in images
        for label in LABELS
    ]
    other = [
        (sha256(s.encode()).hexdigest(), sha256(p.encode()).hexdigest(), *rest)
        for s, p, *rest in rows
    ]

    def judged(told: list[tuple]) -> list[dict]:
        found = Predictions.of(table(told))
        theirs = Predictions.of(table([(*row[:4], 1 - row[4]) for row in told]))
        order = found.by_content()
        return [row.model_dump() for row in judge(found.take(order), theirs.take(order), {}).rows]

    assert judged(rows) == judged(other)


@pytest.mark.parametrize(
    ("fact", "column", "value"), [("samples", 0, "s3"), ("patients", 1, "p9"), ("truth", 3, 0)]
)
def test_fingerprints_name_what_differs(fact: str, column: int, value: object) -> None:
    changed = [
        (*row[:column], value, *row[column + 1 :]) if row[0] == "s2" else row for row in ROWS
    ]
    a, b = (Predictions.of(table(rows)).fingerprints() for rows in (ROWS, changed))
    assert fact in {name for name in a if a[name] != b[name]}


def test_scores_are_no_part_of_the_fingerprints() -> None:
    changed = [(*row[:4], row[4] / 2) for row in ROWS]
    assert Predictions.of(table(ROWS)).fingerprints() == (
        Predictions.of(table(changed)).fingerprints()
    )


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "no rows"),
        (ROWS[:-1], "exactly once"),
        ([*ROWS[:-1], ROWS[0]], "exactly once"),
        ([*ROWS, ROWS[0]], "exactly once"),
        ([(*ROWS[0][:1], "p7", *ROWS[0][2:]), *ROWS[1:]], "more than one patient_id"),
        ([(*ROWS[0][:3], -1, 0.9), *ROWS[1:]], "truth"),
        ([(*ROWS[0][:4], float("nan")), *ROWS[1:]], "score"),
        ([(*ROWS[0][:4], float("inf")), *ROWS[1:]], "score"),
        ([(*row[:2], row[2].replace("Edema", "Oedema"), *row[3:]) for row in ROWS], "label"),
    ],
)
def test_doubtful_tables_are_refused(rows: list[tuple], why: str) -> None:
    given = table(rows) if rows else PREDICTIONS.empty_table()
    with pytest.raises(Inconsistent, match=why):
        Predictions.of(given)
