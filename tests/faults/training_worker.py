"""The real worker of queue `training`, with the real engine on one thread of the CPU.

Its stretches end after `STRETCH` steps rather than minutes; its providers are in its own process.
"""

from pathlib import Path

from services.datasets.main import compose as compose_datasets
from services.evaluation.main import compose as compose_evaluation
from services.evaluation.service import Absences, Details
from services.kit.adapters import Adapters
from services.kit.jobs.runner import Handler
from services.kit.worker import slice_worker
from services.training.classifier.cache import SourceCache
from services.training.classifier.engine import ClassifierEngine
from services.training.ports.engine import Outcome
from services.training.service.catalogue import Catalogue
from services.training.service.materials import Materials
from services.training.service.pretrained import PretrainedFiles
from services.training.service.runs import RunExperiment

STRETCH = 5


class ShortStretches(ClassifierEngine):
    """Ends a stretch after some steps, so that many checkpoints lie in a short run."""

    def train(self, spec, folder: Path, *, resume, pause, progress) -> Outcome:
        taken = 0

        def told(step: int) -> None:
            nonlocal taken
            taken += 1
            progress(step)

        def enough() -> bool:
            return pause() or taken >= STRETCH

        return super().train(spec, folder, resume=resume, pause=enough, progress=told)


class Verdicts:
    """Evaluation's use cases as training needs them."""

    def __init__(self, adapters: Adapters, datasets) -> None:
        part = compose_evaluation(adapters, datasets=datasets, generations=None)
        self.accept = part.provider.accept
        self.forgo = Absences(adapters.db, adapters.jobs).forgo
        self.detail = Details(adapters.db).add


def handlers(adapters: Adapters) -> dict[str, Handler]:
    datasets = compose_datasets(adapters).provider
    catalogue = Catalogue(datasets, generations=None)
    scratch = adapters.settings.scratch
    pretrained = PretrainedFiles(adapters.settings.roots, scratch / "pretrained")
    packed = SourceCache(scratch / "packed", 10**9)
    run = RunExperiment(
        adapters.db,
        adapters.store,
        ShortStretches("cpu", threads=1),
        catalogue,
        Materials(catalogue, adapters.store, packed, pretrained),
        Verdicts(adapters, datasets),
        device="cpu",
        scratch=scratch / "training",
        stretch_s=600.0,
    )
    return {"experiment": run}


app = slice_worker("training", "training", handlers)
