"""The files of an export, by format, as streams of bytes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from api_schemas.datasets import DatasetKind
from api_schemas.exports import ExportFile, ExportFormat, ExportRequest
from api_schemas.findings import FINDINGS
from api_schemas.paper import PaperFile, paper_file
from services.evaluation.reports.export.archives import Member, tarred, zipped
from services.evaluation.reports.export.croissant import TABLE, About, croissant
from services.evaluation.reports.export.tables import chexpert_csv, image_path, synthetic
from services.evaluation.service.stock import Item, Stock

CSV, JSON, TAR, ZIP, TEXT = (
    "text/csv",
    "application/json",
    "application/x-tar",
    "application/zip",
    "text/plain",
)
SINGLE: dict[ExportFormat, tuple[str, str]] = {
    "png_csv": ("export.zip", ZIP),
    "seeded_csv": ("seeded.csv", CSV),
    "croissant": ("croissant.json", JSON),
}
TERMS = "TERMS.txt"
SHARD = 5000
"""Images of a shard, unless asked otherwise."""
SHOWN: Mapping[DatasetKind, str] = {
    DatasetKind.SYNTHETIC: "Synthetic images.",
    DatasetKind.MIXED: "Real and synthetic images; the table says which is which.",
    DatasetKind.PHANTOM: "Drawn phantoms, of no patient.",
}
TOLD = (
    *("age", "sex", "race", "ethnicity", "view", "split", "fold", "site", "patient_id"),
    *("seed", "replica", "generator_id"),
)


@dataclass(frozen=True)
class Named:
    media_type: str
    images: int


def file_names(request: ExportRequest, images: int) -> dict[str, Named]:
    """The files of an export of so many images."""
    if request.format != "webdataset":
        name, media_type = SINGLE[request.format]
        return {name: Named(media_type, images)}
    size = _shard(request)
    shards = {
        f"shard-{first // size:06d}.tar": Named(TAR, min(size, images - first))
        for first in range(0, images, size)
    }
    return {**shards, TERMS: Named(TEXT, 0)}


def _shard(request: ExportRequest) -> int:
    return request.shard or SHARD


def files(request: ExportRequest, images: int, base: str) -> list[ExportFile]:
    return [
        ExportFile(name=n, media_type=f.media_type, images=f.images, url=f"{base}/{n}")
        for n, f in file_names(request, images).items()
    ]


@dataclass(frozen=True)
class Packing:
    """What an export is packed of: the manifest's rows, and the images in the store."""

    stock: Stock
    item: Item
    request: ExportRequest
    rows: pl.DataFrame
    created_at: datetime

    def content(self, name: str) -> Iterator[bytes]:
        """A file of `file_names`."""
        match self.request.format:
            case "png_csv":
                return zipped(self._zip_members())
            case "seeded_csv":
                which = PaperFile.SEEDED if self.item.synthetic else PaperFile.TABLE
                blank = self.request.blank or "0"
                return iter([paper_file(self.rows.to_arrow(), which, blank).encode()])
            case "croissant":
                return iter([croissant(self._about(), self._table())])
            case "webdataset":
                if name == TERMS:
                    return iter([self._terms()])
                return tarred(self._tar_members(int(name[6:12])))

    def _zip_members(self) -> Iterator[Member]:
        table = self._table()
        yield TERMS, self._terms()
        yield TABLE, table
        yield "croissant.json", croissant(self._about(), table)
        names = iter(self.rows["sample_id"])
        for pngs in self.stock.images(self.rows):
            yield from ((image_path(next(names)), png) for png in pngs)

    def _tar_members(self, shard: int) -> Iterator[Member]:
        """A PNG and a JSON a sample under one key, as WebDataset wants them."""
        size = _shard(self.request)
        first = shard * size
        rows = self.rows.slice(first, size)
        made = rows.select(synthetic()).to_series()
        told = zip(rows.iter_rows(named=True), made, strict=True)
        place = first
        for pngs in self.stock.images(rows):
            for png in pngs:
                yield f"{place:08d}.json", _told(*next(told), self.item.phantom)
                yield f"{place:08d}.png", png
                place += 1

    def _table(self) -> bytes:
        return chexpert_csv(self.rows, phantom=self.item.phantom)

    def _about(self) -> About:
        return About(
            name=self.item.name,
            manifest=self.item.digest,
            images=self.rows.height,
            patients=self.rows["patient_id"].n_unique(),
            kind=self.item.kind,
            licence=self.item.licence,
            terms=self.item.terms,
            created_at=self.created_at,
        )

    def _terms(self) -> bytes:
        licence = self.item.licence
        lines = [
            f"{self.item.name}: {self.rows.height} images, manifest {self.item.digest}",
            SHOWN.get(self.item.kind, ""),
            f"Licence: {licence.name or 'not stated'} {licence.url or ''}".strip(),
            f"Images may be passed on: {_word(licence.may_export)}",
            f"What is made of them may be shared: {_word(licence.may_share_derived)}",
            licence.notes,
            self.item.terms,
            *(f"Flag: {flag}" for flag in self.item.flags),
        ]
        return "\n".join([line for line in lines if line] + [""]).encode()


def _told(row: dict[str, Any], made: bool, phantom: bool) -> bytes:
    said = {name: row[name] for name in ("sample_id", *TOLD)}
    said |= {"synthetic": made, "phantom": phantom}
    return json.dumps({**said, "labels": {str(f): row[f] for f in FINDINGS}}).encode()


def _word(permission: bool | None) -> str:
    return {True: "yes", False: "no", None: "nobody has said"}[permission]
