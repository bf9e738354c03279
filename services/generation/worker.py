"""The worker of queue `generation`: trains generators, renders synthetic patients."""

from services.generation.clients import HttpDatasets
from services.generation.diffusion.engine import DiffusionEngine, Kernels
from services.generation.diffusion.ranks import Crew
from services.generation.service import (
    IMPORT,
    KEPT,
    RENDER,
    SCREEN,
    TRAIN,
    Importing,
    Rendering,
    Scratch,
    Training,
)
from services.generation.settings import GenerationSettings
from services.kit.adapters import Adapters
from services.kit.deletion import Delete, tidying
from services.kit.erasure import COMPACT
from services.kit.jobs.lineage import DELETE
from services.kit.jobs.runner import Handler
from services.kit.remote import Remote
from services.kit.worker import slice_worker

PACKAGES = ("torch", "diffusers", "numpy")
OFF_DEVICE = (
    f"{TRAIN}/plan",
    f"{RENDER}/plan",
    f"{RENDER}/publish",
    f"{SCREEN}/publish",
    f"{DELETE}/",
    f"{DELETE}/{COMPACT}",
)
"""Slices that only keep books."""


def handlers(adapters: Adapters) -> dict[str, Handler]:
    settings, own = adapters.settings, GenerationSettings()
    datasets = HttpDatasets(
        Remote(settings.datasets_url, settings.service_secret.get_secret_value())
    )
    crew = Crew(own.processes, own.world or own.processes, own.address)
    engine = DiffusionEngine(
        settings.device,
        own.threads or None,
        crew=crew if crew.world > 1 else None,
        kernels=Kernels(own.channels_last, own.compile),
    )
    scratch = Scratch(adapters.db, adapters.jobs, settings.scratch)
    train = Training(adapters.db, adapters.store, datasets, engine, settings.scratch)
    render = Rendering(
        adapters.db, adapters.store, datasets, engine, settings.scratch, own.image_quota
    )
    importing = Importing(adapters.db, adapters.store, engine, settings.scratch)
    return {
        IMPORT: tidying(scratch.tidy, importing),
        TRAIN: tidying(scratch.tidy, train),
        RENDER: tidying(scratch.tidy, render),
        SCREEN: tidying(scratch.tidy, render),
        DELETE: Delete(adapters.erasure, KEPT, scratch.tidy),
    }


app = slice_worker("generation", "generation", handlers, PACKAGES, off_device=OFF_DEVICE)
