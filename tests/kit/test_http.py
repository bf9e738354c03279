"""Idempotency keys, event streams and problems over HTTP, against the real database."""

import io
import json
import logging as standard_logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest
from fastapi import APIRouter
from fastapi.sse import EventSourceResponse
from sqlalchemy import text

from api_schemas.base import JobEvent, JobView, Name, Wire
from services.kit import logging
from services.kit.auth import Reader, Writer
from services.kit.http import BODY_LIMIT, Events, IdempotencyHeader, once
from services.kit.jobs import NewJob

JSON = {"Content-Type": "application/json"}


class Order(Wire):
    name: Name


@pytest.fixture
def kitchen(adapters) -> APIRouter:
    """A little service: every order is a job."""
    router = APIRouter()

    @router.post("/orders", status_code=202)
    def post(body: Order, caller: Writer, key: IdempotencyHeader = None) -> JobView:
        def make() -> UUID:
            job = NewJob("stub", "stub", "stub", caller, uuid4(), {"name": body.name}, [{}])
            return adapters.jobs.submit(tx, job)

        with adapters.db.transaction() as tx:
            return adapters.jobs.view(tx, once(tx, caller, key, body, make))

    @router.get("/orders/{job}/events", response_class=EventSourceResponse)
    async def events(job: UUID, caller: Reader, events: Events):
        async for event in events.of(job):
            yield event

    @router.get("/bug")
    def bug() -> None:
        raise RuntimeError("the patient's name is Mary")

    return router


def count_jobs(adapters) -> int:
    with adapters.db.transaction() as tx:
        return tx.session.scalar(text("SELECT count(*) FROM jobs.jobs"))


def test_fifty_parallel_posts_with_one_key_make_one_job(adapters, browse, kitchen, ada) -> None:
    """In one process each waits for the one before, and gets the same answer."""
    with browse(kitchen, member=ada) as http:
        answers = post_at_once(http)
    assert {a.status_code for a in answers} == {202}
    assert len({a.json()["id"] for a in answers}) == 1
    assert count_jobs(adapters) == 1


def test_nobody_waits_for_the_same_key_in_another_process(adapters, browse, kitchen, ada) -> None:
    """A client that is not entered gives every request an event loop of its own, as if it were
    answered by a process of its own.
    """
    answers = post_at_once(browse(kitchen, member=ada))
    made = {a.json()["id"] for a in answers if a.status_code == 202}
    assert len(made) == count_jobs(adapters) == 1
    for answer in answers:
        if answer.status_code != 202:
            assert answer.status_code == 409
            assert answer.json()["type"].endswith("idempotency-key-in-use")
            assert answer.headers["Retry-After"] == "1"


def post_at_once(http) -> list[Any]:
    def post(_: int):
        return http.post("/orders", json={"name": "soup"}, headers={"Idempotency-Key": "one"})

    with ThreadPoolExecutor(10) as pool:
        return list(pool.map(post, range(50)))


def test_the_same_key_with_another_body_is_refused(browse, kitchen, ada, enrol) -> None:
    http = browse(kitchen, member=ada)
    key = {"Idempotency-Key": "one"}
    assert http.post("/orders", json={"name": "soup"}, headers=key).status_code == 202
    answer = http.post("/orders", json={"name": "cake"}, headers=key)
    assert answer.status_code == 422
    assert answer.json()["field"] == "Idempotency-Key"
    other = browse(kitchen, member=enrol("bob"))
    assert other.post("/orders", json={"name": "cake"}, headers=key).status_code == 202


def test_events_stream_until_the_job_ends(browse, kitchen, ada, work) -> None:
    http = browse(kitchen, member=ada)
    job = http.post("/orders", json={"name": "soup"}).json()["id"]

    def handler(lease) -> None:
        for n in range(3):
            lease.progress(n + 1, 3, "spoons")
            lease.beat()
        with lease.finishing():
            pass

    worker = threading.Timer(0.5, work, ("stub", "stub", {"stub": handler}))
    worker.start()
    with http.stream("GET", f"/orders/{job}/events") as stream:
        lines = [line for line in stream.iter_lines() if line.startswith("data:")]
    worker.join()
    events = [JobEvent.model_validate_json(line[5:]) for line in lines]
    assert [e.state for e in events if e.kind == "state"] == ["queued", "running", "succeeded"]
    assert [e.done for e in events if e.kind == "progress"] == [1, 2, 3]
    assert [e.id for e in events] == sorted({e.id for e in events})


def test_a_stream_ends_when_its_key_is_revoked(adapters, browse, kitchen, ada, enrol) -> None:
    """Within seconds, though its job goes on; a mistyped number of an event begins at the first."""
    http = browse(kitchen, member=ada)
    job = http.post("/orders", json={"name": "soup"}).json()["id"]

    def revoke() -> None:
        with adapters.db.transaction() as tx:
            tx.session.execute(text("UPDATE accounts.keys SET revoked_at = now()"))

    later = threading.Timer(1, revoke)
    later.start()
    with http.stream("GET", f"/orders/{job}/events", headers={"Last-Event-ID": b"\xb2"}) as stream:
        lines = [line for line in stream.iter_lines() if line.startswith("data:")]
    later.join()
    assert [JobEvent.model_validate_json(line[5:]).state for line in lines] == ["queued"]
    assert http.get(f"/orders/{job}/events").status_code == 401


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """What has been logged so far, as a process of ours logs."""
    root = standard_logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logging.configure("INFO")
    (handler,) = root.handlers
    assert isinstance(handler, standard_logging.StreamHandler)
    handler.setStream(io.StringIO())
    yield handler.stream.getvalue
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_log_says_where_and_never_what(browse, kitchen, ada, logged) -> None:
    """Neither our lines nor the server's, which logs the exception that went through ours."""
    who = "Mary Miller"
    browse(kitchen, member=ada).get("/bug")
    try:
        try:
            int(who)
        except ValueError as error:
            raise LookupError(who) from error
    except LookupError:
        standard_logging.getLogger("uvicorn.error").exception("in the server")
        logging.get_logger("ours").exception("ours")
    first, *lines = map(json.loads, logged().splitlines())
    assert first["error"] == "RuntimeError"
    for line in lines:
        assert "LookupError" in line["exception"]
        assert "ValueError" in line["exception"]
        assert line["exception"].count("test_a_log_says_where_and_never_what") == 2
    assert len(lines) == 2
    assert who not in f"{first}{lines}"


def test_every_answer_says_that_nothing_is_kept_or_run(browse, kitchen, ada) -> None:
    for path in ("/bug", "/nowhere", "/openapi.json", "/docs"):
        answer = browse(kitchen, member=ada).get(path)
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "access-control-allow-origin" not in answer.headers


def test_a_body_without_end_is_not_read(browse, kitchen, ada) -> None:
    """Of somebody unknown nothing is read, of somebody known no more than the route takes."""
    key = (b"authorization", ada.headers["Authorization"].encode())
    for headers, status, most in (([], 401, 0), ([key], 413, BODY_LIMIT + (1 << 20))):
        answered, taken = send_without_end(browse(kitchen).app, headers)
        assert answered[0]["status"] == status
        assert dict(answered[0]["headers"])[b"content-type"] == b"application/problem+json"
        assert taken <= most


def send_without_end(app, headers) -> tuple[list[dict[str, Any]], int]:
    """What is answered to a body that goes on, and how many bytes were taken of it."""
    taken, answered = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1 << 20
        return {"type": "http.request", "body": b" " * (1 << 20), "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/orders",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *headers],
    }
    anyio.run(app, scope, receive, send)
    return answered, taken


def test_a_length_that_is_too_large_is_refused_before_anything_is_read(browse, kitchen, ada):
    http = browse(kitchen, member=ada)
    answer = http.post("/orders", content=b" " * (BODY_LIMIT + 1), headers=JSON)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("too-large")


def test_a_body_of_very_many_values_is_refused_before_it_is_parsed(browse, kitchen, ada) -> None:
    http = browse(kitchen, member=ada)
    for part in ("1", "{}", "[]", '"a"'):
        content = '{"name": [' + ",".join([part] * 200_000) + "]}"
        answer = http.post("/orders", content=content, headers=JSON)
        assert answer.status_code == 413, part
        assert answer.json()["type"].endswith("too-large")
    commas = http.post("/orders", json={"name": "soup" + "," * 100})
    assert commas.status_code == 202


def test_what_cannot_be_stored_is_the_senders_fault(browse, kitchen, ada) -> None:
    http = browse(kitchen, member=ada)
    for name in ("a\x00b", "\ud800"):
        content = json.dumps({"name": name})
        answer = http.post("/orders", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, name
    for brackets in (20_000, 100_000):
        answer = http.post("/orders", content="[" * brackets, headers=JSON)
        assert answer.status_code in {400, 413}
        assert answer.headers["content-type"] == "application/problem+json"
    for content_type in ("application/json", "text/plain", ""):
        answer = http.post("/orders", content=b"", headers={"Content-Type": content_type})
        assert answer.status_code == 422, content_type
        answer = http.post("/orders", content=b"soup", headers={"Content-Type": content_type})
        assert answer.status_code == 422, content_type


def test_a_bug_tells_the_client_nothing(browse, kitchen, ada) -> None:
    answer = browse(kitchen, member=ada).get("/bug")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Mary" not in answer.text


@pytest.mark.parametrize("field", ["name", "more.0.x", "more.name"])
def test_what_no_database_keeps_is_refused_with_its_place(browse, kitchen, ada, field) -> None:
    http = browse(kitchen, member=ada)
    for bad in (r'"a\u0000b"', r'"\ud800"', "NaN", "-Infinity", "1e999"):
        body = {
            "name": f'{{"name": {bad}}}',
            "more.0.x": f'{{"name": "soup", "more": [{{"x": {bad}}}]}}',
            "more.name": f'{{"name": "soup", "more": {{"a\\u0000": {bad}}}}}',
        }[field]
        answer = http.post("/orders", content=body, headers={"Content-Type": "application/json"})
        problem = answer.json()
        assert (answer.status_code, problem["field"]) == (422, field), (bad, problem)
        assert problem["type"].endswith("cannot-be-kept")
    assert http.get("/orders/x/events?since=a%00").json()["field"] == "since"
    deep = "[" * 900 + "]" * 900
    answer = http.post(
        "/orders",
        content=f'{{"name": "soup", "more": {deep}}}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422
