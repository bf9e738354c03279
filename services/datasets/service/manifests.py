"""Manifests as tables on local disk, memory-mapped: millions of rows are paged without loading."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import cast

import polars as pl

from api_schemas.manifest import MANIFEST, from_parquet
from services.datasets.models import Manifest
from services.kit.objects import ObjectStore

SHAPE = hashlib.sha256(str(MANIFEST).encode()).hexdigest()[:8]
"""A part of each file's name: a table of other columns, mapped by an earlier version, is no use."""
KEPT = 16
"""Tables on disk; the one that was not used for longest goes first."""


class Manifests:
    """Reads manifests by their rows. A table is fetched and verified once, then mapped.

    A manifest never changes, so a file named by its digest is never stale. Processes may share
    the folder: a file appears whole, and a removed one stays readable for who has it open.
    """

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        self._store = store
        self._folder = folder

    def scan(self, row: Manifest) -> pl.LazyFrame:
        """The manifest's columns (`api_schemas.manifest.MANIFEST`), in its order."""
        path = self._path(row)
        try:
            os.utime(path)
        except FileNotFoundError:
            self._fetch(row, path)
            self._forget_oldest()
        return pl.scan_ipc(path)

    def frame(self, row: Manifest) -> pl.DataFrame:
        return self.scan(row).collect()

    def forget(self, row: Manifest) -> None:
        self._path(row).unlink(missing_ok=True)

    def _path(self, row: Manifest) -> Path:
        return self._folder / f"{row.parquet_sha256}-{SHAPE}.arrow"

    def _fetch(self, row: Manifest, path: Path) -> None:
        table = from_parquet(self._store.get(row.key, row.parquet_sha256), MANIFEST)
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        frame = cast("pl.DataFrame", pl.from_arrow(table))
        # uncompressed and in polars' own layout, or it could not be mapped
        frame.write_ipc(partial, compression="uncompressed", compat_level=pl.CompatLevel.newest())
        partial.rename(path)

    def _forget_oldest(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # another process forgot it first
            files = sorted(self._folder.glob("*.arrow"), key=lambda f: f.stat().st_mtime)
            for file in files[:-KEPT]:
                file.unlink()
