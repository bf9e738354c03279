"""The evaluation service: its web process, and its part of the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI

from services.evaluation.api import DataDesk, evaluation_routes, feature_routes, routes
from services.evaluation.clients import RemoteDatasets, RemoteGenerations
from services.evaluation.ports import Datasets, Generations
from services.evaluation.service import (
    EVALUATION,
    FEATURES,
    NAMED,
    Absences,
    Answers,
    Evaluations,
    Exports,
    FeatureTables,
    GivenTables,
    Intake,
    Overlaps,
    Qualities,
    Shifts,
    Stock,
)
from services.evaluation.service.sources import Sources
from services.kit.adapters import Adapters
from services.kit.collector import Named
from services.kit.deletion import Deletions
from services.kit.http import web_app
from services.kit.pseudonyms import Pseudonyms
from services.kit.remote import Remote
from services.kit.settings import Settings


@dataclass(frozen=True)
class Part:
    router: APIRouter
    provider: Intake


def compose(adapters: Adapters, *, datasets: Datasets, generations: Generations) -> Part:
    intake = Intake(adapters.db, adapters.jobs, adapters.store, datasets, generations)
    sources = Sources(adapters.store, datasets, generations)
    answers = Answers(adapters.db, adapters.store, sources)
    stock = Stock(adapters.store, datasets, generations)
    given = GivenTables(adapters.db, adapters.store)
    data = DataDesk(
        Shifts(stock),
        Overlaps(adapters.db, adapters.jobs, stock),
        Qualities(adapters.db, adapters.jobs, stock, generations, given),
        Exports(adapters.db, adapters.jobs, stock),
    )
    router = routes(intake, Absences(adapters.db, adapters.jobs), answers, data)
    router.include_router(_evaluations(adapters, stock))
    router.include_router(_features(adapters, stock))
    return Part(router, intake)


def _evaluations(adapters: Adapters, stock: Stock) -> APIRouter:
    key = adapters.settings.pseudonym_key.get_secret_value().encode()
    db, jobs = adapters.db, adapters.jobs
    evaluations = Evaluations(db, jobs, adapters.store, stock, Pseudonyms(key))
    deletions = Deletions(db, jobs, EVALUATION)
    return evaluation_routes(evaluations, deletions, db, jobs, adapters.settings.scratch)


def _features(adapters: Adapters, stock: Stock) -> APIRouter:
    tables = FeatureTables(adapters.db, adapters.store, stock)
    deletions = Deletions(adapters.db, adapters.jobs, FEATURES)
    return feature_routes(tables, deletions, adapters.settings.scratch)


def named(_: Adapters) -> Mapping[str, Named]:
    """For the collector: which objects rows name, by folder."""
    return NAMED


def build() -> FastAPI:
    """For `uvicorn --factory services.evaluation.main:build`."""
    settings = Settings.read()
    adapters = Adapters.connect(settings)
    secret = settings.service_secret.get_secret_value()
    part = compose(
        adapters,
        datasets=RemoteDatasets(Remote(settings.datasets_url, secret)),
        generations=RemoteGenerations(Remote(settings.generation_url, secret)),
    )
    return web_app("evaluation", [part.router], adapters)
