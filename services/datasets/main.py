"""The datasets service: its web process, and its part of the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI

from services.datasets.api import deletion_routes, routes
from services.datasets.importers import Roots
from services.datasets.service import KIND, NAMED, Datasets
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
    datasets = Datasets(adapters.db, adapters.jobs, adapters.store, roots)
    router = routes(datasets, adapters.db, adapters.jobs)
    router.include_router(deletion_routes(Deletions(adapters.db, adapters.jobs, KIND)))
    return Part(router, datasets)


def named(_: Adapters) -> Mapping[str, Named]:
    """For the collector: which objects rows name, by folder."""
    return NAMED


def build() -> FastAPI:
    """For `uvicorn --factory services.datasets.main:build`."""
    adapters = Adapters.connect(Settings.read())
    return web_app("datasets", [compose(adapters).router], adapters)
