"""A web process that takes orders the way every service takes work; run by uvicorn."""

from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter, FastAPI, Response
from sqlalchemy import text

from api_schemas.base import JobView, Wire
from services.kit.adapters import Adapters
from services.kit.auth import Reader, Writer
from services.kit.errors import NotFound
from services.kit.http import IdempotencyHeader, once, web_app
from services.kit.jobs import NewJob
from services.kit.settings import Settings

_IMAGE = text("SELECT key, sha256 FROM stub.images WHERE job = :job AND n = :n")


class Order(Wire):
    slices: list[dict[str, Any]]
    notes: str


def router(adapters: Adapters) -> APIRouter:
    routes = APIRouter()

    @routes.post("/orders", status_code=202)
    def post(body: Order, caller: Writer, key: IdempotencyHeader = None) -> JobView:
        def make() -> UUID:
            inputs = {"notes": body.notes}
            job = NewJob("stub", "order", "stub", caller, uuid4(), inputs, body.slices)
            return adapters.jobs.submit(tx, job)

        with adapters.db.transaction() as tx:
            return adapters.jobs.view(tx, once(tx, caller, key, body, make))

    @routes.get("/orders/{job}")
    def get(job: UUID, caller: Reader) -> JobView:
        with adapters.db.transaction() as tx:
            return adapters.jobs.view(tx, job)

    @routes.post("/orders/{job}/cancel")
    def cancel(job: UUID, caller: Writer) -> JobView:
        with adapters.db.transaction() as tx:
            return adapters.jobs.cancel(tx, job)

    @routes.get("/orders/{job}/images/{n}")
    def image(job: UUID, n: int, caller: Reader) -> Response:
        with adapters.db.transaction() as tx:
            row = tx.session.execute(_IMAGE, {"job": job, "n": n}).one_or_none()
        if row is None:
            raise NotFound("There is no such image")
        return Response(adapters.store.get(row.key, row.sha256))

    return routes


def build() -> FastAPI:
    adapters = Adapters.connect(Settings.read())
    return web_app("stub", [router(adapters)], adapters)
