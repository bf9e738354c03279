"""Use cases of datasets: the catalogue that people see, and the jobs that workers run."""

from services.datasets.service.catalogue import Datasets
from services.datasets.service.deriving import DERIVE, Derive, Views
from services.datasets.service.ingest import INGEST, QUEUE, Ingest
from services.datasets.service.keeping import KEPT, KIND, NAMED
from services.datasets.service.manifests import Manifests
from services.datasets.service.uploads import Uploads
from services.datasets.service.withdrawing import WITHDRAW, Withdraw, Withdrawals

__all__ = [
    "DERIVE",
    "INGEST",
    "KEPT",
    "KIND",
    "NAMED",
    "QUEUE",
    "WITHDRAW",
    "Datasets",
    "Derive",
    "Ingest",
    "Manifests",
    "Uploads",
    "Views",
    "Withdraw",
    "Withdrawals",
]
