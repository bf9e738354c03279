"""What becomes known of an experiment after its plan was registered, and what is made of it."""

from typing import Any
from uuid import uuid4

import pytest

from tests.evaluation.study import ARMS, SEEDS, TESTS, content, plan
from tests.evaluation.test_answers import every_result

SHORT = "real+100%"
DOSES = {"real": 0, "real_equal_steps": None, SHORT: 0.9}
NOTE = {"classifier": {"preset": "fast"}, "uncertain": "ignore", "blank": "ignore"}


def particulars(**changes: Any) -> dict[str, Any]:
    return {
        "arms": [{"name": name, "dose": dose} for name, dose in DOSES.items()],
        "trained": {
            "real": {"images": 100, "steps": 30},
            SHORT: {"images": 190, "steps": 60, "withheld": 10},
        },
        "waived": [],
        **changes,
    }


@pytest.fixture
def tell(http):
    return lambda plan, **changes: http.post(
        f"/plans/{plan}/particulars", json=particulars(**changes)
    )


@pytest.fixture
def evaluated(send, evaluate):
    """The report's facts, once a plan has all its predictions."""

    def run(plan: str) -> Any:
        reports = []
        for test in TESTS:
            for arm in ARMS:
                for seed in SEEDS:
                    assert send(plan, test, arm, seed).status_code == 201
        assert evaluate(lambda report: reports.append(report) or "a report") == 1
        return reports[0]

    return run


def test_lines_of_an_arm_that_lacks_images_are_flagged(registered, tell, evaluated, http) -> None:
    made = registered(training=NOTE)
    assert tell(made["id"]).status_code == 201
    report = evaluated(made["id"])
    flagged = {r["arm"] for r in every_result(http, made["experiment"]) if _short(r)}
    assert flagged == {SHORT}
    asked = http.get("/comparisons", params={"experiment": made["experiment"]}).json()["items"]
    assert all(_short(each) for each in asked)
    assert {arm.name: arm.dose for arm in report.plan.arms}[SHORT] == 0.9
    assert report.plan.training.arms[SHORT].withheld == 10


def test_with_which_arm_one_is_compared_stays_as_registered(registered, tell, evaluated) -> None:
    named = {"real": "real", "real_equal_steps": None, SHORT: None}
    made = registered(arms=[{"name": name, "reference": own} for name, own in named.items()])
    bent = [{"name": name, "reference": "real_equal_steps"} for name in named]
    answer = tell(made["id"], arms=bent)
    assert (answer.status_code, answer.json()["field"]) == (422, "arms.0.reference")
    assert tell(made["id"]).status_code == 201  # which names none
    plan = evaluated(made["id"]).plan
    assert {arm.name: arm.reference for arm in plan.arms} == named
    assert {arm.name: arm.dose for arm in plan.arms}[SHORT] == 0.9


def test_a_plan_that_knew_it_is_flagged_alike(registered, evaluated, http) -> None:
    arms = {SHORT: {"images": 190, "steps": 60, "withheld": 10}}
    made = registered(training={**NOTE, "arms": arms})
    evaluated(made["id"])
    assert {r["arm"] for r in every_result(http, made["experiment"]) if _short(r)} == {SHORT}


def test_what_is_waived_is_only_added_to(registered, tell, evaluated, http) -> None:
    leak, seen = "leakage: the cohort shares patients", "extended: it extends an earlier study"
    made = registered(waived=[leak, seen])
    assert tell(made["id"], waived=["screening: nobody looked"]).status_code == 201
    assert evaluated(made["id"]).plan.waived == [leak, seen, "screening: nobody looked"]
    lines = every_result(http, made["experiment"])
    assert all({"leakage_waived", "exploratory"} & set(line["flags"]) for line in lines)
    assert http.get(f"/plans/{made['id']}").json()["waived"] == made["waived"]  # as registered


def test_of_its_own_runs_the_training_service_tells_what_it_found(
    http, trainer, data, evaluate
) -> None:
    """Its check takes the place of what it could not check when it registered the plan."""
    unchecked = ["leakage: allowed before it could be checked"]
    made = trainer.post("/plans", json=plan(uuid4(), data, waived=unchecked)).json()
    told = trainer.post(f"/plans/{made['id']}/particulars", json=particulars())
    assert told.status_code == 201
    for test in TESTS:
        for arm in ARMS:
            for seed in SEEDS:
                where = {"plan": made["id"], "arm": arm, "seed": seed, "test": test}
                trainer.post("/predictions", params=where, content=content(test, arm, seed))
    assert evaluate() == 1
    lines = every_result(http, made["experiment"])
    assert not any("leakage_waived" in line["flags"] for line in lines)


def test_nobody_else_tells_of_the_training_services_runs(http, trainer, data) -> None:
    """Whoever ordered a study cannot wipe what it confesses, drop a seed or send other scores."""
    waived = ["extended: it extends an earlier study"]
    made = trainer.post("/plans", json=plan(uuid4(), data, waived=waived)).json()
    run = {"arm": SHORT, "seed": SEEDS[0]}
    where = {"plan": made["id"], **run, "test": next(iter(TESTS))}
    for answer in (
        http.post(f"/plans/{made['id']}/particulars", json=particulars()),
        http.post(f"/plans/{made['id']}/absences", json={**run, "reason": "the loss is infinite"}),
        http.post("/predictions", params=where, content=content(where["test"], SHORT, SEEDS[0])),
    ):
        assert answer.status_code == 403, answer.text
        assert answer.json()["type"].endswith("only-training-tells")
    assert http.get(f"/plans/{made['id']}").json()["received"] == 0


def test_they_are_told_once_and_before_predictions(registered, tell, send) -> None:
    made = registered()
    first = tell(made["id"])
    assert tell(made["id"]).json() == first.json()
    other = tell(made["id"], waived=["something"])
    assert (other.status_code, other.json()["detail"]) == (409, "They are other ones")
    late = registered()
    send(late["id"], next(iter(TESTS)), SHORT, SEEDS[0])
    assert tell(late["id"]).json()["type"].endswith("particulars-known")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"arms": [{"name": SHORT}]}, "arms"),
        ({"trained": {"x": {"images": 1, "steps": 1}}}, "trained"),
    ],
)
def test_they_are_of_the_plans_arms(registered, tell, changes, field) -> None:
    answer = tell(registered()["id"], **changes)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert answer.json()["accepted"] == list(ARMS)


def _short(line: dict[str, Any]) -> bool:
    return "images_withheld" in line["flags"]
