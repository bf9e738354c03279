"""Use cases of datasets: the catalogue that people see, and the ingest that workers run."""

from services.datasets.service.catalogue import Datasets
from services.datasets.service.ingest import INGEST, QUEUE, Ingest

__all__ = ["INGEST", "QUEUE", "Datasets", "Ingest"]
