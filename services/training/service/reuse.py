"""What has been trained before is not trained again: its classifier is copied.

Copied, not shared: objects belong to one experiment and go with it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy.orm import Session

from api_schemas.training import ExperimentRequest, TestSet
from services.kit.db import Database
from services.kit.logging import get_logger
from services.kit.objects import DigestMismatch, ObjectMissing, ObjectStore
from services.training.models import Classifier, Experiment, Run
from services.training.service.arms import expand, sources
from services.training.service.blueprint import Blueprint
from services.training.service.catalogue import Catalogue, ref_key
from services.training.service.inputs import finished_twins
from services.training.service.materials import ManifestChanged
from services.training.service.results import Results
from services.training.service.storing import Stored, fetch_folder
from services.training.service.tasks import Task

log = get_logger(__name__)


@dataclass(frozen=True)
class Twin:
    """A finished run with the same inputs; its predictions by manifest and split."""

    facts: dict[str, Any]
    classifier: list[Stored]
    predictions: dict[tuple[str, str], Stored]


class Reuse:
    """Looks for a twin of a run, and makes the run's results of the twin's."""

    def __init__(
        self, db: Database, store: ObjectStore, catalogue: Catalogue, results: Results
    ) -> None:
        self._db = db
        self._store = store
        self._catalogue = catalogue
        self._results = results

    def instead(self, task: Task, folder: Path) -> bool:
        """Whether a twin made training unnecessary. Test sets that it was not scored on are scored
        now. What it left may be damaged: then there is no twin.
        """
        with self._db.transaction() as tx:
            twin = _twin(tx.session, task)
        if twin is None:
            return False
        self._check_unchanged(task)
        try:
            classifier = fetch_folder(self._store, twin.classifier, folder / "twin")
            scores = {
                test.name: self._scores(task, twin, test, classifier) for test in task.request.tests
            }
        except (DigestMismatch, ObjectMissing) as error:
            log.warning("a classifier to copy is damaged", error=str(error))
            return False
        self._results.keep(task, {**twin.facts, "reused": True}, classifier, scores)
        return True

    def _scores(self, task: Task, twin: Twin, test: TestSet, classifier: Path) -> bytes:
        digest = task.blueprint.manifests[ref_key(test.data)]
        known = twin.predictions.get((digest, test.split))
        if known is None:
            return self._results.score(task, test, classifier)
        return self._store.get(known["key"], known["sha256"])

    def _check_unchanged(self, task: Task) -> None:
        """A patient may have been withdrawn since; raises `ManifestChanged`."""
        arm = next(arm for arm in expand(task.request) if arm.name == task.arm)
        refs = [*(source.data for source in sources([arm])), task.request.validation.data]
        refs += [test.data for test in task.request.tests]
        for ref in dict.fromkeys(refs):
            key = ref_key(ref)
            now = self._catalogue.look(task.lease.caller, ref, key).digest
            if now != task.blueprint.manifests[key]:
                raise ManifestChanged(f"{key} has another manifest than was planned on")


def _twin(session: Session, task: Task) -> Twin | None:
    digest = task.run.inputs_digest or ""
    run = finished_twins(session, task.lease.caller.project, [digest]).get(digest)
    if run is None:
        return None
    experiment = session.get_one(Experiment, run.experiment)
    classifier = session.get(Classifier, run.classifier)
    if classifier is None:
        return None
    return Twin(
        facts={
            "step": run.step,
            "best_step": run.best_step,
            "validation_auroc": run.validation_auroc,
            "curve": run.curve,
        },
        classifier=cast("list[Stored]", classifier.files),
        predictions=_predictions(experiment, run),
    )


def _predictions(experiment: Experiment, run: Run) -> dict[tuple[str, str], Stored]:
    request = ExperimentRequest.model_validate(experiment.request)
    manifests = Blueprint.model_validate(experiment.blueprint).manifests
    files = cast("list[Stored]", run.predictions or [])
    return {
        (manifests[ref_key(test.data)], test.split): file
        for test, file in zip(request.tests, files, strict=True)
    }
