"""The services that training needs, as it sees them; in process or over HTTP, all the same."""

from pathlib import Path
from typing import Protocol
from uuid import UUID

import pyarrow as pa

from api_schemas.datasets import DatasetView
from api_schemas.evaluation import (
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


class Datasets(Protocol):
    def dataset(self, caller: Caller, dataset: UUID, /) -> DatasetView: ...

    def dataset_manifest(self, caller: Caller, dataset: UUID, /) -> pa.Table: ...


class Generations(Protocol):
    def generation(self, caller: Caller, generation: UUID, /) -> GenerationView: ...

    def cohort_manifest(self, caller: Caller, generation: UUID, /) -> pa.Table: ...

    def generator(self, caller: Caller, generator: UUID, /) -> GeneratorView: ...

    def generator_seen(self, caller: Caller, generator: UUID, /) -> Seen: ...


class Desk(Protocol):
    """What the web process needs of evaluation."""

    def register(self, caller: Caller, plan: PlanPost, /) -> PlanView: ...

    def results(self, caller: Caller, experiment: UUID, arm: str, /) -> list[ResultRow]:
        """The arm's macro AUROC on every test set; none before there are any."""
        ...

    def evaluation(self, caller: Caller, evaluation: UUID, /) -> EvaluationView: ...


class Evaluation(Protocol):
    """What an experiment's runs need."""

    def accept(
        self, caller: Caller, what: PredictionsPost, content: bytes, /
    ) -> PredictionsView: ...

    def detail(self, caller: Caller, plan: UUID, what: ParticularsPost, /) -> ParticularsView:
        """What became known of an experiment that was posted before its data was there."""
        ...

    def forgo(self, caller: Caller, plan: UUID, what: AbsencePost, /) -> AbsenceView:
        """Predictions that will never come."""
        ...


class Verdict(Protocol):
    def evaluate(self, caller: Caller, post: EvaluationPost, file: Path, /) -> EvaluationView:
        """Have predictions evaluated; those of the same scoring again get the first answer."""
        ...
