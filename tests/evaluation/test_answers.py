"""From predictions to results, comparisons and the report: the whole way on real servers."""

import csv
import io
import json
import math
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api_schemas.evaluation import ResultRow
from api_schemas.manifest import PREDICTIONS, to_parquet
from services.evaluation.reports.facts import Contact, Report
from services.evaluation.reports.page import render
from services.evaluation.reports.policy import CONTENT_SECURITY_POLICY
from services.evaluation.statistics.influence import placements
from tests.evaluation.study import ARMS, LABELS, SEEDS, TESTS, predictions


@pytest.fixture
def evaluated(registered, send_all, evaluate) -> dict:
    """A plan whose evaluation is done."""
    made = registered()
    send_all(made["id"])
    assert evaluate() == 1
    return made


def every_result(http, experiment: str, **filters: str) -> list[dict]:
    rows, cursor = [], None
    while True:
        params = {"experiment": experiment, "limit": 7, **filters}
        answer = http.get("/results", params=params | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200
        rows += answer.json()["items"]
        cursor = answer.json()["next"]
        if cursor is None:
            return rows


def auroc_by_hand(test: str, arm: str, label: str) -> float:
    """Mean over the seeds, straight from the tables that were sent."""
    found = []
    for seed in SEEDS:
        rows = predictions(test, arm, seed).to_pylist()
        known = [(r["truth"], r["score"]) for r in rows if r["label"] == label]
        y, s = zip(*(pair for pair in known if pair[0] is not None), strict=True)
        found.append(placements(np.array(y) == 1, np.array(s))[0])
    return float(np.mean(found))


def test_nothing_is_there_before_the_last_predictions(registered, send, http) -> None:
    made = registered()
    send(made["id"], "site-a", "real", 0)
    params = {"experiment": made["experiment"]}
    assert http.get("/results", params=params).json() == {"items": [], "next": None}
    assert http.get("/comparisons", params=params).json() == {"items": [], "next": None}
    assert http.get(f"/reports/{made['experiment']}").status_code == 404
    assert http.get(f"/plans/{made['id']}").json()["job"] is None


def test_results_of_a_study_nobody_registered_are_a_404(http) -> None:
    assert http.get("/results", params={"experiment": str(uuid4())}).status_code == 404


def test_every_line_is_there_in_order_with_the_right_numbers(evaluated, http) -> None:
    rows = every_result(http, evaluated["experiment"])
    assert all(math.isfinite(v) for r in rows for v in r.values() if isinstance(v, float))
    assert [(r["test"], r["arm"], r["label"]) for r in rows] == [
        (t, a, label) for t in TESTS for a in ARMS for label in ("macro", *sorted(LABELS)[::-1])
    ]
    for row in rows:
        if row["label"] != "macro":
            by_hand = auroc_by_hand(row["test"], row["arm"], row["label"])
            assert row["auroc"] == pytest.approx(by_hand, abs=1e-12)
        assert row["low"] < row["auroc"] < row["high"]
        assert row["seeds"] == len(SEEDS)
        assert {"few_seeds", "phantom"} <= set(row["flags"])


def test_differences_are_to_the_reference(evaluated, http) -> None:
    rows = every_result(http, evaluated["experiment"], label="macro", test="site-a")
    of = {r["arm"]: r for r in rows}
    expected = of["real+100%"]["auroc"] - of["real_equal_steps"]["auroc"]
    assert of["real+100%"]["difference"] == pytest.approx(expected)
    assert of["real+100%"]["p_holm"] is not None
    assert of["real"]["p_holm"] == of["real"]["p"]  # alone in its family
    assert of["real_equal_steps"]["difference"] is None


def test_filters_and_their_combination(evaluated, http) -> None:
    experiment = evaluated["experiment"]
    assert len(every_result(http, experiment, arm="real")) == len(TESTS) * 3
    one = every_result(http, experiment, arm="real", test="site-b", label="Edema")
    assert [(r["arm"], r["test"], r["label"]) for r in one] == [("real", "site-b", "Edema")]
    assert len(http.get("/results", params={"limit": 1000}).json()["items"]) == 18


@pytest.mark.parametrize("path", ["/results", "/metrics"])
@pytest.mark.parametrize("form", ["json", "csv"])
def test_filters_that_nothing_meets_are_refused_with_what_there_is(
    evaluated, http, path, form
) -> None:
    def refused(**filters: str) -> dict[str, Any]:
        params = {"experiment": evaluated["experiment"], "format": form, **filters}
        answer = http.get(path, params=params)
        assert answer.status_code == 422, answer.text
        assert answer.json()["field"] == next(iter(filters))
        return answer.json()

    assert "Pneumonitis" not in str(refused(label="Pneumonitis"))
    assert refused(arm="nobody")["accepted"] == ["real", "real+100%", "real_equal_steps"]
    assert refused(test="site-z")["accepted"] == ["site-a", "site-b"]
    refused(name="site-a")
    known = {"experiment": evaluated["experiment"], "label": "Fracture"}
    assert http.get(path, params=known).json()["items"] == []  # a finding, and not of this study


def test_the_csv_holds_the_same_numbers(evaluated, http) -> None:
    rows = every_result(http, evaluated["experiment"])
    params = {"experiment": evaluated["experiment"]}
    by_format = http.get("/results", params=params | {"format": "csv"})
    by_accept = http.get("/results", params=params, headers={"Accept": "text/csv"})
    assert by_format.headers["content-type"].startswith("text/csv")
    assert by_format.text == by_accept.text
    lines = list(csv.DictReader(io.StringIO(by_format.text)))
    assert list(lines[0]) == list(ResultRow.model_fields)
    for line, row in zip(lines, rows, strict=True):
        for name, value in row.items():
            if isinstance(value, float):
                assert float(line[name]) == value  # every digit
            else:
                shown = ";".join(value) if isinstance(value, list) else value
                assert line[name] == ("" if shown is None else str(shown))


def test_the_report_comes_as_tables(evaluated, http) -> None:
    path = f"/reports/{evaluated['experiment']}/table"
    as_csv, as_tex = http.get(f"{path}.csv"), http.get(f"{path}.tex")
    assert as_csv.headers["content-type"].startswith("text/csv")
    assert as_tex.headers["content-type"].startswith("application/x-tex")
    macros = every_result(http, evaluated["experiment"], label="macro")
    lines = list(csv.DictReader(io.StringIO(as_csv.text)))
    assert [(x["test"], x["arm"]) for x in lines] == [(r["test"], r["arm"]) for r in macros]
    assert [float(x["auroc"]) for x in lines] == [r["auroc"] for r in macros]
    assert {x["verdict"] for x in lines if x["role"] == "primary"} == {"better"}
    assert evaluated["digest"] in as_tex.text
    assert as_tex.text.count("\\begin{tabular}") == len(TESTS)


def test_there_is_no_table_before_there_are_results(registered, http) -> None:
    made = registered()
    for form in ("csv", "tex"):
        assert http.get(f"/reports/{made['experiment']}/table.{form}").status_code == 404
        assert http.get(f"/reports/{uuid4()}/table.{form}").status_code == 404


def test_comparisons_answer_the_registered_question(evaluated, http) -> None:
    params = {"experiment": evaluated["experiment"]}
    body = http.get("/comparisons", params=params).text
    found = json.loads(body, parse_constant=pytest.fail)["items"]
    assert [c["test"] for c in found] == list(TESTS)
    for c in found:
        assert (c["primary"], c["reference"]) == ("real+100%", "real_equal_steps")
        assert c["verdict"] == "better"
        assert c["p"] <= c["p_holm"] < 0.05
        assert c["low"] < c["difference"] < c["high"]


def test_the_report_is_shown_and_confined(registered, send_all, evaluate, http) -> None:
    made = registered()
    send_all(made["id"])
    assert evaluate(render) == 1
    answer = http.get(f"/reports/{made['experiment']}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "These are phantoms, not patients" in answer.text
    assert made["digest"] in answer.text
    assert "2 training seeds" in answer.text
    assert "The plan names no images to show." in answer.text
    assert "ROC curves are averaged over labels and seeds" in answer.text
    job = http.get(f"/plans/{made['id']}").json()["job"]
    total = len(ARMS) * len(SEEDS) * len(TESTS)
    assert (job["state"], job["done"], job["total"]) == ("succeeded", total, total)


@pytest.fixture
def report_on(registered, send_all, evaluate) -> Callable[..., Report]:
    """Evaluate a plan, with changes, and get what its page would say."""

    def run(made: dict) -> Report:
        send_all(made["id"])
        reports: list[Report] = []

        def keep(report: Report) -> str:
            reports.append(report)
            return "a report"

        assert evaluate(keep) == 1
        return reports[0]

    return run


def contact_sheet(shelf, ada, parents: list[str | None]) -> dict:
    real = shelf.add_dataset(ada.caller)
    cohort = shelf.add_cohort(ada.caller, parents)
    return {"real": {"dataset": str(real)}, "synthetic": {"generation": str(cohort)}}


def test_the_contact_sheet_shows_a_sample_beside_its_replica(
    shelf, ada, registered, report_on
) -> None:
    sheet = contact_sheet(shelf, ada, [f"real-{i}" for i in range(16)])
    contact = report_on(registered(contact_sheet=sheet)).contact
    assert isinstance(contact, Contact)
    assert (len(contact.pairs), contact.mirrored, contact.kind) == (12, True, "phantom")
    for pair in contact.pairs:  # replica i mirrors sample i, and both have the same shade
        np.testing.assert_array_equal(pair.real, pair.synthetic)


def test_a_cohort_that_mirrors_nothing_is_said_to(shelf, ada, registered, report_on) -> None:
    sheet = contact_sheet(shelf, ada, [None] * 5)
    contact = report_on(registered(contact_sheet=sheet)).contact
    assert (len(contact.pairs), contact.mirrored) == (12, False)
    assert sum(pair.synthetic is not None for pair in contact.pairs) == 5


@pytest.mark.parametrize("what", ["dataset", "images"])
def test_deleted_images_do_not_fail_the_evaluation(shelf, ada, registered, report_on, what) -> None:
    sheet = contact_sheet(shelf, ada, ["real-0"])
    made = registered(contact_sheet=sheet)
    real = next(key for key in shelf.datasets if str(key) == sheet["real"]["dataset"])
    if what == "dataset":
        del shelf.datasets[real]
    else:
        shelf.store.remove_prefix(f"test/{real}/")
    contact = report_on(made).contact
    assert contact == "The contact sheet is missing: its images have been deleted since."


def test_data_deleted_since_does_not_fail_the_evaluation(
    shelf, data, registered, report_on
) -> None:
    made = registered()
    del shelf.datasets[data]
    facts = report_on(made).tests
    assert {(t.kind, t.title, t.manifest) for t in facts} == {("unknown", None, None)}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE evaluation.predictions SET arm = arm",
        "UPDATE evaluation.evaluations SET version = version",
        "UPDATE evaluation.results SET auroc = auroc",
        "UPDATE evaluation.comparisons SET p = p",
    ],
)
def test_results_are_never_changed(adapters, evaluated, change) -> None:
    with pytest.raises(DBAPIError, match="never changed"), adapters.db.transaction() as tx:
        tx.session.execute(text(change))


def test_the_database_refuses_nan(adapters, evaluated) -> None:
    with pytest.raises(DBAPIError, match="auroc_range"), adapters.db.transaction() as tx:
        tx.session.execute(
            text(
                "INSERT INTO evaluation.results (evaluation, experiment, arm, test, label, images,"
                " patients, seeds, flags, auroc) SELECT evaluation, experiment, arm, test, label,"
                " images, patients, seeds, flags, 'NaN' FROM evaluation.results LIMIT 1"
            )
        )


def test_a_label_without_both_classes_is_null_everywhere(registered, send, evaluate, http) -> None:
    made = registered(arms=[{"name": "real_equal_steps"}, {"name": "real+100%"}], seeds=[0])
    one_class = {"labels": (*LABELS, "Fracture")}
    for test in TESTS:
        for arm in ("real_equal_steps", "real+100%"):
            rows = [
                r | ({"truth": 0} if r["label"] == "Fracture" else {})
                for r in predictions(test, arm, 0, **one_class).to_pylist()
            ]
            body = to_parquet(pa.Table.from_pylist(rows, schema=PREDICTIONS))
            assert send(made["id"], test, arm, 0, body).status_code == 201
    assert evaluate() == 1
    for row in every_result(http, made["experiment"]):
        if row["label"] == "macro":
            assert row["auroc"] is not None
            assert "fewer_labels" in row["flags"]
        if row["label"] == "Fracture":
            assert (row["auroc"], row["low"], row["p"]) == (None, None, None)
            assert "not_estimable" in row["flags"]
    params = {"experiment": made["experiment"]}
    found = http.get("/comparisons", params=params).json()["items"]
    assert all("fewer_labels" in c["flags"] for c in found)


def test_a_tampered_set_is_not_evaluated(adapters, registered, send_all, evaluate, http) -> None:
    made = registered()
    send_all(made["id"])
    with adapters.db.transaction() as tx:
        key = tx.session.scalar(text("SELECT key FROM evaluation.predictions LIMIT 1"))
    adapters.store.put(key, b"other bytes")
    assert evaluate() == 1
    job = http.get(f"/plans/{made['id']}").json()["job"]
    assert job["state"] == "failed"
    assert job["problem"]["type"].endswith("predictions-damaged")
    assert every_result(http, made["experiment"]) == []


def test_a_later_version_supersedes_and_keeps_the_earlier(adapters, evaluated, http) -> None:
    """What a re-run with another method will do: the rows of version 1 stay, unseen."""
    with adapters.db.transaction() as tx:
        tx.session.execute(
            text(
                "INSERT INTO evaluation.evaluations SELECT gen_random_uuid(), plan, project,"
                " experiment, job, version + 1, method, versions, inputs_digest, report_key,"
                " report_sha256 FROM evaluation.evaluations"
            )
        )
        assert tx.session.scalar(text("SELECT count(*) FROM evaluation.results")) == 18
    assert every_result(http, evaluated["experiment"]) == []
