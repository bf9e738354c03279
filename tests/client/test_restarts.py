"""A client that rides out a restart of the web process: a real server that goes and comes."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from api_schemas.client import RestartTransport


class Server:
    """Answers `ok` when it is up; may break off, or be busy, a few times before."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.requests: list[str] = []
        self.breaks = 0
        self.busy = 0
        self._http: ThreadingHTTPServer | None = None

    def start(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append(self.command)
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if outer.breaks:
                    outer.breaks -= 1
                    self.send_response(200)
                    self.send_header("Content-Length", "100")
                    self.end_headers()
                    self.wfile.write(b"half")
                    self.close_connection = True
                    return
                status = 503 if outer.busy else 200
                outer.busy = max(outer.busy - 1, 0)
                self.send_response(status)
                self.send_header("Retry-After", "1")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            do_POST = do_GET  # noqa: N815 - what the server calls

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None


@pytest.fixture
def server() -> Iterator[Server]:
    each = Server()
    yield each
    each.stop()


@pytest.fixture
def words() -> list[str]:
    return []


@pytest.fixture
def client(server: Server, words: list[str]) -> Callable[..., httpx2.Client]:
    def make(limit_s: float = 20.0) -> httpx2.Client:
        transport = RestartTransport(words.append, limit_s=limit_s)
        return httpx2.Client(base_url=f"http://127.0.0.1:{server.port}", transport=transport)

    return make


def test_a_restart_is_ridden_out_and_said_in_one_line(server, client, words) -> None:
    started = threading.Timer(1.5, server.start)
    started.start()
    with client() as http:
        assert http.get("/").text == "ok"
        assert http.get("/").text == "ok"
    started.join()
    assert words == [
        "Synthorax does not answer just now; asking again for up to 20 s",
        "Synthorax answers again",
    ]


def test_an_answer_that_breaks_off_is_asked_for_again(server, client) -> None:
    server.breaks = 2
    server.start()
    with client() as http:
        assert http.get("/").text == "ok"
    assert len(server.requests) == 3


def test_an_order_with_a_key_is_sent_again_and_one_without_is_not(server, client) -> None:
    server.start()
    with client() as http:
        server.breaks = 1
        with pytest.raises(httpx2.TransportError):
            http.post("/", content=b"{}")
        assert server.requests == ["POST"]
        server.breaks = 1
        assert http.post("/", content=b"{}", headers={"Idempotency-Key": "1"}).text == "ok"
    assert server.requests == ["POST"] * 3


def test_an_upload_is_not_sent_twice(server, client) -> None:
    began = time.monotonic()
    with client(600) as http, pytest.raises(httpx2.ConnectError):
        http.post("/", content=iter([b"part"]), headers={"Idempotency-Key": "1"})
    assert time.monotonic() - began < 300


def test_a_busy_server_is_asked_again(server, client) -> None:
    server.busy = 2
    server.start()
    with client() as http:
        assert http.get("/").status_code == 200
    assert len(server.requests) == 3


def test_after_the_limit_the_error_is_the_callers(server, client, words) -> None:
    with client(1.0) as http, pytest.raises(httpx2.ConnectError):
        http.get("/")
    assert len(words) == 1


def test_every_command_that_watches_rides_out_a_restart() -> None:
    """No command makes a client of its own that does not."""
    source = (Path(__file__).parents[2] / "services" / "local" / "__main__.py").read_text()
    assert source.count("Client(") == 1
    assert source.count("with connect(access)") == 3
