"""Cohorts from which copies of training images were withheld, and those where nobody looked."""

from typing import Any

import pytest

from api_schemas.screening import Screening
from tests.training.conftest import SIZE_PX, TRAIN, image_table
from tests.training.test_experiments import finish, ref, small


def ask(http, body: dict[str, Any], cohort) -> Any:
    body["preset"] |= {"synthetic": ref(cohort), "ratios": [1]}
    return http.post("/experiments", json=body)


def cohort_of(shelf, count: int, **screening: Any):
    table = small(count, "fake")
    return shelf.add_cohort(table, size_px=SIZE_PX, screening=Screening(**screening))


def test_an_arm_trains_on_what_was_not_withheld_and_says_so(http, shelf, body, verdicts) -> None:
    made = ask(http, body, cohort_of(shelf, TRAIN - 1, state="screened", flagged=1))
    assert made.status_code == 202, made.text
    assert made.json()["waived"] == []
    listed = http.get(f"/experiments/{made.json()['id']}/arms").json()
    assert {arm["arm"]["name"]: (arm["images"], arm["withheld"]) for arm in listed} == {
        "real": (TRAIN, 0),
        "real_equal_steps": (TRAIN, 0),
        "real+100%": (2 * TRAIN - 1, 1),
        "synthetic_only": (TRAIN - 1, 1),
        "shuffled": (2 * TRAIN - 1, 1),
    }
    plan = verdicts.plans[-1]
    doses = {arm.name: arm.dose for arm in plan.arms}
    assert doses["real+100%"] == pytest.approx((TRAIN - 1) / TRAIN)
    assert doses["real_equal_steps"] == 0
    assert plan.training.arms["real+100%"].withheld == 1


def test_no_image_of_a_cohort_is_listed_twice(
    http, shelf, body, adapters, work, handler, engine
) -> None:
    """Not even where it lacks some: the engine sees each once an epoch."""
    count = TRAIN - 1
    table = image_table(adapters, "few", [f"f-{i}" for i in range(count)], ["train"] * count)
    screening = Screening(state="screened", flagged=1)
    cohort = shelf.add_cohort(table, size_px=SIZE_PX, screening=screening)
    assert ask(http, body | {"seeds": [0]}, cohort).status_code == 202
    work("training", "training", {"experiment": handler(engine)})
    parts = [part for spec in engine.specs for part in spec.stages[0].parts]
    synthetic = [part.rows.tolist() for part in parts if len(part.images) == count]
    assert [sorted(rows) for rows in synthetic] == [list(range(count))] * 3


def test_the_plan_before_it_runs_says_how_many_are_missing(http, shelf, body) -> None:
    body["dry_run"] = True
    shown = ask(http, body, cohort_of(shelf, TRAIN - 1, state="screened", flagged=1)).json()
    (arm,) = [arm for arm in shown["arms"] if arm["arm"]["name"] == "real+100%"]
    assert (arm["images"], arm["withheld"]) == (2 * TRAIN - 1, 1)
    assert arm["dose"] == pytest.approx((TRAIN - 1) / TRAIN)


def test_a_larger_cohort_makes_up_for_what_was_withheld(http, shelf, body) -> None:
    made = ask(http, body, cohort_of(shelf, 2 * TRAIN - 2, state="screened", flagged=2)).json()
    arms = http.get(f"/experiments/{made['id']}/arms").json()
    assert {arm["withheld"] for arm in arms} == {0}


def test_a_cohort_that_was_ordered_too_small_is_refused(http, shelf, body) -> None:
    answer = ask(http, body, cohort_of(shelf, TRAIN - 1, state="screened"))
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("cohort-too-small")


def test_a_cohort_of_which_more_than_a_tenth_was_withheld_is_refused(http, shelf, body) -> None:
    answer = ask(http, body, cohort_of(shelf, TRAIN - 2, state="screened", flagged=2))
    problem = answer.json()
    assert answer.status_code == 422
    assert "holds 10 (2 are withheld); replicas missing: 1" in problem["detail"]
    assert (problem["field"], problem["accepted"]) == ("preset.synthetic", TRAIN - 2)
    assert problem["generate"]["replicas"] == 2


def test_of_a_cohort_in_the_making_evaluation_is_told_once_it_is_there(
    http, shelf, body, verdicts, work, handler, engine, making
) -> None:
    screening = Screening(state="screened", flagged=1)
    table = small(TRAIN - 1, "fake")
    cohort = shelf.add_cohort(table, size_px=SIZE_PX, screening=screening, job=making)
    made = ask(http, body, cohort).json()
    before = {arm.name: arm.dose for arm in verdicts.plans[-1].arms}
    assert before["real+100%"] == 1
    assert verdicts.detailed == []
    work("stub", "stub", {"stub": finish})
    work("training", "training", {"experiment": handler(engine)}, most=1)
    (told,) = verdicts.detailed
    assert {arm.name: arm.dose for arm in told.arms}["real+100%"] == pytest.approx(11 / 12)
    assert told.trained["real+100%"].withheld == 1
    assert told.waived == http.get(f"/experiments/{made['id']}").json()["waived"]


def test_the_plan_says_that_nobody_looked_for_copies(http, shelf, body, verdicts) -> None:
    made = ask(http, body, cohort_of(shelf, TRAIN)).json()
    assert made["waived"] == [
        "screening: preset.synthetic was not searched for copies of training images"
    ]
    assert made["flags"] == ["unscreened"]
    assert verdicts.plans[-1].waived == made["waived"]


def test_the_plan_says_that_synthetic_images_were_made_elsewhere(
    http, shelf, body, adapters
) -> None:
    theirs = [f"theirs-{i}" for i in range(TRAIN)]
    table = image_table(adapters, "theirs", theirs, ["train"] * TRAIN)
    (said,) = ask(http, body, shelf.add_dataset(table, size_px=SIZE_PX)).json()["waived"]
    assert said.startswith("origin: preset.synthetic was made elsewhere.")


def test_copies_withheld_after_planning_are_told(http, shelf, body) -> None:
    cohort = cohort_of(shelf, TRAIN)
    made = ask(http, body, cohort).json()
    later = cohort_of(shelf, TRAIN - 1, state="screened", flagged=1)
    view = shelf.views[later.generation]().model_copy(update={"id": cohort.generation})
    shelf.views[cohort.generation] = lambda: view
    assert http.get(f"/experiments/{made['id']}").json()["flags"] == ["images-withheld"]
