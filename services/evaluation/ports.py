"""What evaluation needs from its neighbours: what data is, and which images it holds."""

from typing import Protocol
from uuid import UUID

import pyarrow as pa

from api_schemas.datasets import DatasetView
from api_schemas.generation import GenerationView
from api_schemas.generators import GeneratorView
from api_schemas.lookups import LookupRequest, LookupView
from api_schemas.screening import Neighbour
from services.kit.auth import Caller


class Datasets(Protocol):
    """Raises `NotFound` for what is not the caller's, `Conflict` for what is not ready."""

    def dataset(self, caller: Caller, dataset: UUID, /) -> DatasetView: ...

    def dataset_manifest(self, caller: Caller, dataset: UUID, /) -> pa.Table: ...

    def look_up(self, caller: Caller, dataset: UUID, request: LookupRequest, /) -> LookupView: ...


class Generations(Protocol):
    """The same for cohorts and what made them."""

    def generator(self, caller: Caller, generator: UUID, /) -> GeneratorView: ...

    def generation(self, caller: Caller, generation: UUID, /) -> GenerationView: ...

    def cohort_manifest(self, caller: Caller, generation: UUID, /) -> pa.Table: ...

    def likest(self, caller: Caller, generation: UUID, count: int, /) -> list[Neighbour]: ...
