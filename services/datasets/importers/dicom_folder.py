"""A folder of DICOM files without a table.

View, sex, age and patient come from the headers, of which only an allow-list is ever read; no
date, name or number is kept. Labels are blank. A file says too little to be split by anything
but its patient. `line` is the number of the file in the order of its path.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from api_schemas.datasets import RejectionCode
from api_schemas.findings import FINDINGS, View
from api_schemas.imports import DicomImport
from services.datasets.importers.fields import (
    SEXES_OF_DICOM,
    RowUnusable,
    UnusableValues,
    age,
    is_oblique,
    one_of,
    patient,
    quoted,
    view_position,
    word,
)
from services.datasets.importers.files import Roots
from services.datasets.importers.source import (
    Decoders,
    Entry,
    Header,
    Picture,
    Preparation,
    Rejected,
    Unreadable,
)
from services.datasets.importers.table_source import NOT_FOUND

READ_AT_ONCE = 512


class DicomFolder:
    """The files of one folder and all below it; links are not followed."""

    def __init__(self, request: DicomImport, roots: Roots, how: Preparation) -> None:
        self._folder = roots.folder(request.path, field="path")
        self._roots = roots
        self._how = how
        self._laterals = request.laterals
        self._viewless = 0
        self._unusable = UnusableValues()

    def entries(self, decoders: Decoders) -> Iterator[Entry | Rejected]:
        self._viewless = 0
        self._unusable.clear()
        numbered = enumerate(_files(self._folder), start=1)
        while part := list(islice(numbered, READ_AT_ONCE)):
            headers = decoders.headers([self._folder / place for _, place in part])
            for (line, place), header in zip(part, headers, strict=True):
                if isinstance(header, Unreadable):
                    yield Rejected(line, header.reason, header.code)
                    continue
                try:
                    yield self._entry(line, place, header)
                except RowUnusable as error:
                    yield Rejected(line, str(error), error.code)

    def pictures(self, places: Sequence[str], decoders: Decoders) -> Iterator[Picture | Unreadable]:
        paths = [self._roots.below(self._folder, place) or NOT_FOUND for place in places]
        return decoders.pictures(paths, self._how)

    def remarks(self) -> list[str]:
        told = self._unusable.remarks()
        if self._viewless:
            told.append(
                f"images whose header states no view, imported with a blank one: {self._viewless}"
            )
        return told

    def _entry(self, line: int, place: str, header: Header) -> Entry:
        if not place.isprintable():
            raise RowUnusable("the name of the file is not UTF-8, or holds control characters")
        name = patient(header, "PatientID")
        if name is None:
            raise RowUnusable("the header names no patient")
        return Entry(
            line=line,
            place=place,
            patient=name,
            age=age(word(header, "PatientAge"), "PatientAge", self._unusable),
            sex=one_of(header, "PatientSex", SEXES_OF_DICOM, self._unusable),
            view=self._view(header),
            labels=dict.fromkeys(FINDINGS),
        )

    def _view(self, header: Header) -> View | None:
        said = word(header, "ViewPosition")
        if not said:
            self._viewless += 1
        if is_oblique(said):
            raise RowUnusable(
                f"ViewPosition is {quoted(said)}, neither frontal nor lateral", RejectionCode.VIEW
            )
        position = view_position(header, "ViewPosition", self._unusable)
        if position is View.LATERAL and not self._laterals:
            raise RowUnusable(
                f"ViewPosition is {quoted(said)}; lateral images are imported if `laterals` is set",
                RejectionCode.VIEW,
            )
        return position


def _files(folder: Path) -> Iterator[str]:
    """Every file below `folder`, in the order of the bytes of its path."""
    found: list[str] = []
    for parent, _, names in os.walk(folder):
        found += [str(Path(parent, name).relative_to(folder)) for name in names]
    return iter(sorted(found, key=os.fsencode))
