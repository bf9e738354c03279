"""The training worker: `celery -A services.training.worker:app worker -Q training`."""

from collections.abc import Mapping

import torch

from services.kit.adapters import Adapters
from services.kit.jobs.runner import Handler
from services.kit.remote import Remote
from services.kit.worker import slice_worker
from services.training.classifier.cache import SourceCache
from services.training.classifier.engine import ClassifierEngine
from services.training.clients import RemoteDatasets, RemoteEvaluation, RemoteGenerations
from services.training.service.catalogue import Catalogue
from services.training.service.experiments import KIND, QUEUE, SERVICE
from services.training.service.materials import Materials
from services.training.service.runs import RunExperiment
from services.training.settings import TrainingSettings

GIB = 2**30


def handlers(adapters: Adapters) -> Mapping[str, Handler]:
    settings, own = adapters.settings, TrainingSettings()
    secret = settings.service_secret.get_secret_value()
    catalogue = Catalogue(
        RemoteDatasets(Remote(settings.datasets_url, secret)),
        RemoteGenerations(Remote(settings.generation_url, secret)),
    )
    packed = SourceCache(settings.scratch / "packed", round(own.cache_gib * GIB))
    run = RunExperiment(
        adapters.db,
        adapters.store,
        ClassifierEngine(_device(settings.device), own.threads),
        catalogue,
        Materials(catalogue, adapters.store, packed),
        RemoteEvaluation(Remote(settings.evaluation_url, secret)),
        scratch=settings.scratch / "training",
        stretch_s=own.stretch_s,
    )
    return {KIND: run}


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


app = slice_worker(SERVICE, QUEUE, handlers, uses_device=True)
