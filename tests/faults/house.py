"""An installation to break: servers that can be killed and restarted, processes known by pid,
a proxy before each server.
"""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psutil
from redis import Redis
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from api_schemas.accounts import KeyRequest, Scope
from api_schemas.base import JobState, JobView
from migrations.sections import upgrade
from services.accounts.main import compose as compose_accounts
from services.kit.adapters import Adapters
from services.kit.auth import Caller
from services.kit.jobs import NewJob
from services.kit.settings import Settings
from services.local.processes import WORKERS, Worker, web
from services.local.servers import Servers
from tests.emptying import EMPTY
from tests.faults.proxy import Proxy
from tests.faults.stub_worker import QUEUE, SCHEMA

ROOT = Path(__file__).parents[2]
LIMIT_S = 90.0
"""How long a condition is waited for: far above what an idle machine needs."""

SETTINGS = {
    "key_pepper": "pepper-of-the-tests",
    "pseudonym_key": "pseudonym-key-of-the-tests",
    "service_secret": "service-secret-of-the-tests",
    "device": "cpu",
    "log_level": "INFO",
    "lease_s": 4.0,
    "heartbeat_s": 0.5,
    "sweep_s": 0.5,
    "stall_s": 60.0,
}

Payload = Mapping[str, Any]


def until(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for a condition; fails with `what` was waited for."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.05)


class Process:
    """One process of the installation, in a session of its own."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: dict[str, str], at: Path
    ) -> None:
        self.name = name
        self.log = at / f"{name}.log"
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=at,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def lives(self) -> bool:
        return self._popen.poll() is None

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, with what it started itself."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Wait for its end; its exit status."""
        return self._popen.wait(limit_s)


class House:
    """The installation of the fault suite. One for all tests; each finds it clean and whole."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.work.mkdir()
        self.servers = Servers(root / "servers")
        endpoints = self.servers.start()
        upgrade(endpoints.database_url)
        self.settings = Settings.model_validate(
            {
                **SETTINGS,
                "database_url": endpoints.database_url,
                "broker_url": endpoints.broker_url,
                "s3_endpoint": endpoints.s3_endpoint,
                "s3_access_key": endpoints.s3_access_key,
                "s3_secret_key": endpoints.s3_secret_key,
                "scratch": root / "scratch",
                "import_roots": str(root / "imports"),
            }
        )
        self.adapters = Adapters.connect(self.settings)
        self.adapters.store.ensure_bucket()
        self.redis = Redis.from_url(endpoints.broker_url)
        self.execute(*SCHEMA)
        state = self.servers.state
        self.database = Proxy(lambda: state.port("postgres"))
        self.broker = Proxy(lambda: state.port("valkey"))
        self.store = Proxy(lambda: state.port("s3.port"))
        self.proxies = (self.database, self.broker, self.store)
        self._numbers = itertools.count()
        self._processes: list[Process] = []
        self._lasting: dict[str, Process] = {}
        self.environment: dict[str, str] = {}
        self.accepted: list[UUID] = []
        self.notes = root / "notes"
        self.caller = self.enrol("ada")

    def close(self) -> None:
        self.end_processes()
        self.stop_lasting()
        for proxy in self.proxies:
            proxy.close()
        self.redis.close()
        self.adapters.close()
        self.kill_server("seaweed")  # asked, it takes seconds to go
        self.servers.stop()

    # ------------------------------------------------------------ servers

    def kill_server(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End a server at once and wait until it is gone."""
        pid = self.servers.running()[name]
        os.kill(pid, how)
        until(lambda: name not in self.servers.running(), f"the end of {name}")

    def freeze_server(self, name: str) -> None:
        os.kill(self.servers.running()[name], signal.SIGSTOP)

    def thaw_server(self, name: str) -> None:
        os.kill(self.servers.running()[name], signal.SIGCONT)

    def start_servers(self) -> None:
        """Start what does not run; returns when all answer."""
        self.servers.start()

    # ------------------------------------------------------------ processes

    def start(self, name: str, arguments: Sequence[str], **settings: object) -> Process:
        """A process that `clean` ends. Settings are named as in `Settings`."""
        process = self._spawn(name, arguments, settings)
        self._processes.append(process)
        return process

    def worker(self, **settings: object) -> Process:
        """A stub worker; returns at once, while it is starting."""
        return self.start("worker", stub_arguments("tests.faults.stub_worker"), **settings)

    def control(self) -> Process:
        """The control process: it stays over tests, and is started again when it has ended."""
        return self._lasts("control", WORKERS["control"].arguments)

    def web(self, **settings: object) -> str:
        """The URL of a stub web process that answers; without settings, of the one that stays."""
        port = self.servers.state.port("web-own" if settings else "web")
        arguments = ("-m", "uvicorn", "--factory", "tests.faults.stub_web:build")
        arguments += ("--host", "127.0.0.1", "--port", str(port), "--no-access-log")
        if settings:
            process = self.start("web", arguments, **settings)
        else:
            process = self._lasts("web", arguments)
        url = f"http://127.0.0.1:{port}"
        until(lambda: process.lives and _answers(url), "the web process")
        return url

    def gateway(self, **settings: object) -> tuple[str, Process]:
        """The URL and the process of the whole suite, without its workers. Without settings it
        stays over tests.
        """
        port = self.servers.state.port("gateway-own" if settings else "gateway")
        arguments = web("gateway", "127.0.0.1", port)
        if settings:
            process = self.start("gateway", arguments, **settings)
        else:
            process = self._lasts("gateway", arguments)
        url = f"http://127.0.0.1:{port}"
        until(lambda: process.lives and _answers(url), "the gateway")
        return url, process

    def kill_web(self) -> None:
        """End the web process that was started with settings of its own."""
        for process in [p for p in self._processes if p.name.startswith("web")]:
            process.kill()
            self._processes.remove(process)

    def _lasts(self, name: str, arguments: Sequence[str]) -> Process:
        process = self._lasting.get(name)
        if process is None or not process.lives:
            process = self._lasting[name] = self._spawn(name, arguments, {})
        return process

    def _spawn(
        self, name: str, arguments: Sequence[str], settings: Mapping[str, object]
    ) -> Process:
        told = self.settings.model_dump(exclude_unset=True) | settings
        named = {f"SYNTHORAX_{key.upper()}": _plain(value) for key, value in told.items()}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SYNTHORAX_")}
        few = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = inherited | few | {"PYTHONPATH": str(ROOT)} | self.environment | named
        return Process(f"{name}-{next(self._numbers)}", arguments, environment, self.work)

    def through(self, *servers: str) -> dict[str, str]:
        """Settings of a process that reaches these servers (database, broker, store) by proxy."""
        state, settings = self.servers.state, self.settings
        ways = {
            "database": ("database_url", "postgres", self.database),
            "broker": ("broker_url", "valkey", self.broker),
            "store": ("s3_endpoint", "s3.port", self.store),
        }
        told: dict[str, str] = {}
        for server in servers:
            setting, port, proxy = ways[server]
            direct = _plain(getattr(settings, setting))
            told[setting] = direct.replace(f":{state.port(port)}", f":{proxy.port}")
        return told

    def end_processes(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.thaw()
            process.kill()
        self._processes.clear()

    def stop_lasting(self) -> None:
        """End the processes that stay over tests; they are started again when asked for."""
        for process in self._lasting.values():
            process.kill()
        self._lasting.clear()

    def logs(self) -> dict[str, str]:
        """What every process of this test that was not replaced said last."""
        processes = [*self._processes, *self._lasting.values()]
        return {p.name: p.log.read_text(errors="replace")[-6000:] for p in processes}

    # ------------------------------------------------------------ people and orders

    def enrol(self, person: str) -> Caller:
        """Make a person of project `lab`; their key is remembered for `http`."""
        request = KeyRequest(name="test", scopes=list(Scope))
        self.key = compose_accounts(self.adapters).provider.mint(person, "lab", request).key
        return self.adapters.auth.caller(f"Bearer {self.key}")

    def http(self, url: str) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx2.Client(base_url=url, headers=headers, timeout=60)

    def order(self, *slices: Payload) -> dict[str, Any]:
        """The body of an order; slices are numbered."""
        return {"slices": [{"n": n, **s} for n, s in enumerate(slices)], "notes": str(self.notes)}

    def accept(self, answer: httpx2.Response) -> UUID:
        """The job of a 202: from now on it may not be lost."""
        assert answer.status_code == 202, answer.text
        job = UUID(answer.json()["id"])
        self.accepted.append(job)
        return job

    def submit(
        self,
        *slices: Payload,
        caller: Caller | None = None,
        kind: str = "order",
        waits_for: Sequence[UUID] = (),
    ) -> UUID:
        """An order without the web: committed when this returns."""
        body = self.order(*slices)
        inputs = {"notes": body["notes"]}
        whose, parts = caller or self.caller, body["slices"]
        job = NewJob("stub", kind, QUEUE, whose, uuid4(), inputs, parts, waits_for)
        with self.adapters.db.transaction() as tx:
            self.adapters.jobs.submit(tx, job)
        self.accepted.append(job.id)
        return job.id

    # ------------------------------------------------------------ looking

    def view(self, job: UUID) -> JobView:
        with self.adapters.db.transaction() as tx:
            return self.adapters.jobs.view(tx, job)

    def state(self, job: UUID) -> str:
        return self.view(job).state.value

    def finish(self, *jobs: UUID) -> None:
        """Wait until these jobs have succeeded; fails as soon as one ends otherwise."""

        def all_succeeded() -> bool:
            views = [self.view(job) for job in jobs]
            bad = [v for v in views if v.state.terminal and v.state is not JobState.SUCCEEDED]
            assert not bad, bad
            return all(v.state is JobState.SUCCEEDED for v in views)

        until(all_succeeded, f"{len(jobs)} jobs to succeed")

    def noted(self, what: str, job: UUID | None = None) -> list[int]:
        """The slices about which this was noted, in order."""
        if not self.notes.exists():
            return []
        lines = [line.split() for line in self.notes.read_text().splitlines()]
        return [int(n) for j, n, w, _ in lines if w == what and (job is None or j == str(job))]

    def slices(self, job: UUID) -> list[Any]:
        return self.query(
            "SELECT * FROM jobs.slices WHERE job = :job ORDER BY ordinal", {"job": job}
        )

    def query(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        with self.adapters.db.transaction() as tx:
            return list(tx.session.execute(text(sql), values or {}).all())

    def execute(self, *statements: str) -> None:
        with self.adapters.db.transaction() as tx:
            for statement in statements:
                tx.session.execute(text(statement))

    def waits_for_a_bell(self, worker: Process) -> bool:
        """Whether this process blocks in a pop inside the broker."""
        ports = {c.laddr.port for c in psutil.Process(worker.pid).net_connections() if c.laddr}
        ports |= self.broker.beyond(ports)
        return any(
            client["cmd"] == "brpop" and int(client["addr"].rpartition(":")[2]) in ports
            for client in self.redis.client_list()
        )

    # ------------------------------------------------------------ between tests

    def mend(self) -> None:
        """Every server runs and every way to it is open."""
        for proxy in self.proxies:
            proxy.heal()
        for pid in self.servers.running().values():
            os.kill(pid, signal.SIGCONT)
        self.start_servers()
        self.adapters.db.engine.dispose()

    def clean(self) -> None:
        """Empty tables, queue, notes; the next test finds nothing of the last."""
        self.accepted.clear()
        self.notes.unlink(missing_ok=True)
        self.redis.delete(QUEUE)
        self.adapters.store.remove_prefix("projects/")
        self._patiently(lambda: self.execute(EMPTY.text))
        self.caller = self.enrol("ada")

    def _patiently(self, act: Callable[[], None]) -> None:
        """A sweep that is under way may deadlock with emptying the tables; one of them yields."""

        def done() -> bool:
            try:
                act()
            except OperationalError:
                return False
            return True

        until(done, "empty tables")


def stub_arguments(module: str) -> tuple[str, ...]:
    """The command line of a real slice worker, for an app of the tests."""
    arguments = list(Worker("stub", QUEUE).arguments)
    arguments[arguments.index("-A") + 1] = f"{module}:app"
    return tuple(arguments)


def _plain(value: object) -> str:
    reveal = getattr(value, "get_secret_value", None)
    return str(reveal() if reveal else value)


def _answers(url: str) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(f"{url}/health", timeout=10).status_code == 200
    return False
