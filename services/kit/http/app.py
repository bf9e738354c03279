"""What every service's app has: guarded routes, problems, the page of the API."""

import asyncio
import resource
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI
from fastapi.security import HTTPBearer
from sqlalchemy import text
from starlette.types import ASGIApp

from api_schemas import VERSION
from api_schemas.base import Problem
from services.kit.adapters import Adapters
from services.kit.auth import identity_of
from services.kit.http.admission import Admission, admitted
from services.kit.http.docs_page import add_docs_page
from services.kit.http.door import Door
from services.kit.http.events import JobFeed
from services.kit.http.keepable import keepable
from services.kit.http.parameters import known_parameters
from services.kit.http.problems import PROBLEMS, answer_with_problems
from services.kit.http.shielding import Shielding
from services.kit.jobs.integrity import note_damage
from services.kit.scratch import SWEEP_EVERY_S, sweep

BODY_LIMIT = 1 << 20
"""Bytes of a body, unless the route states its own `max_body_size`."""


class WebApp(FastAPI):
    """FastAPI whose document describes problems once, and whose every answer is shielded: an
    unforeseen error's too.
    """

    def build_middleware_stack(self) -> ASGIApp:
        return Shielding(Door(super().build_middleware_stack(), self.state.auth))

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is not None:
            return self.openapi_schema
        document = super().openapi()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs", {}))
        schemas["Problem"] = problem
        _describe_streams(document)
        return document


def _describe_streams(document: dict[str, Any]) -> None:
    """`itemSchema` is a word of OpenAPI 3.2, and this is a document of 3.1."""
    for item in document["paths"].values():
        for operation in item.values():
            for answer in operation["responses"].values():
                stream = answer.get("content", {}).get("text/event-stream")
                if stream is not None:
                    stream["schema"] = stream.pop("itemSchema")  # of each event


def web_app(title: str, routers: Sequence[APIRouter], adapters: Adapters) -> FastAPI:
    """An app in which every route but `/health` needs a caller and every error is a problem."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncGenerator[None]:
        _open_as_many_files_as_allowed()  # a connection is one
        sweeping = asyncio.create_task(_sweep_now_and_then(adapters.settings.scratch))
        yield
        sweeping.cancel()
        adapters.close()

    adapters.db.limit_waits()
    app = WebApp(
        title=f"Synthorax {title}",
        version=VERSION,
        responses=PROBLEMS,
        docs_url=None,  # FastAPI's loads a program from elsewhere
        redoc_url=None,
        openapi_url=None,  # FastAPI's writes the document anew for everybody who asks
        lifespan=running,
        max_body_size=BODY_LIMIT,
    )
    app.state.auth = adapters.auth
    app.state.store_folder = adapters.settings.s3_folder
    app.state.admission = Admission()
    app.state.feed = JobFeed(adapters.db, adapters.jobs, adapters.auth)
    guarded = [
        Depends(identity_of),
        Depends(HTTPBearer(auto_error=False)),
        Depends(keepable),
        Depends(known_parameters),
        Depends(admitted, scope="function"),
    ]
    for router in routers:
        app.include_router(router, dependencies=guarded)

    add_docs_page(app)

    @app.get("/health", tags=["health"])
    def health() -> dict[str, str]:
        """Answers when the process and its database do."""
        with adapters.db.transaction() as tx:
            tx.session.execute(text("SELECT 1"))
        return {"status": "ok"}

    answer_with_problems(app, partial(note_damage, adapters.db))
    return app


async def _sweep_now_and_then(scratch: Path) -> None:
    """A process that was killed leaves what it was receiving: others remove it."""
    while True:
        with suppress(OSError):
            await to_thread.run_sync(sweep, scratch)
        await asyncio.sleep(SWEEP_EVERY_S)


def _open_as_many_files_as_allowed() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
