"""Every route is asked for what its document says it takes, and for what it does not take: no
answer is an error of ours, and every answer is one that the document describes.
"""

import sys
import threading
from collections.abc import Iterator

import openapi_spec_validator
import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import EngineFinished, NonFatalError, ScenarioFinished

from services.gateway.main import compose

SEEDS = (1, 2, 3)
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "ignored_auth",
)


@schemathesis.serializer("application/vnd.apache.parquet", "application/octet-stream")
def as_it_is(_: object, value: object) -> object:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture
def app(adapters) -> FastAPI:
    return compose(adapters)


@pytest.fixture
def url(app) -> Iterator[str]:
    """The whole suite over HTTP, in this process; its workers rest."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_the_document_is_valid(app) -> None:
    """By the schema of OpenAPI, every reference in it included."""
    openapi_spec_validator.validate(app.openapi())


@pytest.mark.parametrize("seed", SEEDS)
def test_no_request_meets_an_error_of_ours(app, url: str, ada, seed: int) -> None:
    """All phases of schemathesis: examples, edge cases, random requests, and chains of them."""
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": url,
            "request-timeout": 60,
            "max-stream-events": 1,  # nobody works: no stream would end
            "headers": ada.headers,
            "continue-on-failure": True,
            "generation": {"max-examples": 5, "no-shrink": True, "database": "none"},
            "phases": {
                "coverage": {"enabled": seed == SEEDS[0], "unexpected-methods": []},
                "stateful": {"enabled": True},
            },
            "checks": {"enabled": False, **{name: {"enabled": True} for name in CHECKS}},
        }
    )
    schema = schemathesis.openapi.from_dict(app.openapi(), config=config)
    failures: set[str] = set()
    asked = 0
    for event in from_schema(schema).execute():
        if isinstance(event, NonFatalError):
            failures.add(str(event.info))
        elif isinstance(event, ScenarioFinished):
            asked += len(event.recorder.interactions)
            for checks in event.recorder.checks.values():
                for check in checks:
                    if check.failure_info is not None:
                        code = check.failure_info.code_sample
                        failures.add(f"{check.name}: {check.failure_info.failure}\n{code}")
        elif isinstance(event, EngineFinished):
            sys.stdout.write(f"{asked} requests\n")
    assert not failures, "\n\n".join(sorted(failures))
