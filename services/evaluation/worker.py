"""The worker of queue `evaluation`: computes results, writes reports, looks at data."""

from services.evaluation.clients import RemoteDatasets, RemoteGenerations
from services.evaluation.reports.page import render
from services.evaluation.service import (
    EVALUATE,
    EXPORT,
    JUDGE,
    KEPT,
    OVERLAP,
    QUALITY,
    QUEUE,
    FindOverlap,
    GivenTables,
    Judge,
    MeasureQuality,
    Stock,
    Verify,
)
from services.evaluation.service.evaluate import Evaluate
from services.evaluation.service.sources import Sources
from services.kit.adapters import Adapters
from services.kit.deletion import Delete
from services.kit.jobs.lineage import DELETE
from services.kit.jobs.runner import Handler
from services.kit.remote import Remote
from services.kit.worker import slice_worker


def handlers(adapters: Adapters) -> dict[str, Handler]:
    settings = adapters.settings
    secret = settings.service_secret.get_secret_value()
    datasets = RemoteDatasets(Remote(settings.datasets_url, secret))
    generations = RemoteGenerations(Remote(settings.generation_url, secret))
    sources = Sources(adapters.store, datasets, generations)
    stock = Stock(adapters.store, datasets, generations)
    return {
        EVALUATE: Evaluate(adapters.db, adapters.store, sources, render),
        OVERLAP: FindOverlap(stock),
        QUALITY: MeasureQuality(stock, GivenTables(adapters.db, adapters.store)),
        EXPORT: Verify(adapters.db, stock),
        JUDGE: Judge(adapters.db, adapters.store),
        DELETE: Delete(adapters.erasure, KEPT),
    }


app = slice_worker("evaluation", QUEUE, handlers, ("numpy", "scipy", "pyarrow"))
