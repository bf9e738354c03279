"""The HTTP face as a whole: guarded, documented, and covered by the typed client."""

import inspect
import re
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api_schemas.client import Client, ProblemRaised
from services.gateway.main import compose

VERBS = {"get", "post", "put", "patch", "delete"}
NIL = UUID(int=0)
REQUIRED = {"/experiments/{}/predictions": {"arm": "a", "seed": 0, "test": "t"}}
"""What a route must be asked with."""


@pytest.fixture
def app(adapters) -> FastAPI:
    return compose(adapters)


def operations(app: FastAPI) -> set[tuple[str, str]]:
    paths = app.openapi()["paths"]
    return {
        (verb.upper(), re.sub(r"{[^}]*}", "{}", path))
        for path, item in paths.items()
        for verb in item
        if verb in VERBS and path != "/health"
    }


class Recorder(httpx2.BaseTransport):
    """Notes what the client asks for and answers with a problem."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        path = re.sub(
            rf"{NIL}|(?<=(?:paper|files)/)[^/]+|(?<=samples/)[^/.]+|(?<=images/)\d+|(?<=previews/)\d+",
            "{}",
            request.url.path,
        )
        self.seen.add((request.method, path))
        return httpx2.Response(418, json={"type": "t", "title": "t", "status": 418})


def _argument(kind: Any) -> Any:
    """Something of the right kind; models are built without validation."""
    if kind is UUID:
        return NIL
    if kind is Path:
        return Path(__file__)  # any file: it is sent
    if kind in {int, str, bytes}:
        return {int: 0, str: "x", bytes: b""}[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if hasattr(kind, "model_construct"):
        return kind.model_construct()
    return _argument(kind.__args__[0])  # a union: its first member


def _exhaust(result: Any) -> None:
    """A generator asks only when it is read."""
    for _ in result:
        pass


def test_every_operation_has_a_client_method(app: FastAPI) -> None:
    recorder = Recorder()
    client = Client("http://suite", "key")
    client._http = httpx2.Client(base_url="http://suite", transport=recorder)
    for name, method in inspect.getmembers(client, inspect.ismethod):
        if name.startswith("_") or name == "close":
            continue
        hints = get_type_hints(method)
        needed = [
            p.name
            for p in inspect.signature(method).parameters.values()
            if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        arguments = [_argument(hints[n]) for n in needed]
        with pytest.raises(ProblemRaised):
            _exhaust(method(*arguments))
    assert recorder.seen == operations(app)


def test_every_route_but_health_needs_a_key(app: FastAPI) -> None:
    http = TestClient(app, raise_server_exceptions=False)
    for verb, path in operations(app):
        answer = http.request(verb, path.replace("{}", str(NIL)))
        assert answer.status_code == 401, (verb, path)
        assert answer.headers["content-type"] == "application/problem+json"
    assert http.get("/health").status_code == 200


def test_every_json_body_has_an_example(app: FastAPI) -> None:
    document = app.openapi()
    schemas = document["components"]["schemas"]
    for path, item in document["paths"].items():
        for verb, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema")
            if schema is None:
                continue
            options = schema.get("oneOf", [schema])
            for option in options:
                model = schemas[option["$ref"].split("/")[-1]]
                assert model.get("examples"), f"{verb} {path}: {option['$ref']}"


def test_unknown_things_are_404_for_everyone(app: FastAPI, ada) -> None:
    http = TestClient(app, raise_server_exceptions=False, headers=ada.headers)
    for verb, path in operations(app):
        if verb == "GET" and "{}" in path:
            unknown = re.sub("(images|previews)/{}", r"\1/0", path)
            unknown = unknown.replace("paper/{}", "paper/cxp_tr.csv")
            unknown = unknown.replace("{}", str(NIL))
            answer = http.get(unknown, params=REQUIRED.get(path))
            assert answer.status_code == 404, unknown
            assert answer.headers["content-type"] == "application/problem+json"
