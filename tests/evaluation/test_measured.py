"""Groups, further metrics and further questions: the whole way on real servers."""

import csv
import io
import json
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api_schemas.evaluation import MetricRow
from services.evaluation.statistics.analysis import METHOD
from tests.evaluation.study import ARMS, LABELS, SEEDS, TESTS, content, plan, predictions

QUESTIONS = [
    {"arm": "real+100%", "reference": "real", "kind": "noninferiority", "margin": 0.01},
    {"arm": "real+100%", "reference": "real_equal_steps", "kind": "superiority"},
    {"arm": "real", "reference": "real_equal_steps", "kind": "equivalence", "margin": 0.001},
]


@pytest.fixture
def population(shelf, ada) -> UUID:
    return shelf.add_population(ada.caller, [predictions(test, "real", 0) for test in TESTS])


@pytest.fixture
def measured(http, population, send_all, evaluate) -> str:
    """The experiment of a plan with questions, on data that says who is on the images."""
    experiment = str(uuid4())
    made = http.post("/plans", json=plan(UUID(experiment), population, questions=QUESTIONS)).json()
    send_all(made["id"])
    assert evaluate() == 1
    return experiment


def every(http, path: str, experiment: str, **filters: str) -> list[dict]:
    params = {"experiment": experiment, "limit": 1000, **filters}
    answer = http.get(path, params=params)
    assert answer.status_code == 200, answer.text
    found = json.loads(answer.text, parse_constant=pytest.fail)
    assert found["next"] is None
    return found["items"]


def test_results_are_over_all_images_unless_a_group_is_asked_for(measured, http) -> None:
    whole = every(http, "/results", measured)
    assert len(whole) == len(TESTS) * len(ARMS) * (1 + len(LABELS))
    assert {r["group"] for r in whole} == {None}
    groups = every(http, "/results", measured, group="any")
    assert {"sex: Female", "sex: Male", "age: 40-59", "age: 60-79", "sex, age: Male, 40-59"} <= {
        r["group"] for r in groups
    }
    assert None not in {r["group"] for r in groups}
    women = every(http, "/results", measured, group="sex: Female", label="macro", test="site-a")
    assert [r["arm"] for r in women] == list(ARMS)
    everybody = every(http, "/results", measured, label="macro", test="site-a", arm="real")[0]
    men = every(http, "/results", measured, group="sex: Male", label="macro", test="site-a")
    assert women[0]["images"] + men[0]["images"] <= everybody["images"]
    nobody = http.get("/results", params={"experiment": measured, "group": "nobody"})
    assert nobody.status_code == 422
    assert "sex: Female" in nobody.json()["accepted"]


def test_gaps_tell_whom_an_arm_helped(measured, http) -> None:
    gaps = every(http, "/metrics", measured, group="sex: Male", metric="auroc_gap")
    assert [(g["test"], g["arm"]) for g in gaps] == [(t, a) for t in TESTS for a in ARMS]
    by_group = {
        (r["group"], r["arm"], r["test"]): r["auroc"]
        for r in every(http, "/results", measured, group="any", label="macro")
    }
    for gap in gaps:
        assert gap["against"] == "sex: Female"  # there are more of them
        ours = by_group["sex: Male", gap["arm"], gap["test"]]
        theirs = by_group["sex: Female", gap["arm"], gap["test"]]
        assert gap["value"] == pytest.approx(ours - theirs)
        assert (gap["difference"] is None) == (gap["arm"] == "real_equal_steps")


def test_metrics_as_json_and_csv(measured, http) -> None:
    rows = every(http, "/metrics", measured)
    assert {"average_precision", "sensitivity_at_90_specificity", "missed"} <= {
        r["metric"] for r in rows
    }
    for row in rows:
        if row["metric"] in {"brier", "calibration_slope", "calibration_intercept"}:
            assert row["value"] is None  # these scores are no probabilities
            assert "not_probabilities" in row["flags"]
        else:
            assert row["low"] <= row["value"] <= row["high"]
    params = {"experiment": measured, "format": "csv"}
    lines = list(csv.DictReader(io.StringIO(http.get("/metrics", params=params).text)))
    assert list(lines[0]) == list(MetricRow.model_fields)
    assert [float(line["value"] or "nan") for line in lines] == pytest.approx(
        [float("nan") if row["value"] is None else row["value"] for row in rows], nan_ok=True
    )
    assert http.get("/metrics", params={"metric": "accuracy"}).status_code == 422


def test_further_questions_are_answered(measured, http) -> None:
    found = every(http, "/answers", measured)
    assert [(a["kind"], a["test"]) for a in found] == [
        (q["kind"], test) for q in QUESTIONS for test in TESTS
    ]
    verdicts = {(a["kind"], a["verdict"]) for a in found}
    assert verdicts == {
        ("noninferiority", "shown"),
        ("superiority", "shown"),
        ("equivalence", "not_shown"),
    }
    assert all("registered" in a["flags"] and a["p"] <= a["p_holm"] for a in found)


def test_seeds_and_test_sets_are_apart(measured, http) -> None:
    comparisons = every(http, "/comparisons", measured)
    rows = every(http, "/results", measured)
    for line in (*comparisons, *rows):
        assert line["test_sd"] > 0
        assert line["seed_sd"] > 0
    for c in comparisons:
        half = (c["high"] - c["low"]) / 2
        assert half > 1.96 * (c["test_sd"] ** 2 + c["seed_sd"] ** 2 / len(SEEDS)) ** 0.5


def test_the_same_predictions_give_the_same_numbers(
    measured, http, population, send, evaluate
) -> None:
    """Registered anew and sent in another order."""
    again = str(uuid4())
    made = http.post("/plans", json=plan(UUID(again), population, questions=QUESTIONS)).json()
    places = [(t, a, s) for s in SEEDS for a in ARMS for t in TESTS]
    for place in reversed(places):
        assert send(made["id"], *place, content(*place)).status_code == 201
    assert evaluate() == 1
    for path in ("/results", "/metrics", "/answers", "/comparisons"):
        filters = {} if path in {"/answers", "/comparisons"} else {"group": "any"}
        first, second = (every(http, path, e, **filters) for e in (measured, again))
        assert first
        assert [r | {"experiment": again} for r in first] == second


def test_which_code_and_data_made_the_numbers_is_on_record(adapters, measured) -> None:
    with adapters.db.transaction() as tx:
        method, versions, digest = tx.session.execute(
            text("SELECT method, versions, inputs_digest FROM evaluation.evaluations")
        ).one()
    assert method == METHOD
    assert {"Python", "numpy", "scipy"} <= set(versions)
    assert len(versions["statistics"]) == 16
    assert len(digest) == 64


def test_of_data_that_is_gone_there_are_no_groups(
    shelf, http, population, send_all, evaluate
) -> None:
    experiment = str(uuid4())
    made = http.post("/plans", json=plan(UUID(experiment), population)).json()
    send_all(made["id"])
    del shelf.datasets[population]
    assert evaluate() == 1
    assert every(http, "/results", experiment, group="any") == []
    assert every(http, "/answers", experiment) == []
    assert every(http, "/results", experiment)


@pytest.mark.parametrize("table", ["evaluations", "results", "comparisons", "answers", "metrics"])
def test_what_was_found_stays(adapters, measured, table) -> None:
    with pytest.raises(DBAPIError, match="never removed"), adapters.db.transaction() as tx:
        tx.session.execute(text(f"DELETE FROM evaluation.{table}"))  # noqa: S608 - a literal above
    changed = "version" if table == "evaluations" else "seeds"
    with pytest.raises(DBAPIError, match="never changed"), adapters.db.transaction() as tx:
        tx.session.execute(text(f"UPDATE evaluation.{table} SET {changed} = 1"))  # noqa: S608


def test_the_database_refuses_a_metric_that_is_no_number(adapters, measured) -> None:
    columns = "evaluation, experiment, arm, test, label, metric, images, patients, seeds, flags"
    for value in ("NaN", "Infinity"):
        with pytest.raises(DBAPIError, match="value_finite"), adapters.db.transaction() as tx:
            tx.session.execute(
                text(
                    f"INSERT INTO evaluation.metrics ({columns}, value)"  # noqa: S608
                    f" SELECT {columns}, '{value}' FROM evaluation.metrics LIMIT 1"
                )
            )
