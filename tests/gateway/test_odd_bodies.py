"""Every place of every documented body holds everything that it should not: the answer names what
is wrong and is never an error of ours, and what is accepted can be read again.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.gateway.main import compose
from tests.gateway.conftest import PHANTOMS
from tests.gateway.everything import GONE, address, operations

ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 60, 2**70, 0.5, 1e308, "", "x", "ä" * 700, "https://ä.de/ü?ö#ß", GONE),
    *([], [60], [60, 69, 70], ["a", "b"], [[]], [None], [{}], [{"name": "supplement"}]),
    *({}, {"dataset": GONE, "generation": GONE}, {"dataset": [GONE]}, {"kind": []}, {"": ""}),
)
MORE: dict[str, list[Any]] = {
    "/generate": [{"generator": GONE, "recipes": [{"condition": {"age": 1}, "seed": 0}]}],
    "/experiments": [
        {
            "name": "e",
            "arms": [
                {
                    "name": "a",
                    "stages": [
                        {
                            "sources": [
                                {
                                    "data": {"dataset": GONE},
                                    "where": {"age_from": 18, "sex": ["Female"]},
                                }
                            ],
                            "share": 1.0,
                        }
                    ],
                }
            ],
            "classifier": {"preset": "fast", "pretrained": {"hub": "a/b", "sha256": "0" * 64}},
            "label_policy": {"uncertain": "ignore"},
            "validation": {"data": {"dataset": GONE}, "split": "validation"},
            "tests": [{"name": "t", "data": {"generation": GONE}}],
            "labels": ["Edema"],
            "plan": {"margin": 0.01},
        }
    ],
    "/datasets/{dataset}/views": [{"name": "v", "splits": {"kind": "fold", "test": 1}}],
    "/qualities": [
        {
            "cohort": {"generation": GONE},
            "reference": {"data": {"dataset": GONE}},
            "features": [{"cohort": GONE, "reference": GONE}],
            "agreement": {"cohort": GONE, "real": GONE},
        }
    ],
}
"""Bodies that take the branches that no example takes."""


@pytest.fixture
def app(adapters) -> FastAPI:
    return compose(adapters)


def bodies(app: FastAPI) -> Iterator[tuple[str, str, Any]]:
    """Verb, path and body of every route that takes JSON."""
    models = app.openapi()["components"]["schemas"]
    for verb, path, operation in operations(app):
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        for option in [] if schema is None else schema.get("oneOf", [schema]):
            for body in models[option["$ref"].rpartition("/")[2]]["examples"]:
                yield verb, path, body
        for body in MORE.get(path, []) if schema is not None else []:
            yield verb, path, body


def places(body: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    inner = body.items() if isinstance(body, dict) else []
    inner = enumerate(body) if isinstance(body, list) else inner
    for part, value in inner:
        yield from places(value, (*place, part))


def put(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = deepcopy(body)
    within = changed
    for part in place[:-1]:
        within = within[part]
    within[place[-1]] = value
    return changed


def test_no_value_in_any_place_is_an_error_of_ours(app, ada) -> None:
    things = dict.fromkeys(("dataset", "generator", "job", "plan", "person"), GONE)
    wrong: list[tuple[Any, ...]] = []
    asked = 0
    with TestClient(app, headers=ada.headers, raise_server_exceptions=False) as http:
        for verb, path, body in bodies(app):
            for place in places(body):
                for value in ODD:
                    asked += 1
                    answer = http.request(verb, address(path, things), json=put(body, place, value))
                    fits = answer.headers["content-type"] == (
                        "application/json" if answer.is_success else "application/problem+json"
                    )
                    if answer.is_server_error or not fits:
                        wrong.append((verb, path, place, value, answer.text))
                    if answer.status_code == 202 and "Location" in answer.headers:
                        again = http.get(answer.headers["Location"])
                        if again.status_code != 200:
                            wrong.append((verb, path, place, value, "unreadable", again.text))
    assert not wrong, wrong[:20]
    assert asked > 1000


def test_a_licence_is_read_as_it_was_stated(app, ada) -> None:
    """Long addresses and letters outside ASCII are kept longer than they are sent."""
    with TestClient(app, headers=ada.headers, raise_server_exceptions=False) as http:
        phantom = {"name": "p", "site": "phantom-a", **PHANTOMS}
        dataset = http.post("/datasets", json=phantom).json()["id"]
        for url, taken in (
            ("https://example.org/" + "a" * 1900, True),
            ("https://example.org/" + "a" * 2063, False),
            ("https://example.org/" + "ä" * 300, True),
            ("https://example.org/" + "ä" * 700, False),
            ("https://" + "a" * 2075, False),
            ("https://münchen.example/straße?q=ü#ö", True),
            ("https://" + "ä" * 60 + ".example", True),
        ):
            answer = http.put(f"/datasets/{dataset}/licence", json={"url": url})
            assert answer.status_code == (200 if taken else 422), (url, answer.text)
            if not taken:
                assert answer.json()["field"] == "url"
            for path in (f"/datasets/{dataset}", "/datasets"):
                assert http.get(path).status_code == 200, url


NAMES_OF_ARMS = "urn:synthorax:problem:plan-inconsistent"
"""Accepts the names that the plan itself gives to its arms, which are kept and shown."""


def test_no_refusal_repeats_what_was_sent(app, ada) -> None:
    """Not the value of what chooses between kinds (`format`, `preset.name`), nor the name of a
    field that is none.
    """
    who = "Mustermann, Erika 1950"
    odd = (who, [who], {who: 1}, {"name": who}, {"format": who}, {"kind": who}, [{"name": who}])
    things = dict.fromkeys(("dataset", "generator", "job", "plan", "person"), GONE)
    told: list[tuple[Any, ...]] = []
    refused = 0
    with TestClient(app, headers=ada.headers, raise_server_exceptions=False) as http:
        for verb, path, body in bodies(app):
            for place in places(body):
                for value in odd:
                    answer = http.request(verb, address(path, things), json=put(body, place, value))
                    refused += answer.is_client_error
                    if answer.is_success or answer.json()["type"] == NAMES_OF_ARMS:
                        continue
                    if "Mustermann" in answer.text:
                        told.append((verb, path, place, value, answer.text))
        for verb, path, operation in operations(app):
            for parameter in operation.get("parameters", []):
                if verb == "GET" and parameter["in"] == "query":
                    known = dict.fromkeys(re.findall(r"{(\w+)}", path), GONE)
                    asked = {parameter["name"]: who, who: who}
                    answer = http.get(address(path, known), params=asked)
                    if answer.is_client_error and "Mustermann" in answer.text:
                        told.append((verb, path, parameter["name"], answer.text))
    assert not told, told[:20]
    assert refused > 1000


def test_what_chooses_between_kinds_is_named_and_told_what_it_takes(app, ada) -> None:
    with TestClient(app, headers=ada.headers, raise_server_exceptions=False) as http:
        for verb, path, body, field in (
            ("POST", "/datasets", {"format": "x", "name": "n"}, "format"),
            ("POST", "/datasets", {"name": "n"}, "format"),
            ("POST", "/experiments", {"name": "e", "preset": {"name": "x"}}, "preset.name"),
            ("POST", "/experiments", {"name": "e", "preset": [{"name": "x"}]}, "preset.0.name"),
        ):
            problem = http.request(verb, path, json=body).json()
            faults = {fault["field"]: fault for fault in problem["errors"]}
            assert field in faults, problem
            taken = faults[field].get("accepted", "")
            assert ("chexpert_csv" in taken) == (body.get("format") == "x")
            assert ("supplement" in taken) == ("preset" in body)
