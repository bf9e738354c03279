"""Runs mirrored to an MLflow server: here one that records what it is told."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from services.training.clients import Mlflow
from services.training.ports.tracking import TrackedRun
from services.training.settings import TrainingSettings

RUN = TrackedRun("id/real/0", "does it help? (id)", "real, seed 0", {"arm": "real"})


class Server(ThreadingHTTPServer):
    """As much of MLflow's REST API as the mirror speaks; keeps experiments, runs and metrics."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.fails = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, query: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.fails:
            return 500, {}
        if path == "experiments/get-by-name":
            known = next(iter(self.experiments.values()), None)
            found = {"experiment": {"experiment_id": known}}
            return (
                (404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}) if known is None else (200, found)
            )
        if path == "experiments/create":
            self.experiments[body["name"]] = "7"
            return 200, {"experiment_id": "7"}
        if path == "runs/search":
            key = body["filter"].split("'")[1]
            return 200, {"runs": [self._shown(key)] if key in self.runs else []}
        if path == "runs/create":
            key = body["tags"][0]["value"]
            self.runs[key] = {"name": body["run_name"], "metrics": [], "params": {}}
            return 200, {"run": self._shown(key)}
        run = self.runs[body["run_id"]]
        run["metrics"] += body.get("metrics", [])
        run["params"] |= {p["key"]: p["value"] for p in body.get("params", [])}
        run["status"] = body.get("status")
        return 200, {}

    def _shown(self, key: str) -> dict[str, Any]:
        return {"info": {"run_id": key}, "data": {"metrics": self.runs[key]["metrics"]}}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        asked = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = asked.path.removeprefix("/api/2.0/mlflow/")
        status, answer = self.server.answer(path, asked.query, json.loads(body or b"{}"))
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815 - their names

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def points(*steps: int) -> list[dict[str, float | None]]:
    return [{"step": s, "loss": 1 / s, "auroc": None} for s in steps]


def test_a_run_is_mirrored_once_and_only_what_is_new(server) -> None:
    mirror = Mlflow(server.url)
    mirror.log(RUN, points(10, 20), ended=False)
    mirror.log(RUN, points(10, 20), ended=False)
    mirror.log(RUN, points(10, 20, 30), ended=True)
    assert list(server.experiments) == ["does it help? (id)"]
    (run,) = server.runs.values()
    assert [(m["key"], m["step"], m["value"]) for m in run["metrics"]] == [
        ("loss", 10, 0.1),
        ("loss", 20, 0.05),
        ("loss", 30, 1 / 30),
    ]
    assert run["params"] == {"arm": "real"}
    assert run["status"] == "FINISHED"


def test_a_mirror_that_fails_stops_nobody(server) -> None:
    server.fails = True
    Mlflow(server.url).log(RUN, points(10), ended=False)
    Mlflow("http://127.0.0.1:1").log(RUN, points(10), ended=False)
    assert server.runs == {}


def test_the_usual_variable_names_the_server(monkeypatch) -> None:
    assert TrainingSettings().mlflow is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert TrainingSettings().mlflow == "http://mlflow:5000"


def test_an_experiment_is_mirrored_while_it_trains(http, body, work, handler, engine, server):
    run = handler(engine, stretch_s=0)
    run._tracking = Mlflow(server.url)
    made = http.post("/experiments", json=body).json()["id"]
    work("training", "training", {"experiment": run})
    assert len(server.runs) == 12
    mirrored = server.runs[f"{made}/shuffled/1"]
    assert mirrored["name"] == "shuffled, seed 1"
    assert mirrored["status"] == "FINISHED"
    assert {m["key"] for m in mirrored["metrics"]} == {"loss", "auroc"}
    assert mirrored["params"]["steps"] == "5"
