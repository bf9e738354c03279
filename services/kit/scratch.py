"""Files on this machine's disk that serve one piece of work, and must not outlive its process."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIXES = ("upload-", "unpacking-", "screening-", "run-")
"""What temporary folders are called, by what they are for."""
PARTS = "*.part"
"""Files in the making that no lock tells from forgotten ones: only their age does."""
FORGOTTEN_S = 24 * 3600.0
SWEEP_EVERY_S = 3600.0


@contextmanager
def temporary_folder(place: Path, prefix: str) -> Generator[Path]:
    """A new folder in `place`, gone at the end of the block.

    It is locked for as long as this process lives: what a killed process left is thereby known.
    """
    folder, lock = _make(place, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(scratch: Path) -> list[Path]:
    """Remove what killed processes left in scratch, or one level below; what was removed."""
    found = [path for prefix in PREFIXES for path in _glob(scratch, f"{prefix}*")]
    gone = [path for path in found if _remove_unlocked(path)]
    for path in _glob(scratch, PARTS):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > FORGOTTEN_S:
                _remove(path)
                gone.append(path)
    return gone


def _make(place: Path, prefix: str) -> tuple[Path, int]:
    if prefix not in PREFIXES:
        raise ValueError(f"nobody would sweep {prefix}*")
    place.mkdir(parents=True, exist_ok=True)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)  # it was swept before it was locked


def _glob(scratch: Path, pattern: str) -> list[Path]:
    return [*scratch.glob(pattern), *scratch.glob(f"*/{pattern}")]


def _remove_unlocked(path: Path) -> bool:
    """Whether it was left behind; then it is gone."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # somebody was faster
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        _remove(path)
        return True
    finally:
        os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
