"""The datasets service: its web process, and its part of the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI

from services.datasets.api import deletion_routes, routes, upload_routes
from services.datasets.importers import Roots
from services.datasets.service import KIND, NAMED, Datasets, Uploads
from services.kit.adapters import Adapters
from services.kit.collector import Named
from services.kit.deletion import Deletions
from services.kit.http import web_app
from services.kit.settings import Settings


@dataclass(frozen=True)
class Part:
    router: APIRouter
    provider: Datasets


def compose(adapters: Adapters) -> Part:
    roots = Roots.of(adapters.settings.roots)
    settings = adapters.settings
    uploads = Uploads(adapters.db, adapters.store, settings.scratch, settings.upload_limit_bytes)
    datasets = Datasets(adapters.db, adapters.jobs, adapters.store, roots, uploads)
    of_datasets = routes(datasets, adapters.db, adapters.jobs)
    of_datasets.include_router(deletion_routes(Deletions(adapters.db, adapters.jobs, KIND)))
    router = APIRouter()
    router.include_router(of_datasets)
    router.include_router(upload_routes(uploads))
    return Part(router, datasets)


def named(_: Adapters) -> Mapping[str, Named]:
    """For the collector: which objects rows name, by folder."""
    return NAMED


def build() -> FastAPI:
    """For `uvicorn --factory services.datasets.main:build`."""
    adapters = Adapters.connect(Settings.read())
    return web_app("datasets", [compose(adapters).router], adapters)
