"""Use cases of datasets: the catalogue that people see, and the ingest that workers run."""

from services.datasets.service.catalogue import Datasets
from services.datasets.service.ingest import INGEST, QUEUE, Ingest
from services.datasets.service.keeping import KEPT, KIND, NAMED

__all__ = ["INGEST", "KEPT", "KIND", "NAMED", "QUEUE", "Datasets", "Ingest"]
