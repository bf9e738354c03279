"""What every service's app has: guarded routes, problems, the page of the API."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.security import HTTPBearer
from sqlalchemy import text
from starlette.types import ASGIApp

from api_schemas.base import Problem
from services.kit.adapters import Adapters
from services.kit.auth import asks
from services.kit.http.docs_page import add_docs_page
from services.kit.http.keepable import keepable
from services.kit.http.problems import PROBLEMS, answer_with_problems
from services.kit.http.shielding import Shielding
from services.kit.jobs.integrity import note_damage

BODY_LIMIT = 64 << 20
"""Bytes of a JSON body: more than the longest list that any request may have."""
COUNTS_ITSELF = 1 << 62
"""`max_body_size` of a route that counts what arrives, and says what it takes."""


class WebApp(FastAPI):
    """FastAPI whose document describes problems once, and whose every answer is shielded: an
    unforeseen error's too.
    """

    def build_middleware_stack(self) -> ASGIApp:
        return Shielding(super().build_middleware_stack())

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {})
        document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        return document


def web_app(title: str, routers: Sequence[APIRouter], adapters: Adapters) -> FastAPI:
    """An app in which every route but `/health` needs a caller and every error is a problem."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncGenerator[None]:
        yield
        adapters.close()

    app = WebApp(
        title=f"Synthorax {title}",
        version="0.1.0",
        responses=PROBLEMS,
        docs_url=None,  # FastAPI's loads a program from elsewhere
        redoc_url=None,
        lifespan=running,
        max_body_size=BODY_LIMIT,
    )
    app.state.auth = adapters.auth
    guarded = [Depends(asks), Depends(HTTPBearer(auto_error=False)), Depends(keepable)]
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
