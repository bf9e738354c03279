"""Nobody can name what is another project's, in any field of any request. A new field that names
something fails here until `REQUESTS` has a request with it.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.gateway.conftest import PHANTOMS
from tests.gateway.everything import GONE, Ids, Request, address, fields, made_by, tables_of
from tests.gateway.test_strangers import NOT_FOUND, app, as_member, ours

__all__ = ["app", "as_member", "ours"]

STATED = {("/evaluations", "classifier"), ("/plans", "experiment")}
"""Ids that a request only states: of one's own they mean nothing to others, and what is another's
is taken as what nobody knows.
"""
REFUSED = {
    ("/evaluations", "classifier"): 202,
    ("/plans", "experiment"): 201,
    ("/datasets", "upload"): 422,
}
"""Where the answer to an id of nobody's is not 404: an upload may have been used up."""
WITH_A_STUDY = {("/scorings", "data.dataset"), ("/scorings", "data.generation")}
"""Fields that only somebody with a classifier can fill."""
KINDS = {
    "data": "dataset",
    "extends": "experiment",
    "first": "dataset",
    "second": "dataset",
}
WORDS = {"first", "second", "data"}
"""Fields that hold `dataset/{id}`."""


def real(mine: Ids) -> Request:
    return {"dataset": mine["dataset"]}


def cohort(mine: Ids) -> Request:
    return {"generation": mine["generation"]}


def experiment(mine: Ids, **more: Any) -> Request:
    return {
        "name": "x",
        "seeds": [0, 1],
        "validation": {"data": real(mine), "split": "validation"},
        "tests": [{"name": "t", "data": real(mine)}],
        **more,
    }


def arms(mine: Ids) -> Request:
    stages = [{"sources": [{"data": real(mine)}]}]
    told = [{"name": name, "stages": stages} for name in "ab"]
    return experiment(mine, arms=told, plan={"reference": "a", "primary": "b"})


def preset(mine: Ids) -> Request:
    return {"name": "supplement", "real": real(mine), "synthetic": cohort(mine)}


def plan(mine: Ids) -> Request:
    return {
        "experiment": str(uuid4()),
        "name": "p",
        "arms": [{"name": "a"}, {"name": "b"}],
        "seeds": [0],
        "tests": [{"name": "t", "data": real(mine), "split": "all"}],
        "reference": "a",
        "primary": "b",
        "margin": 0.01,
        "contact_sheet": {"real": real(mine), "synthetic": cohort(mine)},
    }


def quality(mine: Ids, **more: Any) -> Request:
    return {"cohort": cohort(mine), "reference": {"data": real(mine)}, **more}


def archive(mine: Ids) -> Request:
    told = {"format": "chexpert_csv", "name": "d", "path": "t.csv", "site": "s"}
    return told | {"upload": mine["upload"]}


def sets(mine: Ids) -> Request:
    word = f"dataset/{mine['dataset']}"
    return {"first": word, "second": word, "second_split": "train"}


def form(mine: Ids, *more: str) -> Request:
    told = {"name": "own", "data": f"generation/{mine['generation']}"}
    return told | {name: mine[name] for name in more}


def of_experiment(mine: Ids) -> Request:
    return {"experiment": mine["experiment"]}


def predictions(mine: Ids) -> Request:
    return {"plan": mine["plan"], "arm": "real", "seed": 0, "test": "there"}


REQUESTS: dict[str, Callable[[Ids], Request]] = {
    "/answers": of_experiment,
    "/baselines": of_experiment,
    "/comparisons": of_experiment,
    "/datasets": archive,
    "/datasets/{dataset}/views": lambda mine: {"name": "all", "join": [real(mine)]},
    "/evaluations": lambda mine: form(mine, "classifier"),
    "/evaluations scoring": lambda mine: form(mine, "scoring"),
    "/experiments": lambda mine: experiment(mine, preset=preset(mine)),
    "/experiments arms": arms,
    "/experiments extends": lambda mine: experiment(
        mine, preset=preset(mine), extends=mine["experiment"]
    ),
    "/exports": lambda mine: {"set": {"data": real(mine)}, "format": "croissant"},
    "/features": lambda mine: form(mine) | {"version": "1"},
    "/generate": lambda mine: {"generator": mine["generator"], "mirror": real(mine)},
    "/generators": lambda mine: real(mine) | {"name": "g", "preset": "tiny-32", "steps": 5},
    "/generators/{generator}/training-set": real,
    "/metrics": of_experiment,
    "/overlaps": lambda mine: {"first": {"data": real(mine)}, "second": {"data": cohort(mine)}},
    "/plans": plan,
    "/predictions": predictions,
    "/qualities": quality,
    "/qualities agreement": lambda mine: quality(
        mine, agreement={"cohort": mine["evaluation"], "real": mine["evaluation"]}
    ),
    "/qualities features": lambda mine: quality(
        mine, features=[{"cohort": mine["table"], "reference": mine["table"]}]
    ),
    "/results": of_experiment,
    "/scorings": lambda mine: {
        "classifier": mine["classifier"],
        "data": real(mine),
        "allow_leakage": True,
    },
    "/shifts": sets,
}
"""By path, and first part of the field where that needs a request of its own; right in every field
if `mine` has what it needs.
"""
FORMS = {"/evaluations", "/features"}
QUERIES = {"/predictions", "/shifts"}


def kind_of(field: str) -> str:
    """What the field names, as routes call it."""
    whole, _, last = field.rpartition(".")
    by_first = {"features": "table", "agreement": "evaluation"}
    return by_first.get(whole, KINDS.get(last, last))


def request_of(verb: str, path: str, field: str, mine: Ids, made: str) -> Request:
    """A request that is right but for `made` in this field."""
    own = REQUESTS.get(f"{path} {field.partition('.')[0]}", REQUESTS.get(path))
    assert own is not None, f"{path} names something in {field}: write a request with it"
    told = with_field(own(mine), field, made)
    if path in FORMS:
        return {"data": told, "files": {"file": mine["scores"].encode()}}
    return {"params" if verb == "GET" or path in QUERIES else "json": told}


def with_field(request: Request, field: str, made: str) -> Request:
    *way, last = field.split(".")
    changed = deepcopy(request)
    outer, inner = changed, changed
    for part in way:
        outer, inner = inner, inner[part]
        inner = inner[0] if isinstance(inner, list) else inner
    if way and last in {"dataset", "generation"}:
        ref = {last: made}
        outer[way[-1]] = [ref] if isinstance(outer[way[-1]], list) else ref
    else:
        inner[last] = f"{kind_of(field)}/{made}" if last in WORDS else made
    return changed


@pytest.fixture
def theirs(as_member, run, stranger, adapters) -> Ids:
    """What the stranger has: no study, but all that needs none."""
    http = as_member(stranger)

    def post(path: str, **body: Any) -> str:
        return made_by(http, path, json=body)

    dataset = post("/datasets", name="theirs", site="phantom-c", **PHANTOMS)
    generator = post("/generators", name="g", dataset=dataset, preset="tiny-32", steps=10)
    made = {"dataset": dataset, "generator": generator}
    made["generation"] = post("/generate", generator=generator, mirror={"dataset": dataset})
    run()
    with adapters.db.transaction() as tx:  # as if it had been imported, and nobody had named it
        for change in (
            "UPDATE generation.generators SET imported = true, dataset = NULL WHERE id = :id",
            "DELETE FROM jobs.uses WHERE resource = :id",
        ):
            tx.session.execute(text(change), {"id": generator})
    lacking = ("experiment", "plan", "classifier", "scoring", "upload")
    return made | tables_of(http, made["generation"]) | dict.fromkeys(lacking, GONE)


def test_nothing_of_anothers_can_be_named(app, as_member, ours, theirs, stranger, enrol) -> None:
    """Whatever field of whatever request holds it, the answer is that it does not exist, word for
    word as for an id that nobody has. With one's own, where there is one, it is found.
    """
    strangers, home = as_member(stranger), as_member(enrol("ada"))
    family = f"/experiments/{ours['experiment']}/deletion"
    before = home.get(family).json()["derived"]
    wrong = []
    for verb, path, field in sorted(fields(app)):  # to look comes before to make
        mine, others, http = theirs, ours, strangers
        if (path, field) in WITH_A_STUDY:
            mine, others, http = ours, theirs, home
        kind = kind_of(field)
        foreign, unknown, own = (
            http.request(verb, address(path, mine), **request_of(verb, path, field, mine, made))
            for made in (others[kind], GONE, mine[kind])
        )
        expected = REFUSED.get((path, field), NOT_FOUND)
        alike = foreign.status_code == unknown.status_code == expected
        if (path, field) not in STATED:
            alike = alike and foreign.json() == unknown.json()
        found = mine[kind] == GONE or own.status_code not in {NOT_FOUND, 500}
        if not alike or not found:
            wrong.append((verb, path, field, foreign.text, unknown.text, own.text))
    assert not wrong, "\n".join(map(str, wrong))
    added = [each for each in home.get(family).json()["derived"] if each not in before]
    assert {each["kind"] for each in added} == {"scoring"}  # Ada's own, and nothing of others
