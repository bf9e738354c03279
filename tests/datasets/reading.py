"""Reading a source as the ingest does, without the ingest."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from api_schemas.findings import Finding
from api_schemas.imports import DatasetRequest
from services.datasets.importers import Roots, open_source
from services.datasets.importers.decoders import DecoderPool
from services.datasets.importers.preparing import prepare
from services.datasets.importers.source import (
    Entry,
    Picture,
    Pixels,
    Preparation,
    Rejected,
    Unreadable,
)

REQUEST: TypeAdapter[DatasetRequest] = TypeAdapter(DatasetRequest)
POOL = DecoderPool(2)
"""Starts its processes when a test reads a picture."""


class Read:
    """A source with decoders at hand."""

    def __init__(self, request: DatasetRequest, *roots: Path) -> None:
        self._source = open_source(request, Roots.of(roots))
        self.remarks = self._source.remarks

    def entries(self) -> Iterator[Entry | Rejected]:
        return self._source.entries(POOL)

    def usable(self) -> list[Entry]:
        return [row for row in self.entries() if isinstance(row, Entry)]

    def rejected(self) -> list[Rejected]:
        return [row for row in self.entries() if isinstance(row, Rejected)]

    def pictures(self, places: list[str]) -> list[Pixels | Unreadable]:
        found = self._source.pictures(places, POOL)
        return [each if isinstance(each, Unreadable) else pixels(each) for each in found]


def pixels(picture: Picture) -> Pixels:
    with Image.open(io.BytesIO(picture.png)) as image:
        return np.asarray(image)


def prepared(content: bytes, how: Preparation) -> Pixels | Unreadable:
    """The pixels of an encoded file, without what is noted about it."""
    found = prepare(content, how)
    return found if isinstance(found, Unreadable) else found.pixels


def opened(root: Path, format_: str, **more: Any) -> Read:
    """The source of a request of this format, below `root`."""
    fields = {"format": format_, "name": "x", "size_px": 32}
    return Read(REQUEST.validate_python(fields | more), root)


def known(sample: Entry) -> dict[Finding, int]:
    """The labels that are not blank."""
    return {f: value for f, value in sample.labels.items() if value is not None}
