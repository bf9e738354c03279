"""The generation service: its web process, and its part of the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI

from services.generation.api import deletion_routes, import_routes, routes
from services.generation.clients import HttpDatasets
from services.generation.ports.providers import Datasets
from services.generation.service import (
    GENERATION,
    GENERATOR,
    Generations,
    Generators,
    Imports,
    naming,
)
from services.generation.settings import GenerationSettings
from services.kit.adapters import Adapters
from services.kit.collector import Named
from services.kit.deletion import Deletions
from services.kit.http import web_app
from services.kit.remote import Remote
from services.kit.settings import Settings


class Provider:
    """What other services ask generation for."""

    def __init__(self, generators: Generators, generations: Generations) -> None:
        self.generator = generators.generator
        self.generator_seen = generators.generator_seen
        self.generation = generations.generation
        self.cohort_manifest = generations.cohort_manifest
        self.likest = generations.likest


@dataclass(frozen=True)
class Part:
    router: APIRouter
    provider: Provider


def compose(
    adapters: Adapters, *, datasets: Datasets, own: GenerationSettings | None = None
) -> Part:
    """`own` are generation's settings; read here where nobody has."""
    own = own or GenerationSettings()
    generators = Generators(adapters.db, adapters.jobs, adapters.store, datasets)
    generations = Generations(
        adapters.db, adapters.jobs, adapters.store, datasets, generators, own.image_quota
    )
    imports = Imports(adapters.db, adapters.jobs, adapters.store, datasets, generators)
    router = routes(generators, generations)
    settings = adapters.settings
    router.include_router(import_routes(imports, settings.scratch, settings.checkpoint_limit_bytes))
    deletion = deletion_routes(
        Deletions(adapters.db, adapters.jobs, GENERATOR),
        Deletions(adapters.db, adapters.jobs, GENERATION),
    )
    router.include_router(deletion)
    return Part(router, Provider(generators, generations))


def named(adapters: Adapters) -> Mapping[str, Named]:
    """For the collector: which objects rows name, by folder."""
    return naming(adapters.jobs)


def build() -> FastAPI:
    """For `uvicorn --factory services.generation.main:build`."""
    adapters = Adapters.connect(Settings.read())
    settings = adapters.settings
    remote = Remote(settings.datasets_url, settings.service_secret.get_secret_value())
    part = compose(adapters, datasets=HttpDatasets(remote))
    return web_app("generation", [part.router], adapters)
