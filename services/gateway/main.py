"""Every service in one ASGI app, wired in process: for one machine without Docker."""

from fastapi import FastAPI

from services.accounts import main as accounts
from services.datasets import main as datasets
from services.evaluation import main as evaluation
from services.generation import main as generation
from services.kit.adapters import Adapters
from services.kit.http import web_app
from services.kit.settings import Settings
from services.training import main as training


def compose(adapters: Adapters) -> FastAPI:
    """The whole suite over one set of adapters."""
    people = accounts.compose(adapters)
    data = datasets.compose(adapters)
    cohorts = generation.compose(adapters, datasets=data.provider)
    verdicts = evaluation.compose(adapters, datasets=data.provider, generations=cohorts.provider)
    studies = training.compose(
        adapters,
        datasets=data.provider,
        generations=cohorts.provider,
        evaluation=verdicts.provider,
    )
    parts = (people, data, cohorts, studies, verdicts)
    return web_app("workbench", [part.router for part in parts], adapters)


def build() -> FastAPI:
    """For `uvicorn --factory services.gateway.main:build`."""
    return compose(Adapters.connect(Settings.read()))
