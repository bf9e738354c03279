"""What a power cut must not take: files forced to the disk before somebody relies on them.

A store that answers a put has written it to files, and its bytes may still be in memory alone.
Any process may force them out; it need not be the one that wrote them.
"""

import fcntl
import os
import threading
from pathlib import Path
from typing import NamedTuple

WRITTEN_FIRST = (".dat", ".idx")
"""A volume's content goes to the disk before its index, and both before the names of objects."""


def sync(path: Path) -> None:
    """Return when this file or folder is on the disk. A path that has gone is no error: what
    replaced it has another name, which its folder tells.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: `fsync` stops at the disk's own memory
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Look(NamedTuple):
    """A file as it was seen: whoever wrote to it since sees it otherwise."""

    inode: int
    size: int
    changed_ns: int


class SyncedFolder:
    """The folder of another process's files, of which this process must know some on the disk.

    `note` is called when that process has answered a write; `sync` returns when every write noted
    before is on the disk. Threads share a round: whoever comes while one is under way waits for
    the next, which covers them all.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counting = threading.Lock()
        self._syncing = threading.Lock()
        self._noted = 0
        self._synced = 0
        self._seen = self._look()  # what was written before is no concern of this process

    def note(self) -> None:
        with self._counting:
            self._noted += 1

    def sync(self) -> None:
        with self._counting:
            wanted = self._noted
        if self._synced >= wanted:
            return
        with self._syncing:
            if self._synced >= wanted:
                return
            with self._counting:
                covered = self._noted
            self._sync_changed()
            self._synced = covered

    def _sync_changed(self) -> None:
        """Files only ever grow or are replaced here, so an equal look means equal content."""
        now = self._look()
        changed = [path for path, look in now.items() if self._seen.get(path) != look]
        for path in sorted(changed, key=_order):
            sync(path)
        self._seen = now

    def _look(self) -> dict[Path, _Look]:
        """Every file and folder below, and the folder itself."""
        looks: dict[Path, _Look] = {}
        waiting = [self._folder]
        while waiting:
            folder = waiting.pop()
            try:
                looks[folder] = _seen(folder.stat())
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(Path(entry.path))
                        elif entry.is_file(follow_symlinks=False):
                            looks[Path(entry.path)] = _seen(entry.stat(follow_symlinks=False))
            except FileNotFoundError:  # removed meanwhile, or not made yet
                continue
        return looks


def _seen(status: os.stat_result) -> _Look:
    return _Look(status.st_ino, status.st_size, status.st_mtime_ns)


def _order(path: Path) -> tuple[int, int]:
    """Content, index, other files, then folders from the inside outwards."""
    if path.suffix in WRITTEN_FIRST:
        return WRITTEN_FIRST.index(path.suffix), 0
    return len(WRITTEN_FIRST) + path.is_dir(), -len(path.parts)
