"""A TCP proxy that misbehaves when told to: between a process and one of its servers."""

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

CHUNK = 64 * 1024
HEAD_END = b"\r\n\r\n"
ANSWER_503 = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Trap:
    """Cut the connection on which `first` and then `then` were sent by the client.

    `delivered` says whether the server gets `then`; its answer never reaches the client.
    """

    first: bytes
    then: bytes
    delivered: bool
    sprung: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class _Line:
    """One connection: both of its ends, and what its client has sent so far."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    armed: bool = False
    springing: bool = False
    reading: bool = False

    def cut(self) -> None:
        for end in (self.client, self.server):
            end.transport.abort()


class Proxy:
    """Forwards to `target`; `cut`, `refuse`, `stall`, `answer_503`, `truncate`, `heal`.

    Does not know what it forwards, HTTP's outermost form aside.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        """`target` gives the server's port, which may have moved since it was restarted."""
        self._target = target
        self._lines: set[_Line] = set()
        self._refusing = False
        self._busy = False
        self._truncating = False
        self._trap: Trap | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._flowing = self._do(_event())
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset every connection there is; new ones are served."""
        self._do(self._cut())

    def refuse(self) -> None:
        """Reset what there is and whatever comes."""
        self._refusing = True
        self.cut()

    def stall(self) -> None:
        """Accept everything and pass nothing on: a partition without an error."""
        self._do(self._set_flowing(flows=False))

    def answer_503(self) -> None:
        """Answer every HTTP request with 503."""
        self._busy = True
        self.cut()

    def truncate(self) -> None:
        """Break off the body of every answer to a GET half way."""
        self._truncating = True

    def trap(self, first: bytes, then: bytes, *, delivered: bool) -> Trap:
        """Set a `Trap` for the next connection that walks into it."""
        self._trap = Trap(first, then, delivered)
        return self._trap

    def heal(self) -> None:
        """Forward again; connections that were stalled go on where they stopped."""
        self._refusing = self._busy = self._truncating = False
        self._trap = None
        self._do(self._set_flowing(flows=True))

    def beyond(self, ports: set[int]) -> set[int]:
        """The ports under which the server knows the clients that come from `ports`."""
        return {
            line.server.get_extra_info("sockname")[1]
            for line in list(self._lines)
            if line.client.get_extra_info("peername")[1] in ports
        }

    def close(self) -> None:
        self._server.close()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ------------------------------------------------------------ in the thread

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _cut(self) -> None:
        for line in list(self._lines):
            line.cut()

    async def _set_flowing(self, *, flows: bool) -> None:
        if flows:
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        if self._busy:
            await _answer(reader, writer)
            return
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target())
        except OSError:
            writer.transport.abort()
            return
        line = _Line(writer, there[1])
        self._lines.add(line)
        try:
            await asyncio.gather(self._up(line, reader), self._down(line, there[0]))
        finally:
            line.cut()
            self._lines.discard(line)

    async def _up(self, line: _Line, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                await self._flowing.wait()
                line.reading = chunk.startswith(b"GET ")
                if not self._springs(line, chunk):
                    line.server.write(chunk)
                    await line.server.drain()
        line.server.transport.abort()

    def _springs(self, line: _Line, chunk: bytes) -> bool:
        """Whether the trap closes on this chunk and keeps it from the server."""
        trap = self._trap
        if trap is None:
            return False
        line.armed = line.armed or trap.first in chunk
        if not line.armed or trap.then not in chunk:
            return False
        self._trap = None
        if trap.delivered:
            line.springing = True  # cut when the server has answered
            line.server.write(chunk)
        else:
            line.cut()
        trap.sprung.set()
        return True

    async def _down(self, line: _Line, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                await self._flowing.wait()
                if line.springing:
                    break
                if self._truncating and line.reading:
                    line.client.write(_half(chunk))
                    await line.client.drain()
                    break
                line.client.write(chunk)
                await line.client.drain()
        if line.springing:
            line.cut()
        else:
            line.client.close()


async def _event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take one request to its end, so that the client has sent it all, and be busy."""
    with suppress(OSError, asyncio.IncompleteReadError):
        head = await reader.readuntil(HEAD_END)
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if length is not None:
            await reader.readexactly(int(length[1]))
        writer.write(ANSWER_503)
        await writer.drain()
    writer.close()


def _half(chunk: bytes) -> bytes:
    """The head of an answer and half of what is there of its body."""
    head, end, body = chunk.partition(HEAD_END)
    return head + end + body[: len(body) // 2]
