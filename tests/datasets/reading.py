"""Reading a source as the ingest does, without the ingest."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from api_schemas.imports import DatasetRequest
from services.datasets.importers import Roots, open_source
from services.datasets.importers.decoders import DecoderPool
from services.datasets.importers.source import Entry, Picture, Pixels, Rejected, Unreadable

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
