"""The providers that generation needs, in process or over HTTP."""

from typing import Protocol
from uuid import UUID

import pyarrow as pa

from api_schemas.datasets import DatasetView
from services.kit.auth import Caller


class Datasets(Protocol):
    """The datasets service, in process or over HTTP. Foreign and unknown ids raise NotFound."""

    def dataset(self, caller: Caller, dataset: UUID) -> DatasetView: ...

    def dataset_manifest(self, caller: Caller, dataset: UUID) -> pa.Table: ...
