"""The providers over HTTP, on behalf of the user whose job it is."""

from pathlib import Path
from uuid import UUID

import pyarrow as pa

from api_schemas.datasets import DatasetView
from api_schemas.evaluation import (
    AbsencePost,
    AbsenceView,
    PlanPost,
    PlanView,
    PredictionsPost,
    PredictionsView,
)
from api_schemas.evaluations import EvaluationPost, EvaluationView
from api_schemas.generation import GenerationView, GeneratorView, Seen
from services.kit.auth import Caller
from services.kit.remote import Remote


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

    def forgo(self, caller: Caller, plan: UUID, what: AbsencePost) -> AbsenceView:
        with self._remote.acting_for(caller) as client:
            return client.forgo_predictions(plan, what)

    def evaluate(self, caller: Caller, post: EvaluationPost, file: Path) -> EvaluationView:
        with self._remote.acting_for(caller) as client:
            key = f"scoring/{post.scoring}"
            return client.post_evaluation(post, file, idempotency_key=key)
