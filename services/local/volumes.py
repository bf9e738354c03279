"""Volumes of SeaweedFS after a power cut, made whole before the server opens them.

A volume is a file of content (`.dat`) and an index of it (`.idx`); both only grow. What was synced
is in both. What was not may have reached the disk in the one and not in the other, and SeaweedFS
then takes the volume for read-only for ever, by way of a third file (`.sdx`) that it never syncs.
So the index loses what the content lacks and gains what it lacks of the content, and half a record
at the content's end is cut off. Must not run beside the server.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from services.kit.syncing import sync

VERSION = 3
"""Of the format, in a volume's first byte; of others we know nothing and leave them alone."""
SUPERBLOCK = 8
ENTRY = struct.Struct(">QIBi")
"""Id, offset in units of 8 bytes (its lower 32 bits, its upper 8), size (-1: a removal)."""
UNIT = 8
RECORD = struct.Struct(">IQi")
"""A record's header: a cookie, id, size of what follows (0: the object was removed)."""
CHECKSUM, TIME = 4, 8
REMOVED = -1
COMPACTED = ".cpc"
"""Synced before content and index are exchanged for compacted ones, removed afterwards."""
AT_ONCE = ENTRY.size << 14


class Entry(NamedTuple):
    """One line of an index: where an object's record ends. A record that names no place is 0."""

    raw: bytes
    end: int


def mend_volumes(folder: Path) -> list[Path]:
    """Make content and index fit together; names the indexes that did not."""
    for derived in folder.glob("*.sdx"):
        derived.unlink()
    return [index for index in sorted(folder.glob("*.idx")) if _mend(index)]


def _mend(index: Path) -> bool:
    content = index.with_suffix(".dat")
    if index.with_suffix(COMPACTED).exists():
        return False  # the server was exchanging both for compacted ones, and finishes that itself
    if not content.exists() or _version(content) != VERSION:
        return False
    size = content.stat().st_size
    if _last_end(index) == size:
        return False
    entries = [entry for entry in _entries(index) if entry.end <= size]
    end = max((entry.end for entry in entries), default=SUPERBLOCK)
    for entry in _unindexed(content, end, size):
        entries.append(entry)
        end = entry.end
    fresh = index.with_suffix(".idx.mended")
    fresh.write_bytes(b"".join(entry.raw for entry in entries))
    sync(fresh)
    fresh.replace(index)
    os.truncate(content, end)
    for path in (content, index.parent):
        sync(path)
    return True


def _version(content: Path) -> int | None:
    with content.open("rb") as file:
        first = file.read(SUPERBLOCK)
    return first[0] if len(first) == SUPERBLOCK else None


def _last_end(index: Path) -> int | None:
    """Where the last record of an index ends; None when the index is cut off in mid entry."""
    size = index.stat().st_size
    if size == 0:
        return SUPERBLOCK
    if size % ENTRY.size:
        return None
    with index.open("rb") as file:
        file.seek(-ENTRY.size, os.SEEK_END)
        return _entry(file.read()).end


def _entries(index: Path) -> Iterator[Entry]:
    with index.open("rb") as file:
        while block := file.read(AT_ONCE):
            for first in range(0, len(block) - ENTRY.size + 1, ENTRY.size):
                yield _entry(block[first : first + ENTRY.size])


def _unindexed(content: Path, first: int, size: int) -> Iterator[Entry]:
    """The whole records of the content from a place on. A page that never came is zeros: no record
    has the id 0, and none was written at the time 0.
    """
    with content.open("rb") as file:
        while first + RECORD.size <= size:
            file.seek(first)
            _, name, length = RECORD.unpack(file.read(RECORD.size))
            end = first + _record_bytes(length)
            if name == 0 or length < 0 or end > size:
                return
            file.seek(first + RECORD.size + length + CHECKSUM)
            if file.read(TIME) == bytes(TIME):
                return
            high, low = divmod(first // UNIT, 1 << 32)
            yield Entry(ENTRY.pack(name, low, high, length or REMOVED), end)
            first = end


def _entry(raw: bytes) -> Entry:
    _, low, high, size = ENTRY.unpack(raw)
    offset = ((high << 32) + low) * UNIT
    return Entry(raw, offset + _record_bytes(max(size, 0)) if offset else 0)


def _record_bytes(size: int) -> int:
    """A record on the disk: header, data, checksum, time, and one to eight bytes of padding."""
    length = RECORD.size + size + CHECKSUM + TIME
    return length + UNIT - length % UNIT
