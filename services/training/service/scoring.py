"""What the worker does for a scoring: score the images, keep the predictions, hand them on."""

import io
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from api_schemas.evaluations import EvaluationPost
from api_schemas.findings import Finding
from api_schemas.scorings import ScoringRequest
from services.kit.db import Database
from services.kit.errors import ProblemError, Unprocessable
from services.kit.jobs import Lease, step_of
from services.kit.objects import ObjectStore
from services.kit.scratch import temporary_folder
from services.training.models import Classifier, Experiment, Scoring
from services.training.ports.engine import Engine
from services.training.ports.providers import Verdict
from services.training.service.blueprint import Blueprint
from services.training.service.catalogue import Catalogue, ref_key
from services.training.service.materials import Held, Materials
from services.training.service.samples import columns, truth
from services.training.service.scorings import SCORE, UNIT, Checks, adopt
from services.training.service.storing import (
    Stored,
    fetch_folder,
    predictions,
    put,
    scoring_folder,
)

AT_ONCE = 4096
"""Images between two looks at whether to go on."""
LEAKAGE_LENGTH = 1000
PUSHED = ["sample_id", "label", "score"]
"""What evaluation is told: the data itself says the rest."""


class ScoreData:
    """The handler of scoring jobs."""

    def __init__(
        self,
        db: Database,
        store: ObjectStore,
        engine: Engine,
        catalogue: Catalogue,
        materials: Materials,
        verdict: Verdict,
        *,
        scratch: Path,
    ) -> None:
        self._db = db
        self._store = store
        self._engine = engine
        self._catalogue = catalogue
        self._materials = materials
        self._verdict = verdict
        self._checks = Checks(catalogue)
        self._scratch = scratch

    def __call__(self, lease: Lease) -> None:
        step_of(lease, SCORE)
        with self._db.transaction() as tx:
            row = tx.session.get_one(Scoring, lease.resource)
            classifier = tx.session.get_one(Classifier, row.classifier)
            experiment = tx.session.get_one(Experiment, classifier.experiment)
        request = ScoringRequest.model_validate(row.request)
        if row.manifest is None:  # the data has just been finished
            self._check(lease, request, row, classifier, experiment)
        with temporary_folder(self._scratch, "run-") as folder:
            if row.predictions is None:
                self._score(lease, request, row, classifier, folder)
            evaluation, refusal = self._hand_on(lease, request, row, folder)
        with lease.finishing() as tx:
            kept = tx.session.get_one(Scoring, row.id)
            kept.evaluation, kept.not_evaluated = evaluation, refusal

    def _check(
        self,
        lease: Lease,
        request: ScoringRequest,
        row: Scoring,
        classifier: Classifier,
        experiment: Experiment,
    ) -> None:
        listed = self._checks.look(lease.caller, request, classifier)
        checked = self._checks.check(lease.caller, request, classifier, experiment, listed)
        adopt(row, checked)
        with lease.writing() as tx:
            adopt(tx.session.get_one(Scoring, row.id), checked)

    def _score(
        self,
        lease: Lease,
        request: ScoringRequest,
        row: Scoring,
        classifier: Classifier,
        folder: Path,
    ) -> None:
        labels = [Finding(label) for label in classifier.labels]
        held = self._held(lease, request, row, classifier)
        files = cast("list[Stored]", classifier.files)
        weights = fetch_folder(self._store, files, folder / "classifier")
        content = predictions(
            held.samples.ids[held.rows],
            held.samples.patients[held.rows],
            labels,
            truth(held.labels)[:, columns(labels)],
            self._scores(lease, weights, held),
        )
        place = scoring_folder(lease.caller.project, row.id).rstrip("/")
        stored = put(self._store, place, "predictions.parquet", content)
        row.predictions = cast("dict[str, Any]", stored)
        with lease.writing() as tx:
            tx.session.get_one(Scoring, row.id).predictions = row.predictions

    def _held(
        self, lease: Lease, request: ScoringRequest, row: Scoring, classifier: Classifier
    ) -> Held:
        """The images in the version that was checked; raises `ManifestChanged`."""
        planned = Blueprint(
            labels=[Finding(label) for label in classifier.labels],
            size_px=classifier.size_px,
            manifests={ref_key(request.data): row.manifest or ""},
            arms={},
            waived=[],
        )
        return self._materials.held(
            lease.caller, planned, request.data, request.split, between=lease.stop_now
        )

    def _scores(self, lease: Lease, weights: Path, held: Held) -> NDArray[np.float64]:
        parts: list[NDArray[np.float64]] = []
        rows = held.everything
        for start in range(0, len(rows), AT_ONCE):
            lease.stop_now()
            parts.append(self._engine.score(weights, held.pixels, rows[start : start + AT_ONCE]))
            lease.progress(min(start + AT_ONCE, len(rows)), len(rows), UNIT)
        return np.concatenate(parts)

    def _hand_on(
        self, lease: Lease, request: ScoringRequest, row: Scoring, folder: Path
    ) -> tuple[Any, str | None]:
        """Have the stored predictions evaluated; a repetition gets the first answer.

        What cannot be evaluated (no label of the data has both classes) is still scored.
        """
        file = cast("Stored", row.predictions)
        table = pq.read_table(io.BytesIO(self._store.get(file["key"], file["sha256"])))
        place = folder / "predictions.parquet"
        pq.write_table(table.select(PUSHED), place)
        post = EvaluationPost(
            name=row.name,
            data=ref_key(request.data),
            split=request.split,
            classifier=row.classifier,
            scoring=row.id,
            leakage="; ".join(row.leakage or [])[:LEAKAGE_LENGTH] or None,
        )
        try:
            return self._verdict.evaluate(lease.caller, post, place).id, None
        except ProblemError as error:
            if error.problem.status != Unprocessable.status:
                raise
            return None, error.problem.detail or error.problem.title
