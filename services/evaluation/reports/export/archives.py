"""Zip and tar as streams: members come one after the other and nothing is kept."""

import io
import tarfile
import zipfile
from collections.abc import Iterable, Iterator

Member = tuple[str, bytes]
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Every member's time: the same content gives the same archive."""


def zipped(members: Iterable[Member]) -> Iterator[bytes]:
    """A zip of `members`, stored: PNG does not get smaller."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content)
            yield sink.taken()
    yield sink.taken()


def tarred(members: Iterable[Member]) -> Iterator[bytes]:
    """An uncompressed tar of `members`, as WebDataset reads its shards."""
    sink = _Sink()
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
            yield sink.taken()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """Collects what an archive writes until somebody takes it; cannot seek back."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._parts.append(bytes(content))
        return len(content)

    def taken(self) -> bytes:
        content = b"".join(self._parts)
        self._parts.clear()
        return content
