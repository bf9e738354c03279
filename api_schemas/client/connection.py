"""One connection to a deployment: how it asks, how it pages, how it hears of events."""

import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2
from pydantic import TypeAdapter, ValidationError

from api_schemas.base import DeletionView, JobEvent, JobState, JobView, Page, Problem, Wire

RECONNECTS = 5
"""How often in a row a broken stream of events is taken up again."""

UPLOAD_TIMEOUT = httpx2.Timeout(600, connect=5)
"""The answer to a large file comes when it has been put away."""

T = TypeVar("T")


class ProblemRaised(Exception):
    """The service answered with a problem document."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title}: {problem.detail or ''} ({problem.status})")
        self.problem = problem


class JobDidNotSucceed(Exception):
    """A job that was waited for ended otherwise."""

    def __init__(self, job: JobView) -> None:
        why = job.problem.detail if job.problem else ""
        super().__init__(f"the {job.kind} job has {job.state}. {why}")
        self.job = job


class Connection:
    """Speaks to a Synthorax deployment at `url`, with a person's `key` or ready `headers`.

    Raises `ProblemRaised` for every error answer and `httpx2.TransportError` when nobody answers;
    a `RestartTransport` asks again for a while.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        own = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx2.Client(
            base_url=url,
            headers={**own, **(headers or {})},
            timeout=httpx2.Timeout(60, connect=5),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; leaving a `with` block does."""
        self._http.close()

    def _ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        response = self._http.request(method, path, **more)
        if response.is_error:
            raise ProblemRaised(_problem(response))
        return response

    def _stream(self, path: str) -> Iterator[bytes]:
        with self._http.stream("GET", path) as response:
            if response.is_error:
                response.read()
                raise ProblemRaised(_problem(response))
            yield from response.iter_bytes()

    def _get(self, kind: type[T], path: str, **query: Any) -> T:
        given = {k: v for k, v in query.items() if v is not None}
        return TypeAdapter(kind).validate_json(self._ask("GET", path, params=given).content)

    def _post(
        self, kind: type[T], path: str, body: Wire | None = None, key: str | None = None
    ) -> T:
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        content = None if body is None else body.model_dump_json()
        answer = self._ask("POST", path, content=content, headers=headers)
        return TypeAdapter(kind).validate_json(answer.content)

    def _delete(self, path: str, *, derived: bool) -> DeletionView:
        query = {"derived": "true"} if derived else {}
        return DeletionView.model_validate_json(self._ask("DELETE", path, params=query).content)

    def _put(self, kind: type[T], path: str, body: Wire) -> T:
        headers = {"Content-Type": "application/json"}
        answer = self._ask("PUT", path, content=body.model_dump_json(), headers=headers)
        return TypeAdapter(kind).validate_json(answer.content)

    def _all(self, kind: type[T], path: str, **query: Any) -> Iterator[T]:
        cursor: str | None = None
        while True:
            part = self._get(Page[kind], path, cursor=cursor, limit=1000, **query)
            yield from part.items
            cursor = part.next
            if cursor is None:
                return

    def _events(self, path: str) -> Iterator[JobEvent]:
        """The events to the end; a connection that breaks is made again, and none is missed."""
        seen: int | None = None
        broken = 0
        while True:
            try:
                for event in self._events_after(path, seen):
                    seen, broken = event.id, 0
                    yield event
            except httpx2.TransportError:
                broken += 1
                if broken > RECONNECTS:
                    raise
                time.sleep(broken)
            else:
                return

    def _events_after(self, path: str, seen: int | None) -> Iterator[JobEvent]:
        headers = {} if seen is None else {"Last-Event-ID": str(seen)}
        patience = httpx2.Timeout(60, connect=5)
        with self._http.stream("GET", path, headers=headers, timeout=patience) as response:
            if response.is_error:
                response.read()
                raise ProblemRaised(_problem(response))
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield JobEvent.model_validate_json(line[5:].strip())


def wait(
    look: Callable[[], JobView],
    *,
    limit_s: float,
    poll_s: float = 0.25,
    seen: Callable[[JobView], None] = lambda _: None,
) -> JobView:
    """Poll a job until it has succeeded; `seen` gets every look.

    Raises `JobDidNotSucceed` when it ended otherwise and `TimeoutError` after `limit_s`.
    """
    end = time.monotonic() + limit_s
    while True:
        job = look()
        seen(job)
        if job.state is JobState.SUCCEEDED:
            return job
        if job.state.terminal:
            raise JobDidNotSucceed(job)
        if time.monotonic() > end:
            raise TimeoutError(f"the {job.kind} job is still {job.state} after {limit_s:.0f} s")
        time.sleep(poll_s)


def _problem(response: httpx2.Response) -> Problem:
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return Problem(
            type="urn:synthorax:problem:http",
            title=f"{response.status_code} {response.reason_phrase}",
            status=response.status_code,
        )
