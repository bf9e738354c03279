"""The worker of queue `cpu`: imports datasets on all cores, makes views, withdraws patients,
deletes.
"""

import os

from services.datasets.importers import Roots
from services.datasets.importers.decoders import DecoderPool
from services.datasets.service import (
    DERIVE,
    INGEST,
    KEPT,
    QUEUE,
    WITHDRAW,
    Derive,
    Ingest,
    Manifests,
    Uploads,
    Withdraw,
)
from services.kit.adapters import Adapters
from services.kit.deletion import Delete
from services.kit.jobs.lineage import DELETE
from services.kit.jobs.runner import Handler
from services.kit.pseudonyms import Pseudonyms
from services.kit.worker import slice_worker


def handlers(adapters: Adapters) -> dict[str, Handler]:
    key = adapters.settings.pseudonym_key.get_secret_value().encode()
    roots = Roots.of(adapters.settings.roots)
    settings = adapters.settings
    uploads = Uploads(adapters.db, adapters.store, settings.scratch, settings.upload_limit_bytes)
    manifests = Manifests(adapters.store, settings.scratch / "manifests")
    ingest = Ingest(
        adapters.db,
        adapters.jobs,
        adapters.store,
        Pseudonyms(key),
        roots,
        uploads,
        DecoderPool(os.cpu_count() or 1),
    )
    return {
        INGEST: ingest,
        DERIVE: Derive(adapters.db, adapters.store, manifests),
        WITHDRAW: Withdraw(adapters.db, adapters.store, manifests, adapters.erasure),
        DELETE: Delete(adapters.erasure, KEPT),
    }


DECODERS = ("pillow", "pydicom", "python-gdcm", "pylibjpeg-openjpeg", "pyjpegls")

app = slice_worker("datasets", QUEUE, handlers, (*DECODERS, "numpy", "pyarrow"))
