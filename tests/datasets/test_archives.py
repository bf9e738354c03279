"""Archives: honest ones come out as they went in, others not at all."""

import gzip
import io
import os
import resource
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from services.datasets.importers import archives
from services.datasets.importers.archives import unpack
from services.datasets.importers.source import ArchiveUnusable
from services.datasets.importers.unpacker import unpack_apart

FILES = {"t.csv": b"Path\na/b.png\n", "a/b.png": bytes(range(256)) * 40, "empty": b""}


def zipped(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.mkdir("a")
        for name, content in files.items():
            file.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes] = FILES, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:  # pyright: ignore[reportCallIssue, reportArgumentType]
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "in" / "out"
    folder.mkdir(parents=True)
    return folder


def go_on() -> None:
    pass


def unpacked(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "make",
    [
        zipped,
        tarred,
        lambda path: tarred(path, mode="w:gz"),
        lambda path: tarred(path, mode="w:bz2"),
        lambda path: tarred(path, mode="w:xz"),
    ],
    ids=["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"],
)
def test_files_come_out_as_they_went_in(
    tmp_path: Path, out: Path, make: Callable[[Path], Path]
) -> None:
    unpack(make(tmp_path / "archive"), out, go_on)
    assert unpacked(out) == FILES


def _link(path: Path) -> Path:
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        file.addfile(info)
    return path


def _hard_link(path: Path) -> Path:
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.LNKTYPE, "../../secret"
        file.addfile(info)
    return path


def _device(path: Path) -> Path:
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo("null")
        info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 3
        file.addfile(info)
    return path


def _zip_link(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    return path


def _encrypted(path: Path) -> Path:
    content = bytearray(zipped(path, {"a.png": b"x"}).read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    return path


def _cut(path: Path) -> Path:
    content = tarred(path, {"a.png": bytes(200_000)}, "w:gz").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def _wrong_sum(path: Path) -> Path:
    content = bytearray(zipped(path, {"a.bin": bytes(range(256)) * 9}).read_bytes())
    content[content.index(b"a.bin") + 20] ^= 0xFF
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: zipped(p, {"../evil": b"x"}), "outside"),
        (lambda p: tarred(p, {"../evil": b"x"}), "outside"),
        (lambda p: tarred(p, {"/tmp/evil": b"x"}), "outside"),  # noqa: S108 - never written
        (lambda p: tarred(p, {"a/../../evil": b"x"}), "outside"),
        (lambda p: zipped(p, {"..\\evil": b"x"}), "name"),
        (lambda p: tarred(p, {"evil\x1b[2J": b"x"}), "name"),
        (lambda p: zipped(p, {"more.zip": b"PK"}), "another archive"),
        (lambda p: tarred(p, {"a/more.TAR.GZ": b""}), "another archive"),
        (lambda p: zipped(p, {"bomb.png": bytes(300_000_000)}), "grows"),
        (lambda p: tarred(p, {"bomb.png": bytes(300_000_000)}, "w:gz"), "grows"),
        (lambda p: tarred(p, {"x": b"1", "x/y": b"2"}), "twice"),
        (_link, "link"),
        (_hard_link, "link"),
        (_device, "device"),
        (_zip_link, "link"),
        (_encrypted, "encrypted"),
        (_cut, "damaged"),
        (_wrong_sum, "damaged"),
        (lambda p: (p.write_bytes(b"neither"), p)[1], "neither zip nor tar"),
        (lambda p: (p.write_bytes(b""), p)[1], "neither zip nor tar"),
    ],
)
def test_what_no_archive_of_images_holds_is_refused(
    tmp_path: Path, out: Path, make: Callable[[Path], Path], reason: str
) -> None:
    archive = make(tmp_path / "archive")
    with pytest.raises(ArchiveUnusable, match=reason):
        unpack(archive, out, go_on)
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and out not in p.parents]
    assert outside == [archive]
    assert sum(len(content) for content in unpacked(out).values()) < 100 << 20


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("QZMILLER\\a.png", "the name of file 2 of it holds a backslash"),
        ("QZMILLER\x1ba.png", "the name of file 2 of it holds control characters"),
        ("QZMILLER" * 130, "the name of file 2 of it has more than 1000 characters"),
        ("../QZMILLER.png", "outside of itself: file 2 of it"),
        ("QZMILLER.zip", "file 2 of it is another archive"),
    ],
)
def test_it_is_said_which_name_is_refused_and_why_without_the_name(
    tmp_path: Path, out: Path, name: str, reason: str
) -> None:
    path = zipped(tmp_path / "a.zip", {"t.csv": b"Path", name: b"x"})
    with pytest.raises(ArchiveUnusable, match=reason) as raised:
        unpack(path, out, go_on)
    assert "QZMILLER" not in str(raised.value)


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "archive"
    tarred(path, {"x": b"1"})
    with tarfile.open(path, "a") as file:
        file.addfile(tarfile.TarInfo("x"))
    with pytest.raises(ArchiveUnusable, match="twice"):
        unpack(path, out, go_on)


def test_a_whole_of_many_small_bombs_is_refused(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SLACK", 1 << 16)
    path = tarred(tmp_path / "a", {f"{n}.png": bytes(60_000) for n in range(200)}, "w:xz")
    with pytest.raises(ArchiveUnusable, match="grows"):
        unpack(path, out, go_on)


def test_unpacking_stops_when_asked(tmp_path: Path, out: Path) -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        unpack(zipped(tmp_path / "archive"), out, stop)


# ---------------------------------------------------------------- in a process of its own


def test_a_process_of_its_own_unpacks_the_same(tmp_path: Path, out: Path) -> None:
    unpack_apart(zipped(tmp_path / "archive"), out, go_on)
    assert unpacked(out) == FILES


def test_its_reasons_come_back(tmp_path: Path, out: Path) -> None:
    with pytest.raises(ArchiveUnusable, match="outside of itself") as raised:
        unpack_apart(zipped(tmp_path / "archive", {"../evil": b"x"}), out, go_on)
    assert raised.value.field == "upload"
    with pytest.raises(FileNotFoundError):
        unpack_apart(tmp_path / "gone", out, go_on)


def _long_header(path: Path) -> Path:
    """A tar whose first header claims a name of 400 MB."""
    size = 400_000_000
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, size
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size // 1_000_000):
            file.write(bytes(1_000_000))
    return path


def _long_directory(path: Path) -> Path:
    """A zip of nothing but a directory, which lists one empty file a million times."""
    zipped(path, {"a": b""})
    content = path.read_bytes()
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    count = 1_000_000
    directory = content[start:end] * count
    tail = bytearray(content[end:])
    tail[12:16] = struct.pack("<L", len(directory))
    path.write_bytes(content[:start] + directory + tail)
    return path


@pytest.mark.parametrize("make", [_long_header, _long_directory])
def test_an_archive_that_needs_too_much_memory_is_refused(
    tmp_path: Path, out: Path, make: Callable[[Path], Path]
) -> None:
    archive = make(tmp_path / "archive")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArchiveUnusable, match="more memory"):
        unpack_apart(archive, out, go_on, memory_bytes=300 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB
    assert unpacked(out) == {}


def test_the_process_ends_when_it_is_told_to_stop(tmp_path: Path, out: Path) -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    os.mkfifo(tmp_path / "archive")  # never ends
    with pytest.raises(Stop):
        unpack_apart(tmp_path / "archive", out, stop)
    assert unpacked(out) == {}
