"""Cohorts from which copies of training images were withheld, and those where nobody looked."""

from typing import Any

from api_schemas.screening import Screening
from tests.training.conftest import SIZE_PX, TRAIN
from tests.training.test_experiments import ref, small


def ask(http, body: dict[str, Any], cohort) -> Any:
    body["preset"] |= {"synthetic": ref(cohort), "ratios": [1]}
    return http.post("/experiments", json=body)


def cohort_of(shelf, count: int, **screening: Any):
    table = small(count, "fake")
    return shelf.add_cohort(table, size_px=SIZE_PX, screening=Screening(**screening))


def test_images_that_were_withheld_are_no_reason_to_refuse(http, shelf, body, verdicts) -> None:
    made = ask(http, body, cohort_of(shelf, TRAIN - 2, state="screened", flagged=2))
    assert made.status_code == 202, made.text
    assert made.json()["waived"] == []
    listed = http.get(f"/experiments/{made.json()['id']}/arms").json()
    arms = {arm["arm"]["name"]: arm for arm in listed}
    assert arms["real+100%"]["images"] == 2 * TRAIN


def test_a_cohort_that_was_ordered_too_small_is_refused(http, shelf, body) -> None:
    answer = ask(http, body, cohort_of(shelf, TRAIN - 3, state="screened", flagged=2))
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("cohort-too-small")


def test_the_plan_says_that_nobody_looked_for_copies(http, shelf, body, verdicts) -> None:
    made = ask(http, body, cohort_of(shelf, TRAIN)).json()
    assert made["waived"] == [
        "screening: preset.synthetic was not searched for copies of training images"
    ]
    assert made["flags"] == ["unscreened"]
    assert verdicts.plans[-1].waived == made["waived"]


def test_copies_withheld_after_planning_are_told(http, shelf, body) -> None:
    cohort = cohort_of(shelf, TRAIN)
    made = ask(http, body, cohort).json()
    later = cohort_of(shelf, TRAIN - 1, state="screened", flagged=1)
    view = shelf.views[later.generation]().model_copy(update={"id": cohort.generation})
    shelf.views[cohort.generation] = lambda: view
    assert http.get(f"/experiments/{made['id']}").json()["flags"] == ["images-withheld"]
