"""What turns a source of images into samples: one module or folder a format."""

from collections.abc import Callable
from typing import Any

from api_schemas.imports import (
    ChexpertImport,
    CsvImport,
    DatasetRequest,
    DicomImport,
    FileImport,
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
from services.datasets.importers.several_tables import SeveralTables, TableLayout
from services.datasets.importers.source import Preparation, Source
from services.datasets.importers.table_source import Layout, TableSource
from services.datasets.importers.vindr import Vindr

__all__ = ["Roots", "open_source"]

LAYOUTS: dict[type[Any], Callable[[Any, Roots], Layout]] = {
    ChexpertImport: Chexpert,
    MimicImport: Mimic,
    NihImport: Nih,
    VindrImport: Vindr,
    PadchestImport: Padchest,
    SeededImport: Seeded,
}


TABLES: dict[type[Any], Callable[[Any, Roots, str, str], TableLayout]] = {
    CsvImport: ChexpertCsv,
    MappedImport: Mapped,
}
"""Formats that may have several tables."""


def open_source(request: DatasetRequest, roots: Roots) -> Source:
    """The source a request names; raises `SourceUnusable` when its tables say it is none."""
    if isinstance(request, PhantomImport):
        return PhantomSource(request)
    how = Preparation(request.size_px, request.resize)
    if isinstance(request, DicomImport):
        return DicomFolder(request, roots, how)
    return TableSource(_layout(request, roots), roots, how)


def _layout(request: FileImport, roots: Roots) -> Layout:
    if not isinstance(request, CsvImport | MappedImport):
        return LAYOUTS[type(request)](request, roots)
    layout = TABLES[type(request)]
    if request.path is not None:
        return layout(request, roots, request.path, "path")

    def read(table: str, field: str) -> TableLayout:
        return layout(request, roots, table, field)

    return SeveralTables(request, read, request.site)
