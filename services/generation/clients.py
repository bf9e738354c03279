"""The datasets service over HTTP, for a process that does not hold it."""

from uuid import UUID

import pyarrow as pa

from api_schemas.datasets import DatasetView
from services.kit.auth import Caller
from services.kit.remote import Remote


class HttpDatasets:
    """The `Datasets` port, acting on behalf of whoever ordered the work."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def dataset(self, caller: Caller, dataset: UUID) -> DatasetView:
        with self._remote.acting_for(caller) as client:
            return client.get_dataset(dataset)

    def dataset_manifest(self, caller: Caller, dataset: UUID) -> pa.Table:
        with self._remote.acting_for(caller) as client:
            return client.dataset_manifest(dataset)
