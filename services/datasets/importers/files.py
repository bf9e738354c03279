"""Files below the allow-listed roots, and nothing else of the server's disk."""

import io
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.datasets.importers.source import FileMissing, PathOutsideRoots


@dataclass(frozen=True)
class Roots:
    """The folders that imports may read. A name is taken below the first root that has it."""

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, folders: Sequence[str | Path]) -> "Roots":
        return cls(tuple(Path(folder).resolve() for folder in folders))

    def file(self, name: str, *, field: str) -> Path:
        """The real path of the regular file `name`: below a root, relative to it or absolute.

        `field` is the input that held the name. Raises `PathOutsideRoots`, also for a link that
        leads out, and `FileMissing`.
        """
        return self._find(name, stat.S_ISREG, field)

    def folder(self, name: str, *, field: str) -> Path:
        """Likewise, of a folder."""
        return self._find(name, stat.S_ISDIR, field)

    def _find(self, name: str, kind: Callable[[int], bool], field: str) -> Path:
        if "\x00" in name or ".." in Path(name).parts:
            raise PathOutsideRoots("a path holds neither '..' nor a zero byte", field=field)
        found = [real for root in self.folders if (real := _real(root / name)) is not None]
        inside = [real for real in found if self._holds(real)]
        if inside and kind(inside[0].stat().st_mode):
            return inside[0]
        if (found or Path(name).is_absolute()) and not inside:
            raise PathOutsideRoots(
                "it leads out of the folders that may be imported from", field=field
            )
        what = "file" if kind is stat.S_ISREG else "folder"
        raise FileMissing(
            f"there is no such {what} below the folders that may be imported from", field=field
        )

    def below(self, folder: Path, name: str) -> Path | None:
        """The real path of the regular file `name` in `folder`, inside a root; else None."""
        real = _real(folder / name)
        if real is None or not self._holds(real) or not stat.S_ISREG(real.stat().st_mode):
            return None
        return real

    def _holds(self, real: Path) -> bool:
        return any(real.is_relative_to(folder) for folder in self.folders)


def _real(path: Path) -> Path | None:
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return None


def open_regular(path: Path) -> io.BufferedReader:
    """A file to read; follows no link, waits for no pipe. Raises `OSError`."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileNotFoundError(path)
    return file


def read_limited(path: Path, limit_bytes: int) -> bytes | None:
    """The content of a file, or None if it is larger than the limit."""
    with open_regular(path) as file:
        content = file.read(limit_bytes + 1)
    return content if len(content) <= limit_bytes else None
