"""The training worker: `celery -A services.training.worker:app worker -Q training`."""

import platform
from collections.abc import Mapping

import torch

from services.kit.adapters import Adapters
from services.kit.deletion import Delete, tidying
from services.kit.erasure import COMPACT
from services.kit.jobs.lineage import DELETE
from services.kit.jobs.runner import Handler
from services.kit.remote import Remote
from services.kit.worker import slice_worker
from services.training.classifier.cache import SourceCache
from services.training.classifier.engine import ClassifierEngine
from services.training.classifier.stored import to_onnx
from services.training.classifier.stretches import Kernels
from services.training.clients import Mlflow, RemoteDatasets, RemoteEvaluation, RemoteGenerations
from services.training.service.calibrating import CALIBRATE, Calibrate
from services.training.service.catalogue import Catalogue
from services.training.service.experiments import KIND, QUEUE, SERVICE
from services.training.service.handing_out import ONNX, MakeOnnx
from services.training.service.keeping import KEPT, tidy
from services.training.service.materials import Materials
from services.training.service.pretrained import PretrainedFiles
from services.training.service.runs import RunExperiment
from services.training.service.scoring import ScoreData
from services.training.service.scorings import SCORE
from services.training.settings import TrainingSettings

GIB = 2**30
PACKAGES = ("torch", "transformers", "accelerate", "numpy")
OFF_DEVICE = (f"{KIND}/plan", f"{DELETE}/", f"{DELETE}/{COMPACT}")
"""Slices that only keep books."""


def handlers(adapters: Adapters) -> Mapping[str, Handler]:
    settings, own = adapters.settings, TrainingSettings()
    secret = settings.service_secret.get_secret_value()
    catalogue = Catalogue(
        RemoteDatasets(Remote(settings.datasets_url, secret)),
        RemoteGenerations(Remote(settings.generation_url, secret)),
    )
    packed, folders = settings.scratch / "packed", settings.scratch / "training"
    sources = SourceCache(packed, round(own.cache_gib * GIB))
    engine = ClassifierEngine(
        _device(settings.device),
        own.threads,
        kernels=Kernels(own.channels_last, own.compile),
        processes=own.processes,
    )
    pretrained = PretrainedFiles(settings.roots, settings.scratch / "pretrained")
    device = _called(settings.device)
    materials = Materials(catalogue, adapters.store, sources, pretrained)
    evaluation = RemoteEvaluation(Remote(settings.evaluation_url, secret))
    run = RunExperiment(
        adapters.db,
        adapters.store,
        engine,
        catalogue,
        materials,
        evaluation,
        device=device,
        scratch=folders,
        stretch_s=own.stretch_s,
        tracking=None if own.mlflow is None else Mlflow(own.mlflow),
    )
    score = ScoreData(
        adapters.db, adapters.store, engine, catalogue, materials, evaluation, scratch=folders
    )

    def tidied() -> None:
        tidy(adapters.db, sources)

    calibrate = Calibrate(engine, device=device, scratch=folders)
    return {
        KIND: tidying(tidied, run),
        CALIBRATE: calibrate,
        SCORE: tidying(tidied, score),
        ONNX: MakeOnnx(adapters.db, adapters.store, to_onnx, scratch=folders),
        DELETE: Delete(adapters.erasure, KEPT, tidied),
    }


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def _called(wanted: str) -> str:
    """What people call the device, without which a speed says nothing."""
    device = _device(wanted)
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


app = slice_worker(SERVICE, QUEUE, handlers, PACKAGES, off_device=OFF_DEVICE)
