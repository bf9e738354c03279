"""The training service's web process."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI

from services.kit.adapters import Adapters
from services.kit.collector import Named
from services.kit.deletion import Deletions
from services.kit.http import web_app
from services.kit.remote import Remote
from services.kit.settings import Settings
from services.training.api import deletion_routes, model_routes, routes, scoring_routes
from services.training.clients import RemoteDatasets, RemoteEvaluation, RemoteGenerations
from services.training.ports.providers import Datasets, Desk, Generations
from services.training.service.catalogue import Catalogue
from services.training.service.dry_runs import DryRuns
from services.training.service.experiments import Experiments
from services.training.service.handing_out import HandingOut
from services.training.service.keeping import EXPERIMENT, NAMED, SCORING
from services.training.service.predictions import StoredPredictions
from services.training.service.scorings import Scorings


@dataclass(frozen=True)
class Part:
    router: APIRouter
    provider: Experiments


def compose(
    adapters: Adapters, *, datasets: Datasets, generations: Generations, evaluation: Desk
) -> Part:
    catalogue = Catalogue(datasets, generations)
    db, jobs = adapters.db, adapters.jobs
    experiments = Experiments(db, jobs, catalogue, evaluation)
    scorings = Scorings(db, jobs, adapters.store, catalogue)
    stored = StoredPredictions(db, adapters.store)
    router = routes(experiments, DryRuns(db, jobs, catalogue), stored)
    router.include_router(deletion_routes(Deletions(db, jobs, EXPERIMENT)))
    router.include_router(scoring_routes(scorings, Deletions(db, jobs, SCORING)))
    handing_out = HandingOut(db, jobs, adapters.store, experiments, evaluation)
    router.include_router(model_routes(handing_out))
    return Part(router, experiments)


def named(_: Adapters) -> Mapping[str, Named]:
    """For the collector: which objects rows name, by folder."""
    return NAMED


def build() -> FastAPI:
    """For `uvicorn --factory services.training.main:build`."""
    settings = Settings.read()
    adapters = Adapters.connect(settings)
    secret = settings.service_secret.get_secret_value()
    part = compose(
        adapters,
        datasets=RemoteDatasets(Remote(settings.datasets_url, secret)),
        generations=RemoteGenerations(Remote(settings.generation_url, secret)),
        evaluation=RemoteEvaluation(Remote(settings.evaluation_url, secret)),
    )
    return web_app("training", [part.router], adapters)
