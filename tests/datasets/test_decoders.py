"""Files that crash, swallow memory or never end take themselves down and nothing else."""

import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from services.datasets.importers import decoders
from services.datasets.importers.decoder import MEMORY_BYTES
from services.datasets.importers.decoders import KILLERS, DecoderPool
from services.datasets.importers.images import pixel_digest
from services.datasets.importers.source import Picture, Preparation, Unreadable
from tests.datasets import trees
from tests.datasets.reading import pixels

HOW = Preparation(32, "paper")

# A decoder that does as its file says; everything else is the real one.
PUPPET = """
import os, signal, sys, time
from pathlib import Path
from services.datasets.importers import decoder
real = decoder._answer
def answer(request):
    path = Path(request["path"])
    order = path.read_bytes()
    if order == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if order == b"crash once" and not path.with_suffix(".tried").exists():
        os.link(path, path.with_suffix(".tried"))
        os.kill(os.getpid(), signal.SIGKILL)
    if order == b"memory":
        bytearray(decoder.MEMORY_BYTES)
    if order == b"environment":
        return decoder.Unreadable(" ".join(sorted(os.environ)))
    if order == b"write":
        path.with_suffix(".written").write_text("x")
    if order == b"spin":
        while True:
            pass
    if order == b"hang":
        time.sleep(10_000)
    if order == b"print":
        print("noise")
    return real(request)
decoder._answer = answer
decoder.CPU_S = 1
decoder.main()
"""


@pytest.fixture
def pool() -> Iterator[Callable[..., DecoderPool]]:
    made: list[DecoderPool] = []

    def make(count: int = 2, command: Sequence[str] | None = None) -> DecoderPool:
        made.append(DecoderPool(count, command) if command else DecoderPool(count))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def puppets(pool: Callable[..., DecoderPool]) -> DecoderPool:
    return pool(2, (sys.executable, "-c", PUPPET))


def picture(path: Path, seed: int = 1) -> Path:
    trees.save(path, trees.phantoms(1, seed=seed)[0])
    return path


def order(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_answers_come_in_the_order_asked(pool: Callable[..., DecoderPool], tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{n}.png", seed=n + 1) for n in range(12)]
    several = list(pool(3).pictures(paths, HOW))
    alone = list(pool(1).pictures(paths, HOW))
    assert several == alone
    assert len({p.pixel_sha256 for p in several if isinstance(p, Picture)}) == 12
    for each in several:
        assert isinstance(each, Picture)
        assert pixel_digest(pixels(each)) == each.pixel_sha256


def test_what_is_unreadable_already_is_not_opened(pool: Callable[..., DecoderPool]) -> None:
    gone = Unreadable("gone")
    assert list(pool().pictures([gone], HOW)) == [gone]
    (missing,) = pool().pictures([Path("/no/such/file")], HOW)
    assert missing == Unreadable("the file cannot be read")


@pytest.mark.parametrize("evil", ["crash", "spin"])
def test_a_file_that_kills_its_decoder_takes_only_itself(
    puppets: DecoderPool, tmp_path: Path, evil: str
) -> None:
    good = [picture(tmp_path / f"{n}.png") for n in range(6)]
    paths = [*good[:3], order(tmp_path / "evil", evil), *good[3:]]
    found = list(puppets.pictures(paths, HOW))
    assert found.pop(3) == KILLERS
    assert all(isinstance(each, Picture) for each in found)


def test_a_decoder_that_died_of_something_else_is_asked_again(
    puppets: DecoderPool, tmp_path: Path
) -> None:
    (found,) = puppets.pictures([order(tmp_path / "x", "crash once")], HOW)
    assert found == Unreadable("the image does not decode as PNG or JPEG")
    assert (tmp_path / "x.tried").exists()


def test_a_file_that_never_ends_is_given_up(
    puppets: DecoderPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = picture(tmp_path / "warm.png")
    assert isinstance(next(puppets.pictures([warm], HOW)), Picture)
    monkeypatch.setattr(decoders, "WALL_S", 3.0)
    (found,) = puppets.pictures([order(tmp_path / "x", "hang")], HOW)
    assert found == KILLERS


def test_memory_is_limited_and_no_file_can_be_written(puppets: DecoderPool, tmp_path: Path) -> None:
    paths = [order(tmp_path / "m", "memory"), order(tmp_path / "w", "write")]
    assert list(puppets.pictures(paths, HOW)) == [KILLERS, KILLERS]
    written = tmp_path / "w.written"
    assert not written.exists() or not written.stat().st_size


def test_noise_of_a_library_does_not_disturb_the_answers(
    puppets: DecoderPool, tmp_path: Path
) -> None:
    paths = [order(tmp_path / "n", "print"), picture(tmp_path / "p.png")]
    noisy, good = puppets.pictures(paths, HOW)
    assert isinstance(noisy, Unreadable)
    assert isinstance(good, Picture)


def test_no_secret_reaches_a_decoder(
    puppets: DecoderPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHORAX_DATABASE_URL", "secret")
    (told,) = puppets.pictures([order(tmp_path / "e", "environment")], HOW)
    assert isinstance(told, Unreadable)
    assert "SYNTHORAX" not in told.reason
    assert "PYTHONPATH" in told.reason


def test_closing_ends_the_processes(pool: Callable[..., DecoderPool], tmp_path: Path) -> None:
    ours = psutil.Process()
    before = set(ours.children())
    decoders = pool(2)
    list(decoders.pictures([picture(tmp_path / f"{n}.png") for n in range(8)], HOW))
    started = set(ours.children()) - before
    assert started
    decoders.close()
    assert not [each for each in started if each.is_running()]


def huge_png(side: int) -> bytes:
    """The head of a picture of `side` by `side` pixels, and some of its data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(50_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data)


def text_bomb(path: Path) -> bytes:
    """A small picture with a text that unpacks to 200 MB."""
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(path, "PNG")
    plain = path.read_bytes()
    text = b"k\0\0" + zlib.compress(bytes(200_000_000), 9)
    body = b"zTXt" + text
    chunk = struct.pack(">I", len(text)) + body + struct.pack(">I", zlib.crc32(body))
    at = plain.index(b"IDAT") - 4
    return plain[:at] + chunk + plain[at:]


def test_bombs_are_refused_in_little_memory(
    pool: Callable[..., DecoderPool], tmp_path: Path
) -> None:
    contents = {"huge.png": huge_png(50_000), "text.png": text_bomb(tmp_path / "t.png")}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    decoders = pool(1)
    before = set(psutil.Process().children())
    found = list(decoders.pictures([tmp_path / name for name in contents], HOW))
    (process,) = set(psutil.Process().children()) - before
    assert all(isinstance(each, Unreadable) for each in found)
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    assert peak_kib < 300 * 1024
    assert peak_kib * 1024 < MEMORY_BYTES


def test_pipes_and_links_are_not_opened(pool: Callable[..., DecoderPool], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(picture(tmp_path / "p.png"))
    found = list(pool().pictures([tmp_path / "pipe", tmp_path / "link", tmp_path], HOW))
    assert found == [Unreadable("the file cannot be read")] * 3
