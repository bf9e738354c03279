"""What turns a source of images into samples: one module or folder a format."""

from collections.abc import Callable
from typing import Any

from api_schemas.imports import (
    ChexpertImport,
    CsvImport,
    DatasetRequest,
    DicomImport,
    MappedImport,
    MimicImport,
    NihImport,
    PadchestImport,
    PhantomImport,
    SeededImport,
    VindrImport,
)
from services.datasets.importers.chexpert import Chexpert
from services.datasets.importers.chexpert_csv import ChexpertCsv
from services.datasets.importers.dicom_folder import DicomFolder
from services.datasets.importers.files import Roots
from services.datasets.importers.mapped import Mapped
from services.datasets.importers.mimic import Mimic
from services.datasets.importers.nih import Nih
from services.datasets.importers.padchest import Padchest
from services.datasets.importers.phantom.source import PhantomSource
from services.datasets.importers.seeded import Seeded
from services.datasets.importers.source import Preparation, Source
from services.datasets.importers.table_source import Layout, TableSource
from services.datasets.importers.vindr import Vindr

__all__ = ["Roots", "open_source"]

LAYOUTS: dict[type[Any], Callable[[Any, Roots], Layout]] = {
    CsvImport: ChexpertCsv,
    ChexpertImport: Chexpert,
    MimicImport: Mimic,
    NihImport: Nih,
    VindrImport: Vindr,
    PadchestImport: Padchest,
    MappedImport: Mapped,
    SeededImport: Seeded,
}


def open_source(request: DatasetRequest, roots: Roots) -> Source:
    """The source a request names; raises `SourceUnusable` when its tables say it is none."""
    if isinstance(request, PhantomImport):
        return PhantomSource(request)
    how = Preparation(request.size_px, request.resize)
    if isinstance(request, DicomImport):
        return DicomFolder(request, roots, how)
    return TableSource(LAYOUTS[type(request)](request, roots), roots, how)
