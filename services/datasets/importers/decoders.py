"""A few decoder processes, and what becomes of a file that kills one.

A file that ends its process, or takes too long, is tried once more in a new one, for the process
may have died of something else; then that file, and no other, is unreadable.
"""

import json
import os
import queue
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from api_schemas.datasets import RejectionCode
from api_schemas.provenance import ImageOrigin
from services.datasets.importers.source import Header, Picture, Preparation, Unreadable

WALL_S = 300.0
"""Against files that never end, as on a share that is away; processor time has its own limit."""
LINE_LIMIT = 1 << 16
ANSWER_LIMIT = 1 << 26
BLOCK = 1 << 18
CODE = Path(__file__).parents[3]
INHERITED = ("PATH", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""Nothing else of the environment reaches a decoder: secrets least of all."""
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""A decoder uses the same large blocks for every file. Given back to the kernel in between, they
cost as much in page faults as the decoding itself. (glibc's names; others ignore them.)
"""
KILLERS = Unreadable("the image crashed its decoder, or needed too much memory or time")

Request = Mapping[str, Any]


def environment() -> dict[str, str]:
    """Of a process that opens what strangers wrote."""
    told = {name: os.environ[name] for name in INHERITED if name in os.environ}
    told |= {"PYTHONPATH": str(CODE), "OMP_NUM_THREADS": "1", **KEEP_MEMORY}
    return told | {"OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


class _Died(Exception):
    """The process ended, or was ended, before it had answered."""


class _Decoder:
    """One process; started when it is first asked, and again after it has died."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Request) -> tuple[dict[str, Any], bytes]:
        """Raises `_Died`."""
        process = self._process or self._start()
        if process.stdin is None or process.stdout is None:
            raise _Died
        try:
            process.stdin.write(json.dumps(dict(request)).encode() + b"\n")
            return _receive(process.stdout.fileno(), time.monotonic() + WALL_S)
        except (_Died, OSError, ValueError) as error:
            self.end()
            raise _Died from error

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what a decoder says of a patient's file is nobody's
            env=environment(),
            bufsize=0,
        )
        return self._process

    def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


class DecoderPool:
    """As many decoders as are asked for, each one file at a time."""

    def __init__(
        self,
        count: int,
        command: Sequence[str] = (sys.executable, "-m", "services.datasets.importers.decoder"),
    ) -> None:
        decoders = [_Decoder(command) for _ in range(count)]
        self._idle: queue.LifoQueue[_Decoder] = queue.LifoQueue()
        for decoder in decoders:
            self._idle.put(decoder)
        self._threads = ThreadPoolExecutor(count, "decoder")
        self.close = weakref.finalize(self, _close, self._threads, decoders)

    def pictures(
        self, paths: Sequence[Path | Unreadable], how: Preparation
    ) -> Iterator[Picture | Unreadable]:
        asked = {"what": "picture", "size_px": how.size_px, "resize": how.resize}

        def one(path: Path | Unreadable) -> Picture | Unreadable:
            if isinstance(path, Unreadable):
                return path
            told = self._ask({**asked, "path": str(path)})
            if isinstance(told, Unreadable):
                return told
            about, content = told
            return Picture(
                content,
                about["pixel_sha256"],
                bytes.fromhex(about["descriptor"]),
                tuple(about["notes"]),
                about["origin"] and ImageOrigin.model_validate(about["origin"]),
            )

        return self._threads.map(one, paths)

    def headers(self, paths: Sequence[Path]) -> Iterator[Header | Unreadable]:
        def one(path: Path) -> Header | Unreadable:
            told = self._ask({"what": "header", "path": str(path)})
            return told if isinstance(told, Unreadable) else told[0]["header"]

        return self._threads.map(one, paths)

    def _ask(self, request: Request) -> tuple[dict[str, Any], bytes] | Unreadable:
        decoder = self._idle.get()
        try:
            for _ in range(2):
                try:
                    about, content = decoder.ask(request)
                except _Died:
                    continue
                if "unreadable" in about:
                    return Unreadable(about["unreadable"], RejectionCode(about["code"]))
                return about, content
            return KILLERS
        finally:
            self._idle.put(decoder)


def _close(threads: ThreadPoolExecutor, decoders: Sequence[_Decoder]) -> None:
    threads.shutdown(cancel_futures=True)
    for decoder in decoders:
        decoder.end()


def _receive(pipe: int, deadline: float) -> tuple[dict[str, Any], bytes]:
    """A line of JSON and the bytes that it announces; raises `_Died` at the end of either."""
    received = bytearray()
    while b"\n" not in received:
        received += _read(pipe, deadline)
        if len(received) > ANSWER_LIMIT:
            raise _Died
    line, _, rest = bytes(received).partition(b"\n")
    about = json.loads(line)
    content = bytearray(rest)
    while len(content) < min(about.get("bytes", 0), ANSWER_LIMIT):
        content += _read(pipe, deadline)
    return about, bytes(content)


def _read(pipe: int, deadline: float) -> bytes:
    ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
    block = os.read(pipe, BLOCK) if ready else b""
    if not block:
        raise _Died
    return block
