"""The providers over HTTP, on behalf of the user whose job it is; and a tracking server."""

import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import httpx2
import pyarrow as pa

from api_schemas.datasets import DatasetView
from api_schemas.evaluation import (
    MACRO,
    AbsencePost,
    AbsenceView,
    ParticularsPost,
    ParticularsView,
    PlanPost,
    PlanView,
    PredictionsPost,
    PredictionsView,
    ResultRow,
)
from api_schemas.evaluations import EvaluationPost, EvaluationView
from api_schemas.generation import GenerationView
from api_schemas.generators import GeneratorView, Seen
from services.kit.auth import Caller
from services.kit.logging import get_logger
from services.kit.remote import Remote

TAG = "synthorax.run"
BATCH = 1000
"""Metrics that MLflow takes at once."""

Points = Sequence[Mapping[str, float | None]]

log = get_logger(__name__)


class RemoteDatasets:
    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def dataset(self, caller: Caller, dataset: UUID) -> DatasetView:
        with self._remote.acting_for(caller) as client:
            return client.get_dataset(dataset)

    def dataset_manifest(self, caller: Caller, dataset: UUID) -> pa.Table:
        with self._remote.acting_for(caller) as client:
            return client.dataset_manifest(dataset)


class RemoteGenerations:
    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def generation(self, caller: Caller, generation: UUID) -> GenerationView:
        with self._remote.acting_for(caller) as client:
            return client.get_generation(generation)

    def cohort_manifest(self, caller: Caller, generation: UUID) -> pa.Table:
        with self._remote.acting_for(caller) as client:
            return client.cohort_manifest(generation)

    def generator(self, caller: Caller, generator: UUID) -> GeneratorView:
        with self._remote.acting_for(caller) as client:
            return client.get_generator(generator)

    def generator_seen(self, caller: Caller, generator: UUID) -> Seen:
        with self._remote.acting_for(caller) as client:
            return client.generator_seen(generator)


class RemoteEvaluation:
    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def register(self, caller: Caller, plan: PlanPost) -> PlanView:
        with self._remote.acting_for(caller) as client:
            return client.register_plan(plan)

    def accept(self, caller: Caller, what: PredictionsPost, content: bytes) -> PredictionsView:
        with self._remote.acting_for(caller) as client:
            return client.push_predictions(what, content)

    def results(self, caller: Caller, experiment: UUID, arm: str) -> list[ResultRow]:
        with self._remote.acting_for(caller) as client:
            return list(client.results(experiment, arm=arm, label=MACRO))

    def evaluation(self, caller: Caller, evaluation: UUID) -> EvaluationView:
        with self._remote.acting_for(caller) as client:
            return client.get_evaluation(evaluation)

    def detail(self, caller: Caller, plan: UUID, what: ParticularsPost) -> ParticularsView:
        with self._remote.acting_for(caller) as client:
            return client.add_particulars(plan, what)

    def forgo(self, caller: Caller, plan: UUID, what: AbsencePost) -> AbsenceView:
        with self._remote.acting_for(caller) as client:
            return client.forgo_predictions(plan, what)

    def evaluate(self, caller: Caller, post: EvaluationPost, file: Path) -> EvaluationView:
        with self._remote.acting_for(caller) as client:
            key = f"scoring/{post.scoring}"
            return client.post_evaluation(post, file, idempotency_key=key)


class _Run(Protocol):
    """A run as it is mirrored."""

    @property
    def key(self) -> str: ...
    @property
    def experiment(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, str]: ...


class Mlflow:
    """Mirrors runs to an MLflow server by its REST API (2.0), as far as that is there.

    A run is found by its tag `synthorax.run`, so that a worker that was killed goes on where the
    mirror ends: only points after the last step that the server knows are sent.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=f"{url.rstrip('/')}/api/2.0/mlflow", timeout=10)

    def log(self, run: _Run, points: Points, *, ended: bool) -> None:
        try:
            self._log(run, points, ended=ended)
        except (httpx2.HTTPError, KeyError, ValueError) as error:
            log.warning("the run was not mirrored", error=type(error).__name__)

    def _log(self, run: _Run, points: Points, *, ended: bool) -> None:
        known = self._run(self._experiment(run.experiment), run)
        mirrored = known["info"]["run_id"]
        logged = [int(m["step"]) for m in known.get("data", {}).get("metrics", [])]
        fresh = [p for p in points if (p["step"] or 0) > max(logged, default=-1)]
        metrics = [
            {"key": name, "value": value, "step": int(point["step"] or 0), "timestamp": _now_ms()}
            for point in fresh
            for name, value in point.items()
            if name != "step" and value is not None
        ]
        for at in range(0, len(metrics), BATCH):
            self._post("runs/log-batch", run_id=mirrored, metrics=metrics[at : at + BATCH])
        if ended:
            self._post("runs/update", run_id=mirrored, status="FINISHED", end_time=_now_ms())

    def _experiment(self, name: str) -> str:
        found = self._http.get("/experiments/get-by-name", params={"experiment_name": name})
        if found.status_code == HTTPStatus.NOT_FOUND:
            return str(self._post("experiments/create", name=name)["experiment_id"])
        found.raise_for_status()
        return str(found.json()["experiment"]["experiment_id"])

    def _run(self, experiment: str, run: _Run) -> dict[str, Any]:
        asked = f"tags.`{TAG}` = '{run.key}'"
        found = self._post("runs/search", experiment_ids=[experiment], filter=asked, max_results=1)
        if found.get("runs"):
            return found["runs"][0]
        tags = [{"key": TAG, "value": run.key}]
        made = self._post(
            "runs/create",
            experiment_id=experiment,
            run_name=run.name,
            start_time=_now_ms(),
            tags=tags,
        )["run"]
        told = [{"key": key, "value": value[:500]} for key, value in run.parameters.items()]
        self._post("runs/log-batch", run_id=made["info"]["run_id"], params=told)
        return made

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self._http.post(f"/{path}", json=body)
        answer.raise_for_status()
        return answer.json()


def _now_ms() -> int:
    return round(time.time() * 1000)
