"""Classifiers on their way out: weights, an ONNX model that a worker makes, and a card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.base import JobState, JobView
from api_schemas.terms import UNCHECKED
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.errors import Conflict, Forbidden, ProblemError, Unavailable
from services.kit.jobs import Jobs, Lease, NewJob, step_of
from services.kit.objects import ObjectStore
from services.kit.scratch import temporary_folder
from services.training.models import Experiment, OnnxModel, Scoring
from services.training.ports.providers import Desk
from services.training.service.cards import Card, Judged, card
from services.training.service.catalogue import NOT_FOUND
from services.training.service.experiments import QUEUE, SERVICE, Experiments, find_classifier
from services.training.service.storing import Stored, fetch_folder, put, run_prefix

ONNX = "onnx"
WEIGHTS = "tensors.safetensors"
SCORINGS_TOLD = 20
"""Of a classifier, on its card."""
FAILED = {JobState.FAILED, JobState.CANCELLED}


class ExportForbidden(Forbidden):
    slug = "export-forbidden"
    title = "The terms of the data forbid that"


class OnnxNotMade(Conflict):
    slug = "onnx-not-made"
    title = "There is no ONNX model of this classifier (yet)"


class HandingOut:
    """What of a project's classifiers may leave the suite, and how."""

    def __init__(
        self,
        db: Database,
        jobs: Jobs,
        store: ObjectStore,
        experiments: Experiments,
        evaluation: Desk,
    ) -> None:
        self._db = db
        self._jobs = jobs
        self._store = store
        self._experiments = experiments
        self._evaluation = evaluation

    def weights(self, caller: Caller, classifier: UUID) -> bytes:
        """The safetensors file. Raises `ExportForbidden` (403)."""
        self._allow(caller, classifier)
        with self._db.transaction() as tx:
            files = find_classifier(tx.session, caller, classifier).files
        return self._get(next(file for file in files if file["name"] == WEIGHTS))

    def order_onnx(self, caller: Caller, classifier: UUID) -> JobView:
        """Have the ONNX model made; once it is, this answers the job that made it. Raises
        `ExportForbidden` (403).
        """
        self._allow(caller, classifier)
        with self._db.transaction() as tx:
            find_classifier(tx.session, caller, classifier, lock=True)
            row = tx.session.get(OnnxModel, classifier)
            if row is None:
                row = OnnxModel(classifier=classifier, job=self._submit(tx, caller, classifier))
                tx.session.add(row)
            elif self._jobs.view(tx, row.job).state in FAILED:
                row.job = self._submit(tx, caller, classifier)
            return self._jobs.view(tx, row.job)

    def onnx(self, caller: Caller, classifier: UUID) -> bytes:
        """Raises `OnnxNotMade` (409) and `ExportForbidden` (403)."""
        self._allow(caller, classifier)
        with self._db.transaction() as tx:
            row = tx.session.get(OnnxModel, classifier)
            state = "" if row is None else f"Its job is {self._jobs.view(tx, row.job).state}"
        if row is None or row.file is None:
            raise OnnxNotMade(
                state or "Nobody has asked for it",
                accepted=f"POST /classifiers/{classifier}/model.onnx",
            )
        return self._get(row.file)

    def card(self, caller: Caller, classifier: UUID) -> str:
        """Markdown: what it is, what it was trained on, how good it is, what it is not for."""
        view = self._experiments.classifier(caller, classifier)
        with self._db.transaction() as tx:
            row = find_classifier(tx.session, caller, classifier)
            experiment = tx.session.get_one(Experiment, row.experiment)
            scorings = _scorings(tx.session, classifier)
        return card(
            Card(
                view=view,
                name=experiment.name,
                request=experiment.request,
                arm=next(arm for arm in experiment.arms if arm["name"] == row.arm),
                blueprint=experiment.blueprint or {},
                results=_known(
                    lambda: self._evaluation.results(caller, row.experiment, row.arm), []
                ),
                judged=[judged for each in scorings if (judged := self._judged(caller, each))],
            )
        )

    def _judged(self, caller: Caller, scoring: Scoring) -> Judged | None:
        evaluation = scoring.evaluation
        assert evaluation is not None  # noqa: S101 - only those were asked for
        view = _known(lambda: self._evaluation.evaluation(caller, evaluation), None)
        result = None if view is None else view.result
        if result is None:
            return None
        name = "" if result.data is None else f"{result.data.name} ({result.data.set.split})"
        overall = next(row for row in result.rows if row.group is None and row.label == "macro")
        return Judged(name, overall, scoring.leakage or [])

    def _allow(self, caller: Caller, classifier: UUID) -> None:
        """Terms that nobody can be asked for now forbid it for now."""
        view = self._experiments.classifier(caller, classifier)
        if UNCHECKED in view.flags:
            raise Unavailable("The terms of its data cannot be asked for just now")
        if view.licence.may_share_derived is False:
            name = view.licence.name or "The licence"
            raise ExportForbidden(
                f"'{name}' does not allow sharing what was made of the data."
                f" {view.licence.notes}".strip(),
                field="classifier",
            )

    def _submit(self, tx: Tx, caller: Caller, classifier: UUID) -> UUID:
        job = NewJob(
            id=new_id(),
            service=SERVICE,
            kind=ONNX,
            short=True,
            queue=QUEUE,
            caller=caller,
            resource=classifier,
            inputs={"classifier": str(classifier)},
            slices=[{"step": ONNX}],
            total=1,
            unit="files",
        )
        return self._jobs.submit(tx, job)

    def _get(self, file: dict[str, Any]) -> bytes:
        return self._store.get(file["key"], file["sha256"])


class MakeOnnx:
    """Handler of an ONNX model's slice; `to_onnx` makes it of a stored classifier's folder."""

    def __init__(
        self, db: Database, store: ObjectStore, to_onnx: Callable[[Path], bytes], *, scratch: Path
    ) -> None:
        self._db = db
        self._store = store
        self._to_onnx = to_onnx
        self._scratch = scratch

    def __call__(self, lease: Lease) -> None:
        step_of(lease, ONNX)
        with self._db.transaction() as tx:
            row = find_classifier(tx.session, lease.caller, lease.resource)
        with temporary_folder(self._scratch, "run-") as place:
            files = cast("list[Stored]", row.files)
            content = self._to_onnx(fetch_folder(self._store, files, place / "classifier"))
        lease.stop_now()
        prefix = run_prefix(row.project, row.experiment, ONNX, row.arm, row.seed)
        stored = put(self._store, prefix, "model.onnx", content)
        lease.progress(1, 1, "files")
        with lease.finishing() as tx:
            find_classifier(tx.session, lease.caller, lease.resource)
            model = tx.session.get_one(OnnxModel, row.id)
            model.file = cast("dict[str, Any]", stored)


def _scorings(session: Session, classifier: UUID) -> list[Scoring]:
    evaluated = select(Scoring).where(
        Scoring.classifier == classifier, Scoring.evaluation.is_not(None)
    )
    return list(session.scalars(evaluated.order_by(Scoring.id.desc()).limit(SCORINGS_TOLD)))


def _known(ask: Callable[[], Any], otherwise: Any) -> Any:
    """What evaluation says; nothing of what it does not know (any more)."""
    try:
        return ask()
    except ProblemError as error:
        if error.problem.status != NOT_FOUND:
            raise
        return otherwise
