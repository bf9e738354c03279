"""Uploaded archives: zip and tar, unpacked below a folder and nowhere else, in bounded space.

Only plain files and folders come out. A link, a device, a path that leads out, an archive within
the archive and a file that grows out of proportion make the whole archive unusable: none has a
place in a folder of images.
"""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from services.datasets.importers.source import ArchiveUnusable

MEMBERS_LIMIT = 2_000_000
NAME_LIMIT = 1000
RATIO_LIMIT = 200
SLACK = 1 << 20
"""What is smaller than this may be of any ratio: an empty table packs into a few bytes."""
BLOCK = 1 << 20
NESTED = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
JUNK = "__MACOSX/"
ENCRYPTED = 1
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class _Member:
    """A plain file of an archive."""

    name: str
    content: IO[bytes]
    packed: int
    """Its bytes in the archive; of a tar, which does not tell, those of the whole archive."""


def unpack(archive: Path, folder: Path, stop_if_asked: Callable[[], None]) -> None:
    """Write the files of `archive` below `folder`, which exists and is empty.

    Calls `stop_if_asked` often; what that raises passes through. Raises `ArchiveUnusable`; a
    full disk is no fault of the archive and stays an `OSError`.
    """
    size = archive.stat().st_size
    total = 0
    for count, member in enumerate(_guarded(_members(archive)), start=1):
        if count > MEMBERS_LIMIT:
            raise _unusable(f"it holds more than {MEMBERS_LIMIT} files")
        written = 0
        with _target(folder, member.name, count) as file:
            while block := _read(member.content):
                stop_if_asked()
                written += len(block)
                total += len(block)
                if _disproportionate(written, member.packed) or _disproportionate(total, size):
                    raise _unusable(f"a file of it grows more than {RATIO_LIMIT} times as large")
                file.write(block)


def _disproportionate(unpacked: int, packed: int) -> bool:
    return unpacked > SLACK + RATIO_LIMIT * packed


def _unusable(why: str) -> ArchiveUnusable:
    return ArchiveUnusable(f"the archive cannot be used: {why}", field="upload")


def _target(folder: Path, name: str, number: int) -> IO[bytes]:
    """The file to write; `number` counts the archive's files from 1. Names are not repeated in
    what is raised: they can be those of patients.
    """
    path = PurePosixPath(name)
    which = f"file {number} of it"
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise _unusable(f"it names a file outside of itself: {which}")
    problem = _problem(name)
    if problem is not None:
        raise _unusable(f"the name of {which} {problem}")
    if name.lower().endswith(NESTED):
        raise _unusable(f"{which} is another archive; unpack that first")
    target = folder / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise _unusable(
            f"it names a file twice: {which} has the name of an earlier one, or of its folder"
        ) from error


def _problem(name: str) -> str | None:
    """Why a file cannot be given this name."""
    if "\\" in name:
        return (
            "holds a backslash, as some programs on Windows write for a folder; pack the archive "
            "with a program that writes slashes"
        )
    if len(name) > NAME_LIMIT:
        return f"has more than {NAME_LIMIT} characters"
    return None if name.isprintable() else "holds control characters, or is not in UTF-8"


def _read(content: IO[bytes]) -> bytes:
    try:
        return content.read(BLOCK)
    except DAMAGED as error:
        raise _unusable("it is damaged") from error


def _guarded(members: Iterator[_Member]) -> Iterator[_Member]:
    while True:
        try:
            member = next(members)
        except StopIteration:
            return
        except DAMAGED as error:
            raise _unusable("it is damaged, or neither zip nor tar") from error
        yield member


def _members(archive: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        yield from _of_zip(archive)
    else:
        yield from _of_tar(archive)


def _of_zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or info.filename.startswith(JUNK):
                continue
            if kind not in {0, stat.S_IFREG}:
                raise _unusable("it holds a link or a device")
            if info.flag_bits & ENCRYPTED:
                raise _unusable("it is encrypted")
            with file.open(info) as content:
                yield _Member(info.filename, content, info.compress_size)


def _of_tar(archive: Path) -> Iterator[_Member]:
    size = archive.stat().st_size
    with tarfile.open(archive, "r:*") as file:
        for info in file:
            if info.isdir():
                continue
            if not info.isreg():
                raise _unusable("it holds a link or a device")
            content = file.extractfile(info)
            if content is not None:
                with content:
                    yield _Member(info.name, content, size)
            file.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - else it keeps every header
