"""The data behind a plan is deleted: predictions and report go, the numbers stay."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from services.evaluation.reports.facts import Report
from services.evaluation.service import EVALUATE, KEPT, NAMED
from services.evaluation.service.evaluate import Evaluate
from services.evaluation.service.sources import Sources
from services.kit.deletion import Delete, Deletions
from services.kit.jobs import NewJob, lineage
from services.kit.jobs.lineage import DELETE, Made
from tests.evaluation.study import plan


@pytest.fixture
def experiment(adapters, ada) -> UUID:
    """An experiment as training notes it."""
    made = uuid4()
    with adapters.db.transaction() as tx:
        lineage.note(tx, ada.caller, Made("training", "training", "experiment", made))
        job = NewJob("training", "experiment", "training", ada.caller, made, {}, [{}])
        adapters.jobs.submit(tx, job)
    return made


@pytest.fixture
def drop(adapters, ada, experiment) -> Callable[[], None]:
    def delete() -> None:
        deletions = Deletions(adapters.db, adapters.jobs, "experiment")
        view = deletions.delete(ada.caller, experiment, derived=True)
        assert [each.kind for each in view.derived] == ["plan"]

    return delete


@pytest.fixture
def run(adapters, work, shelf) -> Callable[..., int]:
    """Run what evaluation's worker would run; figures take a second, so they are left out."""

    def go(render: Callable[[Report], str] = lambda _: "a report") -> int:
        sources = Sources(adapters.store, shelf, shelf)
        handlers = {
            EVALUATE: Evaluate(adapters.db, adapters.store, sources, render),
            DELETE: Delete(adapters.erasure, KEPT),
        }
        return work("evaluation", "evaluation", handlers)

    return go


def test_predictions_and_report_go_and_the_numbers_stay(
    adapters, ada, http, data, experiment, send_all, drop, run
) -> None:
    made = http.post("/plans", json=plan(experiment, data)).json()["id"]
    send_all(made)
    run()
    query = {"experiment": str(experiment)}
    results = http.get("/results", params=query).json()
    comparisons = http.get("/comparisons", params=query).json()
    assert results["items"]
    folder = f"projects/{ada.caller.project}/plans/"
    keys = list(adapters.store.keys(folder))
    with adapters.db.transaction() as tx:
        assert NAMED["plans"](tx, UUID(made), keys) == set(keys)
    before = http.get(f"/plans/{made}").json()

    drop()
    assert http.get(f"/reports/{experiment}").status_code == 404
    assert run() == 1
    assert list(adapters.store.keys(folder)) == []
    assert http.get("/results", params=query).json() == results
    assert http.get("/comparisons", params=query).json() == comparisons
    assert http.get(f"/plans/{made}").json() == before


def test_a_closed_plan_takes_no_more_predictions(
    adapters, ada, http, data, experiment, send, drop, run
) -> None:
    made = http.post("/plans", json=plan(experiment, data)).json()["id"]
    assert send(made, "site-a", "real", 0).status_code == 201
    drop()
    answer = send(made, "site-b", "real", 0)
    assert (answer.status_code, answer.json()["field"]) == (409, "plan")
    assert answer.json()["type"].endswith("plan-closed")
    run()
    assert list(adapters.store.keys(f"projects/{ada.caller.project}/plans/")) == []


def test_a_plan_of_a_deleted_experiment_is_refused(http, data, experiment, adapters, ada) -> None:
    Deletions(adapters.db, adapters.jobs, "experiment").delete(
        ada.caller, experiment, derived=False
    )
    answer = http.post("/plans", json=plan(experiment, data))
    assert (answer.status_code, answer.json()["field"]) == (404, "experiment")


def test_a_plan_sent_again_after_its_data_went_gets_the_first_answer(http, data, shelf) -> None:
    body = plan(uuid4(), data)
    first = http.post("/plans", json=body)
    shelf.datasets.clear()
    again = http.post("/plans", json=body)
    assert (again.status_code, again.json()) == (201, first.json())
    other = http.post("/plans", json=body | {"margin": 0.01})
    assert other.json()["type"].endswith("plan-registered")
    assert http.post("/plans", json=plan(uuid4(), data)).status_code == 404


def test_an_evaluation_under_way_is_cancelled(
    adapters, ada, http, data, experiment, send_all, drop, run
) -> None:
    made = http.post("/plans", json=plan(experiment, data)).json()["id"]
    send_all(made)

    def deletes(_: object) -> str:
        drop()
        return "a report"

    run(deletes)
    assert http.get(f"/plans/{made}").json()["job"]["state"] == "cancelled"
    assert list(adapters.store.keys(f"projects/{ada.caller.project}/plans/")) == []
    assert http.get("/results", params={"experiment": str(experiment)}).json()["items"] == []
