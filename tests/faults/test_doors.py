"""Rows 49 to 52: crowds at the door. Whoever only looks is answered throughout.

How quickly is printed (`-s`), and not asserted: it depends on the machine.
"""

import asyncio
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Member
from tests.faults.floods import LIMIT_S, Bystander, at_once, connected, head, memory_mib, status_of
from tests.gateway import conftest as gateway
from tests.gateway.everything import accepted_request, address, operations, things_of

MOST_MIB = 700
POOL = 40
SIZE = 63 << 20
PART = 1 << 16
http, run, study = gateway.http, gateway.run, gateway.study


@pytest.fixture
def adapters(house):
    return house.adapters


@pytest.fixture
def ada(house) -> Member:
    return Member(house.key, house.caller)


def parts(part: bytes) -> Iterator[bytes]:
    for _ in range(SIZE // PART):
        yield part * (PART // len(part))


def chunks(part: bytes) -> Iterator[bytes]:
    for each in parts(part):
        yield f"{len(each):x}\r\n".encode() + each + b"\r\n"
    yield b"0\r\n\r\n"


JSON, FORM = "application/json", "multipart/form-data; boundary=b"
BODIES = {
    "nested JSON": (JSON, lambda: parts(b"[[]],")),
    "JSON without a length": (JSON, lambda: chunks(b'{"a":')),
    "a form": (FORM, lambda: parts(b"--b\r\n\r\n\r\n")),
    "a form without a length": (FORM, lambda: chunks(b"--b\r\n\r\n\r\n")),
}


@pytest.mark.parametrize("known", [False, True])
def test_row_49_large_bodies_are_refused_before_they_are_read(house, known: bool) -> None:
    """Of somebody unknown, and of somebody known who sends more than the route takes."""
    url, process = house.gateway()
    paths = ["/experiments", "/keys", "/overlaps", "/evaluations" if not known else "/exports"]

    async def send_all() -> list[int]:
        sends = []
        for (name, (kind, body)), path in zip(BODIES.items(), paths, strict=True):
            length = {"Transfer-Encoding": "chunked"} if "without" in name else {}
            length = length or {"Content-Length": str(SIZE)}
            who = {"Authorization": f"Bearer {house.key}"} if known else {}
            start = head("POST", path, {"Content-Type": kind, **length, **who})
            sends.append(status_of(url, start, body))
        return await asyncio.gather(*sends)

    with Bystander(f"{url}/health", {}) as bystander:
        statuses = asyncio.run(send_all())
    assert set(statuses) == {413 if known else 401}
    assert bystander.statuses == {200}
    assert memory_mib(process.pid) < MOST_MIB
    report("row 49", bystander, process.pid)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_row_50_a_flood_of_every_post(house, http, run, study, ada) -> None:
    """With one Idempotency-Key one thing is made, with none as many as requests were accepted;
    at worst somebody is told to come again.
    """
    things = things_of(http, run, study)
    url, process = house.gateway()
    headers = {"Authorization": f"Bearer {house.key}"}
    posts = [each for each in operations(http.app) if each[0] == "POST"]
    for _, path, operation in posts:
        place, request = address(path, things), accepted_request(http.app, path, operation, things)
        for key in ({"Idempotency-Key": str(uuid4())}, {}):
            before = count(house)
            with Bystander(f"{url}/me", headers) as bystander:
                answers = at_once(
                    url, [("POST", place, request | {"headers": key})] * (3 * POOL), headers
                )
            told = {(a.status, a.text[:300]) for a in answers if a.status >= 400}
            statuses = {a.status for a in answers}
            assert statuses != {503}, (path, told)
            assert all(s < 500 or s == 503 for s in statuses), (path, told)
            assert path not in MAKING or statuses & {201, 202}, (path, told)
            assert all("Retry-After" in a.headers for a in answers if a.status == 503), path
            assert bystander.statuses == {200}, path
            if key and path in MAKING:
                assert count(house) - before == 1, (path, statuses)
            elif path in MAKING:
                made = sum(a.status in {201, 202} for a in answers)
                assert count(house) - before == made, (path, statuses)
            slowest = max(a.seconds for a in answers)
            report(
                f"row 50 {path} {'one key' if key else 'no key'}: {statuses}, {slowest:.1f} s",
                bystander,
                process.pid,
            )
            end_all_jobs(house)
    assert memory_mib(process.pid) < MOST_MIB


MAKING = {
    *("/datasets", "/datasets/{dataset}/views", "/generators", "/generate", "/experiments"),
    *("/overlaps", "/qualities", "/exports", "/scorings", "/evaluations", "/features"),
    "/generators/import",
}
"""Routes whose requests each make a resource."""


def count(house) -> int:
    """An experiment registers its plan too."""
    (row,) = house.query("SELECT count(*) FROM jobs.resources WHERE kind <> 'plan'")
    return row[0]


def end_all_jobs(house) -> None:
    """Nobody may have more than a thousand unfinished."""
    house.execute(
        "UPDATE jobs.slices SET state = 'cancelled', finished_at = now() WHERE state = 'queued'",
        "UPDATE jobs.jobs SET state = 'cancelled', finished_at = now() WHERE finished_at IS NULL",
    )


def test_row_51_three_hundred_streams_and_twenty_clients(house) -> None:
    url, process = house.gateway()
    job = house.submit({}, {})
    key = {"Authorization": f"Bearer {house.key}"}
    streams, asked = 300, 10

    async def follow(opened: asyncio.Semaphore, over: list[bytes]) -> None:
        async with connected(url) as (reader, writer):
            writer.write(head("GET", f"/jobs/{job}/events", key))
            told = b""
            while b'"queued"' not in told:
                told += await asyncio.wait_for(reader.read(PART), LIMIT_S)
            opened.release()
            while not told.endswith(b"0\r\n\r\n"):
                told += await asyncio.wait_for(reader.read(PART), LIMIT_S)
            over.append(told)

    async def all_of_it() -> tuple[float, list[bytes]]:
        opened, over = asyncio.Semaphore(0), []
        following = [asyncio.create_task(follow(opened, over)) for _ in range(streams)]
        for _ in range(streams):
            await asyncio.wait_for(opened.acquire(), LIMIT_S)
        loop = asyncio.get_running_loop()
        began = loop.time()
        requests = [("GET", "/me", {})] * 20
        for _ in range(asked):
            answers = await asyncio.to_thread(at_once, url, requests, key)
            assert {a.status for a in answers} == {200}
        rate = 20 * asked / (loop.time() - began)
        with house.adapters.db.transaction() as tx:
            house.adapters.jobs.cancel(tx, job)
        await asyncio.gather(*following)
        return rate, over

    rate, over = asyncio.run(all_of_it())
    assert len(over) == streams
    assert all(b'"cancelled"' in told for told in over)
    sys.stdout.write(f"row 51: {rate:.0f} requests/s, {memory_mib(process.pid):.0f} MiB\n")


def test_row_52_slow_and_idle_clients_hold_nobody_up(house) -> None:
    """Bodies that never end, answers that nobody reads, and connections that say nothing."""
    url, process = house.gateway()
    key = {"Authorization": f"Bearer {house.key}"}
    slow = head("POST", "/overlaps", {**key, "Content-Type": JSON, "Content-Length": "100"})
    form = head("POST", "/evaluations", {**key, "Content-Type": FORM, "Content-Length": "100"})
    unread = head("GET", "/openapi.json", {}) * 20

    async def crowd() -> None:
        opened = []
        try:
            for start in (
                [slow + b"{"] * 100 + [form + b"--b"] * 100 + [unread] * 100 + [b""] * 1000
            ):
                context = connected(url)
                _, writer = await context.__aenter__()
                opened.append(context)
                writer.write(start)
            answers = await asyncio.to_thread(at_once, url, [("GET", "/me", {})] * 20, key)
            assert {a.status for a in answers} == {200}
            made = {"name": "k", "scopes": ["read"]}
            posts = [("POST", "/keys", {"json": made})] * 20
            answers = await asyncio.to_thread(at_once, url, posts, key)
            assert {a.status for a in answers} == {201}
        finally:
            for context in opened:
                await context.__aexit__(None, None, None)

    with Bystander(f"{url}/me", key) as bystander:
        asyncio.run(crowd())
    assert bystander.statuses == {200}
    assert memory_mib(process.pid) < MOST_MIB
    report("row 52", bystander, process.pid)


def test_a_full_disk_is_said_and_nothing_is_kept(house, small_disk) -> None:
    """An archive and a table that find no space are a 507; with room again both are taken."""
    scratch = small_disk("400k")
    url, process = house.gateway(scratch=scratch)
    table = "id,patient_id,truth_Edema,score_Edema\n"
    table += "".join(f"i{n},p{n},{n % 2},{n % 7}\n" for n in range(60_000))
    posts: dict[str, dict[str, Any]] = {
        "/uploads": {"content": table.encode()},
        "/evaluations": {"data": {"name": "e"}, "files": {"file": table.encode()}},
    }
    with house.http(url) as suite:
        for path, request in posts.items():
            answer = suite.post(path, **request)
            assert answer.status_code == 507, answer.text
            assert answer.json()["type"].endswith("storage-full")
            assert "Retry-After" in answer.headers
        assert suite.get("/me").status_code == 200
        assert list(scratch.iterdir()) == []
        small_disk("64m")
        assert {suite.post(path, **request).status_code for path, request in posts.items()} == {
            201,
            202,
        }
    assert process.lives


def report(what: str, bystander: Bystander, pid: int) -> None:
    sys.stdout.write(
        f"{what}; {len(bystander.answers)} looks, the slowest {bystander.slowest_s:.2f} s; "
        f"{memory_mib(pid):.0f} MiB\n"
    )
