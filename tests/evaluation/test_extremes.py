"""Predictions at the edge of what can be evaluated: every number is a number, or null with a flag
that says why; and plans that no database could keep.
"""

import io
import json
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from api_schemas.findings import FINDINGS
from api_schemas.manifest import PREDICTIONS, to_parquet
from services.evaluation.service import JUDGE, Judge
from tests.evaluation.study import plan

ARMS = ("reference", "primary")
Row = dict[str, Any]
Set = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Truth (N, L), scores (N, L) and patients (N,)."""


def draw(n: int = 40, labels: int = 2, seed: int = 0) -> Set:
    """Two images a patient; the truth comes first, so that all arms have the same."""
    rng = np.random.default_rng(n)
    truth = (rng.random((n, labels)) < 0.4).astype(float)
    scores = truth + np.random.default_rng([n, seed]).normal(size=truth.shape)
    return truth, scores, np.arange(n) // 2


def perfect(seed: int) -> Set:
    truth, _, patient = draw(labels=11)
    return truth, truth, patient


def tied(seed: int) -> Set:
    truth, scores, patient = draw(seed=seed)
    return truth, (scores > 0.5).astype(float), patient


def constant(seed: int) -> Set:
    truth, scores, patient = draw()
    return truth, np.zeros_like(scores), patient


def one_patient(seed: int) -> Set:
    truth, scores, patient = draw(seed=seed)
    return truth, scores, np.zeros_like(patient)


def one_positive(seed: int) -> Set:
    truth, scores, patient = draw(seed=seed)
    truth[:, 0] = np.arange(len(truth)) == 7
    return truth, scores, patient


def one_class(seed: int) -> Set:
    truth, scores, patient = draw(seed=seed)
    truth[:, 0] = 1
    return truth, scores, patient


def nothing_known(seed: int) -> Set:
    truth, scores, patient = draw(seed=seed)
    return np.full_like(truth, np.nan), scores, patient


def enormous(seed: int) -> Set:
    truth, scores, patient = draw(seed=seed)
    return truth, scores * 1e300, patient


def duplicated(seed: int) -> Set:
    """Every image ten times over, which tells as much as once: `enormous` ranks them alike."""
    return tuple(np.repeat(each, 10, axis=0) for each in draw(seed=seed))  # type: ignore[return-value]


EXTREMES = {
    of.__name__: of
    for of in (
        perfect,
        tied,
        constant,
        one_patient,
        one_positive,
        one_class,
        nothing_known,
        enormous,
        duplicated,
    )
}
REASONS = {
    "not_estimable",
    "exact",
    "no_variation",
    "few_degrees_of_freedom",
    "few_patients",
    "not_probabilities",
}


def table(of: Set) -> bytes:
    truth, scores, patient = of
    n, width = truth.shape
    return to_parquet(
        pa.table(
            {
                "sample_id": np.repeat([f"s{i:05d}" for i in range(n)], width),
                "patient_id": np.repeat([f"p{p}" for p in patient], width),
                "label": np.tile([str(f) for f in FINDINGS[:width]], n),
                "truth": pa.array(truth.ravel(), from_pandas=True).cast(pa.int8()),
                "score": scores.ravel(),
            },
            schema=PREDICTIONS,
        )
    )


@pytest.fixture
def lines(http, data, send, evaluate):
    """Evaluate a study of one test set per extreme, and all lines of a path by test set."""
    body = plan(uuid4(), data, seeds=[0, 1], reference="reference", primary="primary")
    test = body["tests"][0]
    body |= {"arms": [{"name": arm} for arm in ARMS]}
    body["tests"] = [test | {"name": name} for name in EXTREMES]
    made = http.post("/plans", json=body).json()
    for name, of in EXTREMES.items():
        for arm in ARMS:
            for seed in body["seeds"]:
                answer = send(made["id"], name, arm, seed, table(of(seed + 2 * ARMS.index(arm))))
                assert answer.status_code == 201, answer.text
    assert evaluate() == 1

    def ask(path: str) -> dict[str, list[Row]]:
        params = {"experiment": body["experiment"], "limit": 1000}
        answer = http.get(path, params=params)
        found = json.loads(answer.text, parse_constant=pytest.fail)["items"]
        return {name: [r for r in found if r["test"] == name] for name in EXTREMES}

    return ask


def explained(row: Row, value: str) -> bool:
    """Whether every number that could be there is, or a flag says why not."""
    expected = [value, "low", "high"]
    if row["reference"]:
        expected += ["difference", "difference_low", "difference_high", "p"]
    return all(row[name] is not None for name in expected) or bool(REASONS & set(row["flags"]))


def test_every_extreme_of_a_study_is_said_in_numbers_or_flags(lines) -> None:
    results, metrics, asked = lines("/results"), lines("/metrics"), lines("/comparisons")
    for path, value in ((results, "auroc"), (metrics, "value")):
        unexplained = [r for rows in path.values() for r in rows if not explained(r, value)]
        assert unexplained == []
    macro = {name: rows[0] for name, rows in results.items()}
    assert (macro["perfect"]["auroc"], macro["perfect"]["high"]) == (1.0, 1.0)
    assert "exact" in macro["perfect"]["flags"]
    assert macro["constant"]["auroc"] == 0.5
    assert "no_variation" in macro["constant"]["flags"]
    assert macro["one_patient"]["low"] is None
    assert macro["nothing_known"]["auroc"] is None
    assert [r["verdict"] for r in asked["nothing_known"]] == ["not_estimable"]
    assert [r["verdict"] for r in asked["constant"]] == ["inconclusive"]
    rare = results["one_positive"][1]
    assert (rare["positives"], rare["low"], rare["p"]) == (1, None, None)
    assert rare["auroc"] is not None
    assert "fewer_labels" in macro["one_class"]["flags"]
    assert macro["duplicated"]["images"] == 10 * macro["enormous"]["images"]
    for once, often in zip(results["enormous"], results["duplicated"], strict=True):
        fields = ("patients", "auroc", "low", "high", "difference", "p")
        numbers = {f: once[f] for f in fields if once[f] is not None}
        assert {f: often[f] for f in numbers} == pytest.approx(numbers, rel=1e-9)


def test_two_hundred_thousand_rows_are_as_good_as_the_same_images_in_columns(
    http, adapters, work
) -> None:
    truth, scores, patient = draw(n=14_300, labels=14)
    ids = {
        "id": [f"i{k}" for k in range(len(truth))],
        "patient_id": [f"p{p}" for p in patient],
        "group_half": np.where(patient % 2, "odd", "even"),
    }
    labels = [str(f) for f in FINDINGS]
    wide = pl.DataFrame(
        ids
        | {f"truth_{label}": truth[:, k] for k, label in enumerate(labels)}
        | {f"score_{label}": scores[:, k] for k, label in enumerate(labels)}
    )
    columns = [pl.DataFrame(ids)] * len(labels)
    long = pl.concat(
        each.with_columns(
            label=pl.lit(label), truth=pl.Series(truth[:, k]), score=pl.Series(scores[:, k])
        )
        for k, (label, each) in enumerate(zip(labels, columns, strict=True))
    )
    assert long.height > 200_000
    results = []
    for frame in (wide, long):
        sink = io.BytesIO()
        frame.write_parquet(sink)
        files = {"file": ("ours", sink.getvalue())}
        answer = http.post("/evaluations", data={"name": "many"}, files=files)
        work("evaluation", "evaluation", {JUDGE: Judge(adapters.db, adapters.store)})
        results.append(http.get(answer.headers["Location"]).json()["result"])
    assert results[0] == results[1]
    assert results[0]["images"] == len(truth)
    assert {row["group"] for row in results[0]["rows"]} == {None, "half: even", "half: odd"}
    assert all(row["low"] < row["auroc"] < row["high"] for row in results[0]["rows"])


NOT_KEPT = {
    "an arm's name": ({"arms": [{"name": "a\0"}, {"name": "b"}]}, "arms.0.name"),
    "an arm without name": ({"arms": [{"name": " "}, {"name": "b"}]}, "arms.0.name"),
    "half a character": ({"waived": ["\ud800"]}, "waived.0"),
    "no number": ({"margin": float("nan")}, "margin"),
    "an endless dose": ({"arms": [{"name": "a", "dose": float("inf")}]}, "arms.0.dose"),
    "an enormous seed": ({"seeds": [0, 2**70]}, "seeds.1"),
    "a negative seed": ({"seeds": [-1]}, "seeds.0"),
    "a setting": (
        {"training": {"classifier": {"x": [float("inf")]}, "uncertain": "0", "blank": "0"}},
        "training.classifier.x.0",
    ),
}


@pytest.mark.parametrize("what", NOT_KEPT)
def test_a_plan_that_no_database_keeps_is_refused_with_its_place(http, data, what: str) -> None:
    changes, field = NOT_KEPT[what]
    body = json.dumps(plan(uuid4(), data, **changes))
    answer = http.post("/plans", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


@pytest.mark.parametrize("column", ["sample_id", "patient_id"])
@pytest.mark.parametrize("name", ["", "a\0", "x" * 501, "line\nline"])
def test_names_that_no_array_keeps_are_refused(registered, send, column: str, name: str) -> None:
    made = registered()
    rows = {
        "sample_id": ["a", "b"],
        "patient_id": ["p", "q"],
        "label": ["Edema"] * 2,
        "truth": [0, 1],
        "score": [0.1, 0.2],
    }
    rows[column] = [name, "b"]
    body = to_parquet(pa.table(rows, schema=PREDICTIONS))
    problem = send(made["id"], "site-a", "real", 0, body).json()
    assert (problem["status"], problem["field"]) == (422, "body")
    assert column in problem["detail"]
