"""The worker of queue `cpu`: imports datasets, and deletes them."""

from services.datasets.importers import Roots
from services.datasets.importers.pseudonyms import Pseudonyms
from services.datasets.service import INGEST, KEPT, QUEUE, Ingest
from services.kit.adapters import Adapters
from services.kit.deletion import Delete
from services.kit.jobs.lineage import DELETE
from services.kit.jobs.runner import Handler
from services.kit.worker import slice_worker


def handlers(adapters: Adapters) -> dict[str, Handler]:
    key = adapters.settings.pseudonym_key.get_secret_value().encode()
    roots = Roots.of(adapters.settings.roots)
    ingest = Ingest(adapters.db, adapters.jobs, adapters.store, Pseudonyms(key), roots)
    return {INGEST: ingest, DELETE: Delete(adapters.store, KEPT)}


app = slice_worker("datasets", QUEUE, handlers, ("pillow", "numpy", "pyarrow"))
