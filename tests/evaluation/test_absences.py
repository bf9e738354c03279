"""Predictions that will never come: what is then compared with what."""

from typing import Any

import pytest

from api_schemas.evaluation import AbsencePost
from services.evaluation.reports.cautions import grave
from tests.evaluation.study import ARMS, SEEDS, TESTS
from tests.evaluation.test_answers import every_result

ALL = [(arm, seed) for arm in ARMS for seed in SEEDS]


@pytest.fixture
def forgo(http):
    def post(plan: str, arm: str, seed: int, reason: str = "it diverged") -> Any:
        body = {"arm": arm, "seed": seed, "reason": reason}
        return http.post(f"/plans/{plan}/absences", json=body)

    return post


@pytest.fixture
def study(registered, send, forgo, evaluate, http):
    """A plan of which some runs failed, evaluated: its lines by arm."""

    def make(failed: list[tuple[str, int]], *, early: bool = True) -> tuple[dict, dict]:
        made = registered()
        for arm, seed in failed if early else []:
            assert forgo(made["id"], arm, seed).status_code == 201
        for test in TESTS:
            for arm, seed in ALL:
                if (arm, seed) not in failed:
                    assert send(made["id"], test, arm, seed).status_code == 201
        for arm, seed in [] if early else failed:
            assert forgo(made["id"], arm, seed).status_code == 201
        assert evaluate() == 1
        lines: dict[str, list[dict]] = {}
        for row in every_result(http, made["experiment"]):
            lines.setdefault(row["arm"], []).append(row)
        return made, lines

    return make


@pytest.mark.parametrize("early", [True, False])
def test_a_side_arm_that_lacks_a_seed_is_left_out_and_named(study, http, early) -> None:
    made, lines = study([("real", 1)], early=early)
    assert set(lines) == set(ARMS)
    for row in lines["real"]:
        assert row["flags"] == ["not_estimable", "runs_missing"]
        assert (row["auroc"], row["difference"], row["seeds"]) == (None, None, 0)
    for arm in ("real_equal_steps", "real+100%"):
        assert {row["seeds"] for row in lines[arm]} == {2}
        assert all(row["auroc"] is not None for row in lines[arm])
    found = http.get("/comparisons", params={"experiment": made["experiment"]}).json()["items"]
    assert {c["seeds"] for c in found} == {2}


@pytest.mark.parametrize("arm", ["real_equal_steps", "real+100%"])
def test_a_seed_that_the_question_lacks_is_left_out_for_all(study, arm) -> None:
    _, lines = study([(arm, 0)])
    assert {row["seeds"] for rows in lines.values() for row in rows} == {1}
    assert all("few_seeds" in row["flags"] for rows in lines.values() for row in rows)


def test_numbers_are_those_of_a_study_without_what_failed(study, registered, send, evaluate, http):
    _, lines = study([("real", 1), ("real+100%", 0)])
    alone = registered(seeds=[1], arms=[{"name": "real_equal_steps"}, {"name": "real+100%"}])
    for test in TESTS:
        for arm in ("real_equal_steps", "real+100%"):
            send(alone["id"], test, arm, 1)
    evaluate()
    same = ("test", "label", "auroc", "low", "high", "difference", "p")
    expected = [[row[f] for f in same] for row in every_result(http, alone["experiment"])]
    left = [row for arm in lines for row in lines[arm] if arm != "real"]
    assert sorted(map(str, expected)) == sorted(str([row[f] for f in same]) for row in left)


def test_the_report_says_which_runs_failed(study, registered, send, forgo, evaluate, http) -> None:
    reports = []
    made = registered()
    forgo(made["id"], "real+100%", 0, "the loss became infinite")
    for test in TESTS:
        for arm, seed in ALL:
            if (arm, seed) != ("real+100%", 0):
                send(made["id"], test, arm, seed)
    evaluate(lambda report: reports.append(report) or "a report")
    (report,) = reports
    assert report.plan.waived == [
        "runs: real+100%, seed 0 failed for good (the loss became infinite)",
        "runs: everything is compared over the seeds that are left: 1",
    ]
    assert http.get(f"/plans/{made['id']}").json()["waived"] == []  # what was registered stands


def test_nothing_to_compare_fails_the_evaluation(registered, send, forgo, evaluate, http) -> None:
    made = registered()
    forgo(made["id"], "real_equal_steps", 0)
    forgo(made["id"], "real+100%", 1)
    for test in TESTS:
        for arm, seed in [
            *((("real", s)) for s in SEEDS),
            ("real_equal_steps", 1),
            ("real+100%", 0),
        ]:
            send(made["id"], test, arm, seed)
    evaluate()
    job = http.get(f"/plans/{made['id']}").json()["job"]
    assert (job["state"], job["problem"]["status"]) == ("failed", 409)
    assert job["problem"]["type"].endswith("nothing-to-compare")


def test_saying_it_again_changes_nothing(registered, forgo) -> None:
    made = registered()
    first = forgo(made["id"], "real", 0)
    again = forgo(made["id"], "real", 0, "another reason")
    assert first.json() == again.json()
    assert AbsencePost(arm="real", seed=0, reason="it diverged").reason == first.json()["reason"]


@pytest.mark.parametrize(("change", "field"), [({"arm": "nobody"}, "arm"), ({"seed": 9}, "seed")])
def test_only_what_the_plan_has_can_be_missing(registered, forgo, change, field) -> None:
    made = registered()
    answer = forgo(made["id"], **({"arm": "real", "seed": 0} | change))
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_what_has_come_is_not_missing(registered, send, forgo) -> None:
    made = registered()
    for test in TESTS:
        send(made["id"], test, "real", 0)
    assert forgo(made["id"], "real", 0).status_code == 409


@pytest.mark.parametrize("later", [False, True])
def test_a_failed_run_with_predictions_is_flagged(
    registered, send, forgo, evaluate, http, later
) -> None:
    """Not waited for, but whoever leaves it out may have looked: every line says so."""
    made, (first, *_) = registered(), TESTS
    for step in [forgo, send] if later else [send, forgo]:
        where = (made["id"], first, "real", 0) if step is send else (made["id"], "real", 0)
        assert step(*where).status_code == 201
    for test in TESTS:
        for arm, seed in ALL:
            if (arm, seed) != ("real", 0):
                send(made["id"], test, arm, seed)
    reports = []
    assert evaluate(lambda report: reports.append(report) or "a report") == 1
    assert reports[0].plan.waived[0] == (
        "contradicted: real, seed 0 was said to have failed, but predictions of it were received"
        " for 1 of 2 test sets; it is left out of every number"
    )
    assert "Predictions of runs that were said to have failed" in {
        caution.title for caution in grave(reports[0])
    }
    lines = every_result(http, made["experiment"])
    assert all("runs_contradicted" in line["flags"] for line in lines)
    asked = http.get("/comparisons", params={"experiment": made["experiment"]}).json()["items"]
    assert all("runs_contradicted" in each["flags"] for each in asked)


def test_what_comes_after_the_evaluation_is_refused(registered, send, forgo, http) -> None:
    made = registered()
    forgo(made["id"], "real", 0)
    for test in TESTS:
        for arm, seed in ALL:
            if (arm, seed) != ("real", 0):
                send(made["id"], test, arm, seed)
    late = send(made["id"], next(iter(TESTS)), "real", 0)
    assert (late.status_code, late.json()["type"].split(":")[-1]) == (409, "evaluation-begun")
    again = send(made["id"], next(iter(TESTS)), "real", 1)
    assert again.status_code == 201  # the same as before is answered as before


def test_strangers_cannot_say_so(registered, http, stranger) -> None:
    made = registered()
    body = {"arm": "real", "seed": 0, "reason": "x"}
    path = f"/plans/{made['id']}/absences"
    assert http.post(path, json=body, headers=stranger.headers).status_code == 404
