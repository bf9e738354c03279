"""`python -m benchmarks.recovery`: how soon work goes on after a kill -9 and after a lost bell,
and how long work takes to be accepted while the broker is away.

Real Celery workers and the control process on servers of their own, with the settings of an
installation except for a shorter lease. Times are the database's: from the kill (or the loss)
to the start of the next attempt.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from redis import Redis
from sqlalchemy import text

from api_schemas.accounts import Scope
from benchmarks.stub_worker import QUEUE
from migrations.sections import upgrade
from services.kit.auth import Caller
from services.kit.bell import Bell
from services.kit.db import Database
from services.kit.jobs import Jobs, NewJob
from services.local.processes import Worker
from services.local.servers import Endpoints, Servers

ROOT = Path(__file__).parents[1]
LEASE_S = 20.0
ROUNDS = 5

ATTEMPTS = text(
    "SELECT count(*), extract(epoch FROM max(started_at)) FROM jobs.attempts WHERE job = :job"
)


class Bench:
    """The processes, and the questions to the ledger."""

    def __init__(self, endpoints: Endpoints, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._db = Database(endpoints.database_url)
        self._bell = Bell(endpoints.broker_url)
        self.redis = Redis.from_url(endpoints.broker_url)
        stack.callback(self._db.close)
        stack.callback(self._bell.close)
        stack.callback(self.redis.close)
        names = ("database_url", "broker_url", "s3_endpoint", "s3_access_key", "s3_secret_key")
        own = {name: getattr(endpoints, name) for name in names}
        own["s3_folder"] = str(endpoints.s3_folder)
        own |= dict.fromkeys(("key_pepper", "pseudonym_key", "service_secret"), "bench")
        own |= {"lease_s": str(LEASE_S), "log_level": "ERROR", "device": "cpu"}
        self._environment = os.environ | {f"SYNTHORAX_{k.upper()}": v for k, v in own.items()}

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        log = self._stack.enter_context((self._folder / "log").open("ab"))
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=self._environment, stdout=log, stderr=log
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def worker(self) -> "subprocess.Popen[bytes]":
        return self.start(*Worker("bench", QUEUE).arguments_of("benchmarks.stub_worker:app"))

    def submit(self, seconds: float, *, ring: bool = True) -> UUID:
        caller = Caller(uuid4(), uuid4(), frozenset({Scope.WRITE}))
        parts = [{"seconds": seconds}]
        new = NewJob(QUEUE, QUEUE, QUEUE, caller, uuid4(), {}, parts)
        with self._db.transaction() as tx:
            Jobs(self._bell).submit(tx, new)
            if not ring:
                tx.effects.clear()
        return new.id

    def ask(self, statement: Any, **values: object) -> Any:
        with self._db.transaction() as tx:
            return tx.session.execute(statement, values).one()

    def now(self) -> float:
        return float(self.ask(text("SELECT extract(epoch FROM clock_timestamp())"))[0])

    def attempt(self, job: UUID, number: int) -> float:
        """Wait for an attempt at a job; when it began."""
        return self._until(lambda: self.ask(ATTEMPTS, job=job), number)

    def _until(self, look: Callable[[], Any], number: int) -> float:
        while True:
            count, began = look()
            if count >= number:
                return float(began)
            time.sleep(0.05)


def after_a_kill(bench: Bench) -> float:
    victim = bench.worker()
    job = bench.submit(600)
    bench.attempt(job, 1)
    time.sleep(1)  # in the middle of its work
    heir = bench.worker()
    victim.kill()
    killed = bench.now()
    took = bench.attempt(job, 2) - killed
    heir.kill()
    heir.wait()
    return took


def after_a_lost_bell(bench: Bench) -> float:
    job = bench.submit(0, ring=False)
    submitted = bench.now()
    return bench.attempt(job, 1) - submitted


def without_a_broker(bench: Bench) -> float:
    """Seconds of a submission with its bell: what `POST` does beside reading its body."""
    began = time.monotonic()
    bench.submit(0)
    return time.monotonic() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = Servers(Path(folder) / "state")
        stack.callback(servers.stop)
        endpoints = servers.start()
        upgrade(endpoints.database_url)
        bench = Bench(endpoints, stack, Path(folder))
        bench.start("-m", "services.gateway.worker")
        kills = [after_a_kill(bench) for _ in range(ROUNDS)]
        print(
            f"kill -9 of a worker, lease {LEASE_S:.0f} s: its slice runs again after lease "
            + ", ".join(f"{each - LEASE_S:+.1f}" for each in kills)
            + f" s (at most {max(kills) - LEASE_S:+.1f})"
        )
        worker = bench.worker()
        bench.attempt(bench.submit(0), 1)
        bells = [after_a_lost_bell(bench) for _ in range(ROUNDS)]
        print(
            "a lost bell: the work begins after "
            + ", ".join(f"{each:.1f}" for each in bells)
            + f" s (at most {max(bells):.1f})"
        )
        worker.kill()
        os.kill(servers.running()["valkey"], signal.SIGKILL)
        posts = [without_a_broker(bench) for _ in range(ROUNDS)]
        print(
            "work submitted while the broker is down: accepted after "
            + ", ".join(f"{1000 * each:.0f}" for each in posts)
            + f" ms (at most {1000 * max(posts):.0f})"
        )


if __name__ == "__main__":
    main()
