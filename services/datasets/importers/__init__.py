"""What turns a source of images into samples: one module or folder a format."""

from api_schemas.datasets import CsvImport, DatasetRequest
from services.datasets.importers.chexpert_csv import ChexpertCsv
from services.datasets.importers.files import Roots
from services.datasets.importers.phantom.source import PhantomSource
from services.datasets.importers.source import Source

__all__ = ["Roots", "open_source"]


def open_source(request: DatasetRequest, roots: Roots) -> Source:
    """The source a request names; raises `SourceUnusable` when its header says it is none."""
    if isinstance(request, CsvImport):
        return ChexpertCsv(request, roots)
    return PhantomSource(request)
