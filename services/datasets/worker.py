"""The worker of queue `cpu`: imports datasets, makes views, withdraws patients, deletes."""

from services.datasets.importers import Roots
from services.datasets.importers.pseudonyms import Pseudonyms
from services.datasets.service import (
    DERIVE,
    INGEST,
    KEPT,
    QUEUE,
    WITHDRAW,
    Derive,
    Ingest,
    Manifests,
    Withdraw,
)
from services.kit.adapters import Adapters
from services.kit.deletion import Delete
from services.kit.jobs.lineage import DELETE
from services.kit.jobs.runner import Handler
from services.kit.worker import slice_worker


def handlers(adapters: Adapters) -> dict[str, Handler]:
    key = adapters.settings.pseudonym_key.get_secret_value().encode()
    roots = Roots.of(adapters.settings.roots)
    ingest = Ingest(adapters.db, adapters.jobs, adapters.store, Pseudonyms(key), roots)
    manifests = Manifests(adapters.store, adapters.settings.scratch / "manifests")
    return {
        INGEST: ingest,
        DERIVE: Derive(adapters.db, adapters.store, manifests),
        WITHDRAW: Withdraw(adapters.db, adapters.store, manifests),
        DELETE: Delete(adapters.store, KEPT),
    }


app = slice_worker("datasets", QUEUE, handlers, ("pillow", "numpy", "pyarrow"))
