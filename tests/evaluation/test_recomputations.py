"""Results computed anew: a further version supersedes, the same numbers are not written twice."""

import json
from collections.abc import Callable
from uuid import UUID, uuid4

import polars as pl
import pytest
from sqlalchemy import text

from api_schemas.client import Client
from services.evaluation.service.evaluate import Evaluate
from services.evaluation.service.sources import Sources
from services.evaluation.statistics.analysis import METHOD
from tests.evaluation.study import TESTS, plan, predictions

PATHS = ("/results", "/metrics", "/answers", "/comparisons")
QUESTION = {"arm": "real+100%", "reference": "real", "kind": "superiority"}
FORMER = "influence-logit-t/0"


@pytest.fixture
def population(shelf, ada) -> UUID:
    return shelf.add_population(ada.caller, [predictions(test, "real", 0) for test in TESTS])


@pytest.fixture
def run(adapters, shelf, work) -> Callable[..., int]:
    """Run evaluations until none is left; a report says which method made it."""
    sources = Sources(adapters.store, shelf, shelf)

    def handle(method: str = METHOD) -> int:
        evaluate = Evaluate(
            adapters.db, adapters.store, sources, lambda report: report.method, method
        )
        return work("evaluation", "evaluation", {"evaluate": evaluate})

    return handle


@pytest.fixture
def registered_once(http, population, send_all) -> dict:
    """A plan whose predictions have all come, not yet evaluated."""
    body = plan(uuid4(), population, questions=[QUESTION])
    made = http.post("/plans", json=body).json()
    send_all(made["id"])
    return made


def recompute(http, made: dict) -> dict:
    answer = http.post(f"/plans/{made['id']}/recomputations")
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/plans/{made['id']}"
    return answer.json()["job"]


def everything(http, made: dict, **params: int) -> dict[str, list[dict]]:
    """All that is said of a study, by path."""
    params |= {"experiment": made["experiment"], "limit": 1000}
    found = {path: http.get(path, params=params) for path in PATHS}
    found |= {f"{p} of groups": http.get(p, params=params | {"group": "any"}) for p in PATHS[:2]}
    return {
        path: json.loads(answer.text, parse_constant=pytest.fail)["items"]
        for path, answer in found.items()
    }


def versions(http, made: dict) -> list[tuple[int, str]]:
    answer = http.get(f"/plans/{made['id']}/versions").json()
    return [(each["version"], each["method"]) for each in answer["items"]]


def count(adapters, table: str) -> int:
    with adapters.db.transaction() as tx:
        return tx.session.scalar(text(f"SELECT count(*) FROM evaluation.{table}"))  # noqa: S608


def test_the_same_numbers_are_found_again_and_written_once(
    http, registered_once, run, adapters, ada
) -> None:
    made = registered_once
    folder = f"projects/{ada.caller.project}/plans/{made['id']}/"
    run()
    before, rows = everything(http, made), count(adapters, "results")
    keys = set(adapters.store.keys(folder))
    job = recompute(http, made)
    assert job["state"] == "queued"
    assert recompute(http, made)["id"] == job["id"]  # one under way will do
    assert run() == 1
    assert http.get(f"/plans/{made['id']}").json()["job"]["state"] == "succeeded"
    assert everything(http, made) == before
    assert all(before.values())
    assert (count(adapters, "results"), count(adapters, "evaluations")) == (rows, 1)
    assert set(adapters.store.keys(folder)) == keys
    assert versions(http, made) == [(1, METHOD)]


def test_another_method_supersedes_and_the_former_stays_readable(
    http, registered_once, run
) -> None:
    made = registered_once
    run(FORMER)
    former = everything(http, made)
    recompute(http, made)
    run()
    assert versions(http, made) == [(2, METHOD), (1, FORMER)]
    assert everything(http, made, version=1) == former
    assert everything(http, made, version=2) == everything(http, made)
    for version, method in ((None, METHOD), (1, FORMER), (2, METHOD)):
        params = {} if version is None else {"version": version}
        assert http.get(f"/reports/{made['experiment']}", params=params).text == method
        table = http.get(f"/reports/{made['experiment']}/table.tex", params=params).text
        assert method in table
    csv = {"experiment": made["experiment"], "format": "csv"}
    newest = http.get("/results", params=csv).text
    assert len(newest.splitlines()) == 1 + len(former["/results"])
    assert http.get("/results", params=csv | {"version": 1}).text == newest


def test_what_the_data_says_by_now_is_a_further_version(
    http, registered_once, run, shelf, population
) -> None:
    made = registered_once
    run()
    former = everything(http, made)
    caller, view, table = shelf.datasets[population]
    manifest = view.manifest.model_copy(update={"digest": "9" * 64})
    nobody_told = pl.from_arrow(table).with_columns(sex=pl.lit(None, pl.String)).to_arrow()
    newer = view.model_copy(update={"manifest": manifest})
    shelf.datasets[population] = (caller, newer, nobody_told)
    recompute(http, made)
    run()
    assert everything(http, made, version=1) == former
    now = everything(http, made)
    assert now["/results"] == former["/results"]
    groups = {row["group"] for row in now["/results of groups"]}
    assert groups
    assert not any(group.startswith("sex") for group in groups)
    told = http.get(f"/plans/{made['id']}/versions").json()["items"]
    assert len({each["inputs_digest"] for each in told}) == 2


def test_other_numbers_found_the_same_way_are_an_alarm(
    http, registered_once, run, adapters
) -> None:
    made = registered_once
    run()
    with adapters.db.transaction() as tx:  # as nobody could but who owns the database
        tx.session.execute(text("ALTER TABLE evaluation.results DISABLE TRIGGER USER"))
        tx.session.execute(text("UPDATE evaluation.results SET auroc = auroc - .001 WHERE id > 3"))
        tx.session.execute(text("ALTER TABLE evaluation.results ENABLE TRIGGER USER"))
    recompute(http, made)
    run()
    job = http.get(f"/plans/{made['id']}").json()["job"]
    assert job["state"] == "failed"
    assert job["problem"]["type"].endswith("results-differ")
    assert "auroc of line " in job["problem"]["detail"]
    assert versions(http, made) == [(1, METHOD)]


def test_pages_go_on_with_the_version_that_they_began_with(http, registered_once, run) -> None:
    made = registered_once
    run(FORMER)
    whole = everything(http, made)["/results"]
    params = {"experiment": made["experiment"], "limit": 5}
    first = http.get("/results", params=params).json()
    recompute(http, made)
    run()
    rest = http.get("/results", params=params | {"cursor": first["next"], "limit": 1000}).json()
    assert [*first["items"], *rest["items"]] == whole


def test_what_cannot_be_recomputed_or_read_is_said(
    http, registered, send, run, stranger, part, browse
) -> None:
    made = registered()
    place = f"/plans/{made['id']}/recomputations"
    assert http.post(place).json()["type"].endswith("nothing-to-recompute")
    assert http.post(f"/plans/{uuid4()}/recomputations").status_code == 404
    elsewhere = browse(part.router, member=stranger)
    assert elsewhere.post(place).status_code == 404
    assert elsewhere.get(f"/plans/{made['id']}/versions").status_code == 404
    assert versions(http, made) == []
    for path in PATHS:
        unknown = http.get(path, params={"experiment": made["experiment"], "version": 1})
        assert (unknown.status_code, unknown.json()["field"]) == (404, "version")
        alone = http.get(path, params={"version": 1})
        assert (alone.status_code, alone.json()["field"]) == (422, "experiment")


def test_a_failed_evaluation_is_tried_again(http, registered_once, run, adapters) -> None:
    made = registered_once
    with adapters.db.transaction() as tx:
        key = tx.session.scalar(text("SELECT key FROM evaluation.predictions ORDER BY id LIMIT 1"))
    content = adapters.store.get(key)
    adapters.store.put(key, b"damaged")
    run()
    assert http.get(f"/plans/{made['id']}").json()["job"]["state"] == "failed"
    adapters.store.put(key, content)
    recompute(http, made)
    run()
    assert everything(http, made)["/comparisons"]


def test_the_typed_client_recomputes(http, registered_once, run) -> None:
    run()
    client = Client("http://testserver")
    client._http = http
    plan_id = UUID(registered_once["id"])
    assert client.recompute_plan(plan_id).job.state == "queued"
    (only,) = client.plan_versions(plan_id)
    assert (only.version, only.method, only.plan) == (1, METHOD, plan_id)
    experiment = UUID(registered_once["experiment"])
    assert list(client.results(experiment, version="1")) == list(client.results(experiment))
