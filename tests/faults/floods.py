"""Clients that come in crowds, and one who only wants to know whether somebody answers."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import httpx2
import psutil

LIMIT_S = 120.0
"""How long an answer is waited for: far above what an idle machine needs."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    seconds: float
    text: str = ""


@dataclass
class Bystander:
    """Asks for one address all the time; afterwards `answers` says how that went."""

    url: str
    headers: Mapping[str, str]
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx2.Client(headers=dict(self.headers), timeout=LIMIT_S) as http:
            while not self._over.is_set() or not self.answers:
                began = time.perf_counter()
                answer = http.get(self.url)
                took = time.perf_counter() - began
                self.answers.append(Answer(answer.status_code, answer.headers, took))
                self._over.wait(0.05)

    @property
    def slowest_s(self) -> float:
        return max(each.seconds for each in self.answers)

    @property
    def statuses(self) -> set[int]:
        return {each.status for each in self.answers}


def memory_mib(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 2**20


def at_once(
    url: str, requests: Sequence[tuple[str, str, dict[str, Any]]], headers: Mapping[str, str]
) -> list[Answer]:
    """The answers to requests (verb, path, what httpx takes) that are all sent at once."""

    async def send_all() -> list[Answer]:
        limits = httpx2.Limits(max_connections=len(requests))
        async with httpx2.AsyncClient(
            base_url=url, headers=dict(headers), timeout=LIMIT_S, limits=limits
        ) as http:

            async def send(verb: str, path: str, more: dict[str, Any]) -> Answer:
                began = time.perf_counter()
                answer = await http.request(verb, path, **more)
                took = time.perf_counter() - began
                return Answer(answer.status_code, answer.headers, took, answer.text)

            return await asyncio.gather(*(send(*each) for each in requests))

    return asyncio.run(send_all())


@asynccontextmanager
async def connected(
    url: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        yield reader, writer
    finally:
        writer.close()


def head(verb: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{verb} {path} HTTP/1.1", "Host: suite", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def status_of(url: str, start: bytes, body: Callable[[], Iterable[bytes]]) -> int:
    """The status of the answer to a body that is sent until the server no longer takes it."""
    async with connected(url) as (reader, writer):
        line = asyncio.ensure_future(reader.readline())
        writer.write(start)
        try:
            for part in body():
                writer.write(part)
                await asyncio.wait_for(writer.drain(), LIMIT_S)
                if line.done():
                    break
            return int((await asyncio.wait_for(line, LIMIT_S)).split()[1])
        except ConnectionError:
            return int((await line).split()[1])
