"""The worker of queue `generation`: trains generators, renders synthetic patients."""

from services.generation.clients import HttpDatasets
from services.generation.diffusion.engine import DiffusionEngine
from services.generation.service import RENDER, TRAIN, Rendering, Training
from services.kit.adapters import Adapters
from services.kit.jobs.runner import Handler
from services.kit.remote import Remote
from services.kit.worker import slice_worker

PACKAGES = ("torch", "diffusers", "numpy")


def handlers(adapters: Adapters) -> dict[str, Handler]:
    settings = adapters.settings
    datasets = HttpDatasets(
        Remote(settings.datasets_url, settings.service_secret.get_secret_value())
    )
    engine = DiffusionEngine(settings.device)
    return {
        TRAIN: Training(adapters.db, adapters.store, datasets, engine, settings.scratch),
        RENDER: Rendering(adapters.db, adapters.store, datasets, engine, settings.scratch),
    }


app = slice_worker("generation", "generation", handlers, PACKAGES)
