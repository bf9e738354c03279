"""Every field of a study's answers against a reckoning of its own, from what was sent alone."""

import math
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa
import pytest

from api_schemas.manifest import MANIFEST, PREDICTIONS, to_parquet
from tests.evaluation.statistics.reference import Row
from tests.evaluation.statistics.reference_study import Study
from tests.evaluation.study import ARMS, plan

LABELS = ("Pleural Effusion", "Edema", "Fracture", "No Finding")
QUESTIONS = [
    {"arm": "real+100%", "reference": "real", "kind": "noninferiority", "margin": 0.02},
    {"arm": "real", "reference": "real_equal_steps", "kind": "equivalence", "margin": 0.05},
    {"arm": "real+100%", "reference": "real_equal_steps", "kind": "superiority"},
]
RACES = ("Asian", "White", None)


def drawn(test: str, number: int, seed: int, effect: float, *, probabilities: bool) -> list[Row]:
    """Scores with ties, unknown truths, several images a patient and labels of many kinds:
    on one test set a finding that four patients have, on the other one that nobody has.
    """
    rng = np.random.default_rng([len(test), 5])
    patients = 34 if test == "here" else 27
    whose = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    n, width = len(whose), len(LABELS)
    truth = (rng.random((patients, width)) < 0.4)[whose] ^ (rng.random((n, width)) < 0.1)
    truth[:, 2] = (whose < 4) & (test == "here")
    unknown = rng.random((n, width)) < 0.1
    common = rng.normal(size=(n, width))
    own = np.random.default_rng([number, seed]).normal(size=(n, width))
    scores = 1.2 * effect * truth - 0.6 + 0.8 * common + 0.4 * own
    if probabilities:
        scores = 1 / (1 + np.exp(-scores))
    scores = scores.round(2)
    if effect == ARMS["real+100%"]:  # one label without a fault, one without a difference
        scores[:, 0] = np.where(truth[:, 0], 0.75, 0.25) + 0.01 * (seed % 2)
    return [
        {
            "sample_id": f"{test}-{i:03d}",
            "patient_id": f"p{whose[i]}",
            "label": label,
            "truth": None if unknown[i, k] else int(truth[i, k]),
            "score": float(scores[i, k]),
        }
        for i in range(n)
        for k, label in enumerate(LABELS)
    ]


def person(sample: str, patient: str) -> Row:
    number = int(patient.removeprefix("p"))
    return {
        "sex": ("Female", "Male", "Male", None)[number % 4],
        "age": (25, 43, 59, 61, 85)[number % 5],
        "race": RACES[number % 3],
        "view": "AP" if int(sample[-1]) % 2 else "PA",
        "site": "here" if sample.startswith("here") else f"there-{number % 2}",
    }


REGIMES = {
    "real_equal_steps": (0.9, None),
    "real+100%": (1.5, None),
    "real+300%": (1.4, None),
    "shuffled": (0.8, "real_equal_steps"),
    "10%-real": (0.4, "10%-real_equal_steps"),
    "10%-real_equal_steps": (0.5, "10%-real_equal_steps"),
    "10%-real+100%": (0.9, "10%-real_equal_steps"),
    "mixed_real_equal_steps": (0.7, "mixed_real_equal_steps"),
    "mixed+100%": (1.1, "mixed_real_equal_steps"),
    "mixed+300%": (1.2, "mixed_real_equal_steps"),
}
"""Arms of two regimes and two shares of the patients: their effect and with whom each goes."""
PAIRS = [
    {"arm": "10%-real+100%", "reference": "real_equal_steps", "kind": "superiority"},
    {"arm": "mixed+100%", "reference": "mixed+300%", "kind": "equivalence", "margin": 0.05},
    {"arm": "shuffled", "reference": "mixed+300%", "kind": "noninferiority", "margin": 0.1},
]

SHAPES: dict[str, Row] = {
    "two test sets, three seeds": {"seeds": [0, 1, 2]},
    "six seeds of scores that are no probabilities": {
        "seeds": [3, 1, 4, 15, 9, 2],
        "tests": ["here"],
        "probabilities": False,
    },
    "one seed, questions asked late": {
        "seeds": [7],
        "tests": ["there"],
        "waived": ["extended: arms were added after results were seen", "leakage: nobody knows"],
    },
    "two regimes and two shares of the patients on three test sets": {
        "seeds": [0, 1],
        "tests": ["here", "there", "elsewhere"],
        "arms": REGIMES,
        "questions": PAIRS,
    },
    "the control of a regime failed once": {
        "seeds": [0, 1],
        "tests": ["there"],
        "arms": REGIMES,
        "questions": PAIRS,
        "lost": "mixed_real_equal_steps",
    },
    "an arm of two registered questions failed once": {
        "seeds": [0, 1],
        "tests": ["here"],
        "arms": REGIMES,
        "questions": PAIRS,
        "lost": "mixed+300%",
    },
}


@pytest.fixture(params=SHAPES, scope="module")
def shape(request: pytest.FixtureRequest) -> Row:
    usual = {
        "tests": ["here", "there"],
        "probabilities": True,
        "waived": [],
        "arms": {arm: (effect, None) for arm, effect in ARMS.items()},
        "questions": QUESTIONS,
        "lost": None,
    }
    return usual | SHAPES[request.param]


@pytest.fixture
def studied(http, shelf, ada, send, evaluate, shape) -> tuple[Study, Callable[..., list[Row]]]:
    """A study that the product evaluated, its reckoning, and a way to ask for lines."""
    sets = {
        (test, arm, seed): drawn(test, number, seed, effect, probabilities=shape["probabilities"])
        for test in shape["tests"]
        for number, (arm, (effect, _)) in enumerate(shape["arms"].items())
        for seed in shape["seeds"]
    }
    lost, failed = shape["lost"], shape["seeds"][-1]
    whose = {r["sample_id"]: r["patient_id"] for rows in sets.values() for r in rows}
    people = {sample: person(sample, patient) for sample, patient in whose.items()}
    asked = {name: shape[name] for name in ("seeds", "questions", "waived")}
    arms = [{"name": arm, "reference": own} for arm, (_, own) in shape["arms"].items()]
    datasets = {
        test: add_people(
            shelf, ada, people, [r for key in sets if key[0] == test for r in sets[key]]
        )
        for test in shape["tests"]
    }
    body = plan(uuid4(), uuid4(), arms=arms, **asked)
    body["tests"] = [
        body["tests"][0] | {"name": test, "data": {"dataset": str(data)}}
        for test, data in datasets.items()
    ]
    made = http.post("/plans", json=body)
    assert made.status_code == 201, made.text
    if lost is not None:
        absence = {"arm": lost, "seed": failed, "reason": "the training loss became infinite"}
        forgone = http.post(f"/plans/{made.json()['id']}/absences", json=absence)
        assert forgone.status_code == 201, forgone.text
    for (test, arm, seed), rows in sets.items():
        if (arm, seed) == (lost, failed):
            continue
        table = to_parquet(pa.Table.from_pylist(rows[::-1], schema=PREDICTIONS))
        assert send(made.json()["id"], test, arm, seed, table).status_code == 201
    assert evaluate() == 1

    def ask(path: str, **filters: str) -> list[Row]:
        params = {"experiment": body["experiment"], "limit": 1000, **filters}
        items: list[Row] = []
        while True:
            answer = http.get(path, params=params).json()
            items += answer["items"]
            if answer["next"] is None:
                return items
            params["cursor"] = answer["next"]

    return Study(body, sets, people, lost=lost), ask


def add_people(shelf, ada, people: dict[str, Row], predicted: list[Row]) -> UUID:
    """A dataset of a test set's images, with the truth that their predictions have."""
    made = shelf.add_dataset(ada.caller, phantom=False)
    nothing = dict.fromkeys(MANIFEST.names)
    rows: dict[str, Row] = {}
    for each in predicted:
        sample, patient = each["sample_id"], each["patient_id"]
        row = nothing | {"sample_id": sample, "patient_id": patient, "split": "test"}
        rows.setdefault(sample, row | people[sample])[each["label"]] = each["truth"]
    table = pa.Table.from_pylist(list(rows.values()), schema=MANIFEST)
    shelf.datasets[made] = (*shelf.datasets[made][:2], table)
    return made


SETS = {"flags", "averaged"}
"""Fields whose order says nothing."""


def differences(ours: Row, theirs: Row, what: Any) -> list[Any]:
    """The fields in which an answer is not what was reckoned."""
    ours = {k: v for k, v in ours.items() if k != "experiment"}
    assert ours.keys() == theirs.keys(), what
    return [
        (what, name, ours[name], theirs[name])
        for name in ours
        if not same(set(ours[name]) if name in SETS else ours[name], theirs[name])
    ]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-8)
    return a == b


def test_every_field_is_what_the_predictions_say(studied) -> None:
    study, ask = studied
    rows = [*ask("/results"), *ask("/results", group="any")]
    rows += [*ask("/metrics"), *ask("/metrics", group="any")]
    answered = {
        (r["test"], r["arm"], r.get("metric", "auroc"), r["label"], r["group"]): r for r in rows
    }
    assert len(answered) == len(rows)
    assert answered.keys() == study.lines.keys()
    wrong = [d for key, row in answered.items() for d in differences(row, study.lines[key], key)]
    for path, reckoned in (("/comparisons", study.comparisons), ("/answers", study.answers)):
        for ours, theirs in zip(ask(path), reckoned, strict=True):
            wrong += differences(ours, theirs, path)
    assert wrong == []
