"""What can go wrong with a dataset, as problems that own their status."""

from services.datasets.importers.source import (
    ArchiveUnusable,
    ColumnsMissing,
    FileMissing,
    LabelsUnread,
    MappingUnusable,
    NotCsv,
    PathOutsideRoots,
    PatientsUnknown,
    SourceUnusable,
    TableTooLarge,
)
from services.kit.errors import (
    Conflict,
    Forbidden,
    NotFound,
    ProblemError,
    TooLarge,
    Unprocessable,
)


class DatasetUnknown(NotFound):
    pass


class SampleUnknown(NotFound):
    pass


class WithdrawalUnknown(NotFound):
    pass


class DatasetNotReady(Conflict):
    slug = "dataset-not-ready"
    title = "The dataset has no manifest (yet)"


class BaseFailed(Conflict):
    slug = "base-failed"
    title = "The dataset to make a view of was never made"


class LicenceOfView(Conflict):
    slug = "licence-of-view"
    title = "A view has the terms of the dataset it was made of"


class NotTheOwner(Forbidden):
    slug = "not-the-owner"
    title = "That is for the dataset's owner"


class JoinDiffers(Unprocessable):
    slug = "join-differs"
    title = "The datasets cannot be one"


class PatientsOfTwoSplits(Unprocessable):
    slug = "patients-of-two-splits"
    title = "The datasets put the same patients into different splits"


class SeveralTables(Unprocessable):
    slug = "several-tables"
    title = "The line of a table does not say which table"


class NothingChosen(Unprocessable):
    slug = "nothing-chosen"
    title = "No sample is chosen"


class FoldsMissing(Unprocessable):
    slug = "folds-missing"
    title = "The dataset has no such folds"


class NobodyStates(Unprocessable):
    slug = "nobody-states"
    title = "The dataset does not state what splits are to be alike in"


class PaperFileEmpty(Unprocessable):
    slug = "paper-file-empty"
    title = "The file would list no image"


class BlankWithoutLabels(Unprocessable):
    slug = "blank-without-labels"
    title = "Blank labels are written in tables only"


class ImportPathRefused(Unprocessable):
    slug = "import-path-refused"
    title = "This path may not be imported from"


class ImportFileMissing(Unprocessable):
    slug = "import-file-missing"
    title = "There is no such file to import"


class ImportNotCsv(Unprocessable):
    slug = "import-not-csv"
    title = "The file is not a well-formed CSV or workbook"


class ImportColumnsMissing(Unprocessable):
    slug = "import-columns-missing"
    title = "The table has not the columns of its format"


class ImportTableTooLarge(TooLarge):
    slug = "import-table-too-large"
    title = "The table is too large"


class ImportPatientsUnknown(Unprocessable):
    slug = "import-patients-unknown"
    title = "The table does not say which images are of one patient"


class ImportLabelsUnread(Unprocessable):
    slug = "import-labels-unread"
    title = "No label of the table can be read"


class MappingRefused(Unprocessable):
    slug = "mapping-refused"
    title = "The mapping file cannot be used"


class ArchiveRefused(Unprocessable):
    slug = "archive-refused"
    title = "The archive cannot be used"


class UploadTooLarge(TooLarge):
    slug = "upload-too-large"
    title = "The archive is larger than uploads may be"


class UploadUnknown(NotFound):
    pass


class UploadGone(Unprocessable):
    slug = "upload-unknown"
    title = "There is no such upload"


class NoUsableRow(Unprocessable):
    slug = "no-usable-row"
    title = "No row of the source could be used"


_PROBLEMS: dict[type[SourceUnusable], type[ProblemError]] = {
    PathOutsideRoots: ImportPathRefused,
    FileMissing: ImportFileMissing,
    NotCsv: ImportNotCsv,
    ColumnsMissing: ImportColumnsMissing,
    TableTooLarge: ImportTableTooLarge,
    PatientsUnknown: ImportPatientsUnknown,
    LabelsUnread: ImportLabelsUnread,
    MappingUnusable: MappingRefused,
    ArchiveUnusable: ArchiveRefused,
}


def as_problem(error: SourceUnusable) -> ProblemError:
    """The problem that an importer's error is to the person who asked."""
    kind = _PROBLEMS.get(type(error), Unprocessable)
    return kind(str(error), field=error.field, accepted=error.accepted)
