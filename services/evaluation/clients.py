"""The ports over HTTP, on behalf of a caller."""

from dataclasses import dataclass
from uuid import UUID

import pyarrow as pa

from api_schemas.datasets import DatasetView
from api_schemas.generation import GenerationView
from api_schemas.generators import GeneratorView
from api_schemas.lookups import LookupRequest, LookupView
from api_schemas.screening import Neighbour
from services.kit.auth import Caller
from services.kit.remote import Remote


@dataclass(frozen=True)
class RemoteDatasets:
    remote: Remote

    def dataset(self, caller: Caller, dataset: UUID) -> DatasetView:
        with self.remote.acting_for(caller) as client:
            return client.get_dataset(dataset)

    def dataset_manifest(self, caller: Caller, dataset: UUID) -> pa.Table:
        with self.remote.acting_for(caller) as client:
            return client.dataset_manifest(dataset)

    def look_up(self, caller: Caller, dataset: UUID, request: LookupRequest) -> LookupView:
        with self.remote.acting_for(caller) as client:
            return client.post_lookup(dataset, request)


@dataclass(frozen=True)
class RemoteGenerations:
    remote: Remote

    def generation(self, caller: Caller, generation: UUID) -> GenerationView:
        with self.remote.acting_for(caller) as client:
            return client.get_generation(generation)

    def cohort_manifest(self, caller: Caller, generation: UUID) -> pa.Table:
        with self.remote.acting_for(caller) as client:
            return client.cohort_manifest(generation)

    def generator(self, caller: Caller, generator: UUID) -> GeneratorView:
        with self.remote.acting_for(caller) as client:
            return client.get_generator(generator)

    def likest(self, caller: Caller, generation: UUID, count: int) -> list[Neighbour]:
        with self.remote.acting_for(caller) as client:
            return client.likest_images(generation, count)
