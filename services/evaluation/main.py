"""The evaluation service: its web process, and its part of the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI

from services.evaluation.api import DataDesk, routes
from services.evaluation.clients import RemoteDatasets, RemoteGenerations
from services.evaluation.ports import Datasets, Generations
from services.evaluation.service import (
    NAMED,
    Absences,
    Answers,
    Exports,
    Intake,
    Overlaps,
    Qualities,
    Shifts,
    Stock,
)
from services.evaluation.service.sources import Sources
from services.kit.adapters import Adapters
from services.kit.collector import Named
from services.kit.http import web_app
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
    data = DataDesk(
        Shifts(stock),
        Overlaps(adapters.db, adapters.jobs, stock),
        Qualities(adapters.db, adapters.jobs, stock, generations),
        Exports(adapters.db, adapters.jobs, stock),
    )
    absences = Absences(adapters.db, adapters.jobs)
    return Part(routes(intake, absences, answers, data), intake)


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
