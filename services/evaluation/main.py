"""The evaluation service: its web process, and its part of the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from fastapi import APIRouter, FastAPI

from api_schemas.evaluation import (
    MACRO,
    ParticularsPost,
    ParticularsView,
    PlanPost,
    PlanView,
    PredictionsPost,
    PredictionsView,
    ResultRow,
)
from api_schemas.evaluations import EvaluationView
from services.evaluation.api import (
    DataDesk,
    StudyDesk,
    data_routes,
    evaluation_routes,
    feature_routes,
    study_routes,
)
from services.evaluation.clients import RemoteDatasets, RemoteGenerations
from services.evaluation.ports import Datasets, Generations
from services.evaluation.service import (
    EVALUATION,
    FEATURES,
    NAMED,
    Absences,
    Answers,
    Details,
    Evaluations,
    Exports,
    FeatureTables,
    GivenTables,
    Intake,
    Overlaps,
    Qualities,
    Recomputations,
    Shifts,
    Stock,
)
from services.evaluation.service.answers import Wanted
from services.evaluation.service.sources import Sources
from services.kit.adapters import Adapters
from services.kit.auth import Caller
from services.kit.collector import Named
from services.kit.deletion import Deletions
from services.kit.http import web_app
from services.kit.pseudonyms import Pseudonyms
from services.kit.remote import Remote
from services.kit.settings import Settings

MOST_TESTS = 100


@dataclass(frozen=True)
class Provider:
    """What training asks of evaluation, in one process: a service asks, for a person."""

    intake: Intake
    details: Details
    answers: Answers
    evaluations: Evaluations

    def register(self, caller: Caller, plan: PlanPost) -> PlanView:
        return self.intake.register(_for(caller), plan)

    def accept(self, caller: Caller, what: PredictionsPost, content: bytes) -> PredictionsView:
        return self.intake.accept(_for(caller), what, content)

    def detail(self, caller: Caller, plan: UUID, what: ParticularsPost) -> ParticularsView:
        return self.details.add(_for(caller), plan, what)

    def results(self, caller: Caller, experiment: UUID, arm: str) -> list[ResultRow]:
        wanted = Wanted(experiment=experiment, arm=arm, label=MACRO)
        return self.answers.results(caller, wanted, None, MOST_TESTS).items

    def evaluation(self, caller: Caller, evaluation: UUID) -> EvaluationView:
        return self.evaluations.evaluation(caller, evaluation)


@dataclass(frozen=True)
class Part:
    router: APIRouter
    provider: Provider


def _for(caller: Caller) -> Caller:
    return replace(caller, by_service=True)


def compose(adapters: Adapters, *, datasets: Datasets, generations: Generations) -> Part:
    intake = Intake(adapters.db, adapters.jobs, adapters.store, datasets, generations)
    sources = Sources(adapters.store, datasets, generations)
    answers = Answers(adapters.db, adapters.store, sources)
    stock = Stock(adapters.store, datasets, generations)
    given = GivenTables(adapters.db, adapters.store)
    data = DataDesk(
        Shifts(adapters.db, stock),
        Overlaps(adapters.db, adapters.jobs, stock),
        Qualities(adapters.db, adapters.jobs, stock, generations, given),
        Exports(adapters.db, adapters.jobs, stock),
    )
    absences = Absences(adapters.db, adapters.jobs)
    recomputations = Recomputations(adapters.db, adapters.jobs)
    details = Details(adapters.db)
    router = study_routes(StudyDesk(intake, absences, details, recomputations, answers))
    router.include_router(data_routes(data))
    key = adapters.settings.pseudonym_key.get_secret_value().encode()
    evaluations = Evaluations(adapters.db, adapters.jobs, adapters.store, stock, Pseudonyms(key))
    router.include_router(_evaluations(adapters, evaluations))
    router.include_router(_features(adapters, stock))
    return Part(router, Provider(intake, details, answers, evaluations))


def _evaluations(adapters: Adapters, evaluations: Evaluations) -> APIRouter:
    deletions = Deletions(adapters.db, adapters.jobs, EVALUATION)
    return evaluation_routes(evaluations, deletions, adapters.settings.scratch)


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
