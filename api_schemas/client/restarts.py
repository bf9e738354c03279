"""Asking again while the web process is restarted; a limit, and one line that says so."""

import time
from collections.abc import Callable
from http import HTTPStatus

import httpx2

LIMIT_S = 120.0
PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
BRIEF_BYTES = 1 << 22
SAFE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Methods that may be asked twice; a POST may where it carries an Idempotency-Key."""


class RestartTransport(httpx2.BaseTransport):
    """Sends a request again while nobody answers, or while the answer is 503 with `Retry-After`.

    What may have been done already is only sent again where that does no harm. After `limit_s` the
    last error or answer is the caller's. `say` hears once that it waits, and once that it goes on.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        limit_s: float = LIMIT_S,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._say = say
        self._limit_s = limit_s
        self._transport = transport or httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        end = time.monotonic() + self._limit_s
        pause_s, waited = PAUSE_S, False
        while True:
            may_wait = time.monotonic() + pause_s < end and _is_repeatable(request)
            try:
                response = self._transport.handle_request(request)
                if _is_brief(response):
                    response.read()  # an answer that breaks off is asked for again, too
            except httpx2.TransportError as error:
                if not may_wait or not (_was_not_sent(error) or _is_harmless(request)):
                    raise
            else:
                if not (may_wait and _is_busy(response) and _is_harmless(request)):
                    if waited:
                        self._say("Synthorax answers again")
                    return response
                response.close()
            if not waited:
                self._say(
                    "Synthorax does not answer just now; asking again for up to "
                    f"{self._limit_s:.0f} s"
                )
            waited = True
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def close(self) -> None:
        self._transport.close()


def _was_not_sent(error: httpx2.TransportError) -> bool:
    return isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))


def _is_harmless(request: httpx2.Request) -> bool:
    return request.method in SAFE or "Idempotency-Key" in request.headers


def _is_repeatable(request: httpx2.Request) -> bool:
    """Whether its body can be sent twice: that of an upload cannot."""
    return isinstance(request.stream, httpx2.ByteStream)


def _is_brief(response: httpx2.Response) -> bool:
    length = response.headers.get("Content-Length", "")
    return length.isdecimal() and int(length) < BRIEF_BYTES


def _is_busy(response: httpx2.Response) -> bool:
    busy = response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    return busy and "Retry-After" in response.headers
