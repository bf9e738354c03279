"""What can go wrong with a dataset, as problems that own their status."""

from services.datasets.importers.source import (
    FileMissing,
    NoPathColumn,
    NotCsv,
    PathOutsideRoots,
    SourceUnusable,
)
from services.kit.errors import Conflict, NotFound, Unprocessable


class DatasetUnknown(NotFound):
    pass


class SampleUnknown(NotFound):
    pass


class DatasetNotReady(Conflict):
    slug = "dataset-not-ready"
    title = "The dataset has no manifest (yet)"


class ImportPathRefused(Unprocessable):
    slug = "import-path-refused"
    title = "This path may not be imported from"


class ImportFileMissing(Unprocessable):
    slug = "import-file-missing"
    title = "There is no such file to import"


class ImportNotCsv(Unprocessable):
    slug = "import-not-csv"
    title = "The file is not a well-formed CSV"


class ImportWithoutPath(Unprocessable):
    slug = "import-without-path"
    title = "The CSV does not name its images"


class NoUsableRow(Unprocessable):
    slug = "no-usable-row"
    title = "No row of the source could be used"


_PROBLEMS: dict[type[SourceUnusable], type[Unprocessable]] = {
    PathOutsideRoots: ImportPathRefused,
    FileMissing: ImportFileMissing,
    NotCsv: ImportNotCsv,
    NoPathColumn: ImportWithoutPath,
}


def as_problem(error: SourceUnusable) -> Unprocessable:
    """The problem that an importer's error is to the person who asked."""
    return _PROBLEMS.get(type(error), Unprocessable)(str(error), field=error.field)
