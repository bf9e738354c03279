"""Packed sources on local disk: every image of a source once, as bytes in one memory map.

A source is named by its content (a manifest's digest), so a folder never goes stale; it is
verified when this process first opens it, rebuilt when damaged, and the least recently used
ones go when the folder outgrows its limit.
"""

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from services.training.ports.engine import ImageMismatchError, Pixels

PIXELS, RECORD = "pixels.npy", "record.json"
PART = ".part"
"""Suffix of a source that is still being packed."""
READERS = 16
"""Threads that fetch images; they wait for the object store most of the time."""


class SourceCache:
    """The `PackedSources` of a worker. Safe beside other processes on the same folder."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._verified: set[str] = set()

    def open(self, name: str, count: int, size_px: int, read: Callable[[int], bytes]) -> Pixels:
        place = self._folder / name
        shape = (count, size_px, size_px)
        if name not in self._verified or not place.exists():
            if not _intact(place, shape):
                self._build(place, shape, read)
            self._verified.add(name)
        os.utime(place)
        pixels = np.load(place / PIXELS, mmap_mode="r")
        self._evict(keep=place)
        return pixels

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Remove every source whose name is not wanted; open maps stay readable."""
        for place in self._folder.glob("*"):
            if place.suffix != PART and not wanted(place.name):
                shutil.rmtree(place, ignore_errors=True)

    def _build(
        self, place: Path, shape: tuple[int, int, int], read: Callable[[int], bytes]
    ) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=PART, dir=self._folder))
        try:
            pack(beside / PIXELS, shape, read)
            (beside / RECORD).write_text(json.dumps({"sha256": _sha256(beside / PIXELS)}))
            shutil.rmtree(place, ignore_errors=True)
            try:
                beside.rename(place)
            except OSError:  # another process was faster, with the same content
                if not _intact(place, shape):
                    raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _evict(self, keep: Path) -> None:
        """Remove the least recently used until the limit holds; open maps stay readable."""
        held = sorted(
            (entry for p in self._folder.iterdir() if (entry := _entry(p)) is not None),
            reverse=True,
        )
        total = sum(size for _, size, _ in held)
        while total > self._limit and held:
            _, size, place = held.pop()
            if place != keep:
                shutil.rmtree(place, ignore_errors=True)
                total -= size


def _entry(place: Path) -> tuple[float, int, Path] | None:
    """(last use, bytes, folder) of a packed source; None for anything else, or gone meanwhile."""
    if place.suffix == PART:
        return None
    try:
        return place.stat().st_mtime, sum(f.stat().st_size for f in place.iterdir()), place
    except OSError:
        return None


def pack(path: Path, shape: tuple[int, int, int], read: Callable[[int], bytes]) -> None:
    """Decode images 0 .. N-1 into one (N, H, W) array on disk."""
    count, size_px, _ = shape
    packed = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)

    def fill(index: int) -> None:
        packed[index] = decode(read(index), size_px)

    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(fill, range(count)):
            pass
    packed.flush()


def decode(png: bytes, size_px: int) -> Pixels:
    """Grayscale bytes (size_px, size_px) of an image file."""
    try:
        with Image.open(io.BytesIO(png)) as image:
            pixels = np.asarray(image.convert("L"))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        msg = "an image does not decode"
        raise ImageMismatchError(msg) from error
    if pixels.shape != (size_px, size_px):
        msg = f"an image is {pixels.shape[1]} x {pixels.shape[0]}, its source says {size_px}"
        raise ImageMismatchError(msg)
    return pixels


def _intact(place: Path, shape: tuple[int, int, int]) -> bool:
    try:
        record = json.loads((place / RECORD).read_text())
        pixels = np.load(place / PIXELS, mmap_mode="r")
        return pixels.shape == shape and record["sha256"] == _sha256(place / PIXELS)
    except (OSError, ValueError, KeyError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
