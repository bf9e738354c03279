"""`python -m benchmarks.jobs`: what the job system costs, on a Postgres of its own.

Prints claim-and-finish rate, claim latency and statements a slice at 110,000 queued slices of
1,000 jobs of 20 owners with 16 claimers, once on a fresh ledger and once with a million finished
slices in it, side by side; beside them the bare rate of a commit, which bounds any ledger; and
the shares of two owners with weights 2:1 under saturation.
"""

import multiprocessing
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import event, text

from api_schemas.accounts import Scope
from api_schemas.jobs import ShareRequest
from migrations.sections import upgrade
from services.kit.auth import Caller
from services.kit.bell import Bell
from services.kit.db import Database
from services.kit.jobs import Jobs, NewJob, shares
from services.kit.jobs.fairness import Ask, Choice
from services.kit.jobs.leases import Lease, claim
from services.local.servers import Endpoints, Servers

OWNERS, JOBS, SLICES = 20, 1000, 110
PROCESSES, THREADS = 4, 4
SECONDS = 20.0
FINISHED = 1_000_000

LOAD_FINISHED = """
SET session_replication_role = replica;
INSERT INTO jobs.jobs (id, service, kind, queue, owner, project, resource, inputs, state,
                       created_at, started_at, finished_at)
SELECT gen_random_uuid(), 'bench', 'bench', 'bench', owner, owner, owner, '{{}}', 'succeeded',
       now() - interval '1 day', now() - interval '1 day', now() - interval '1 hour'
FROM (SELECT DISTINCT owner FROM jobs.jobs) o, generate_series(1, 50);
INSERT INTO jobs.slices (job, ordinal, payload, state, attempts, started_at, finished_at)
SELECT id, n, '{{}}', 'done', 1, now() - interval '2 hours', now() - interval '1 hour'
FROM jobs.jobs, generate_series(0, {each} - 1) n WHERE state = 'succeeded';
INSERT INTO jobs.attempts (slice, number, job, worker, about, started_at, ended_at, outcome)
SELECT id, 1, job, 'past', '{{}}', started_at, finished_at, 'done'
FROM jobs.slices WHERE state = 'done';
SET session_replication_role = DEFAULT;
"""


@dataclass(frozen=True)
class Told:
    """What one process of claimers saw."""

    claims_ms: list[float]
    finished: Counter[UUID]
    statements: int


def fill(endpoints: Endpoints, owners: list[UUID], jobs: int, parts: int) -> None:
    db, bell = Database(endpoints.database_url), Bell(endpoints.broker_url)
    ledger = Jobs(bell, queued_cap=jobs)
    for n in range(jobs):
        owner = owners[n % len(owners)]
        caller = Caller(owner, owner, frozenset({Scope.WRITE}))
        new = NewJob("bench", "bench", "bench", caller, uuid4(), {}, [{}] * parts)
        with db.transaction() as tx:
            ledger.submit(tx, new)
    db.close()
    bell.close()


def clean(endpoints: Endpoints) -> None:
    sql(endpoints, "TRUNCATE jobs.jobs, jobs.usage, jobs.shares CASCADE")


def sql(endpoints: Endpoints, statements: str) -> None:
    db = Database(endpoints.database_url)
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statements)
    db.close()


def work(endpoints: Endpoints, seconds: float, pause_s: float, out: Any) -> None:
    """A process of claimers: claim, hold for a moment, finish."""
    db, bell = Database(endpoints.database_url, pool_size=THREADS), Bell(endpoints.broker_url)
    statements = 0

    @event.listens_for(db.engine, "before_cursor_execute")
    def count(*_: object) -> None:
        nonlocal statements
        statements += 1

    claims: list[float] = []
    finished: Counter[UUID] = Counter()
    deadline = time.monotonic() + seconds

    def loop() -> None:
        ask = Ask("bench", "bench", f"{threading.get_ident()}", running_cap=1000)
        warm: UUID | None = None
        while time.monotonic() < deadline:
            began = time.perf_counter()
            lease = claim(db, bell, ask, threading.Event(), Choice(warm))
            claims.append(1000 * (time.perf_counter() - began))
            if lease is None:
                continue
            warm = lease.job
            time.sleep(pause_s)
            finish(lease)
            finished[lease.caller.person] += 1

    threads = [threading.Thread(target=loop) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out.put(Told(claims, finished, statements))


def finish(lease: Lease) -> None:
    lease.progress(1, 1, "slices")
    with lease.finishing():
        pass


def run(endpoints: Endpoints, seconds: float, pause_s: float = 0.0) -> Told:
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    processes = [
        context.Process(target=work, args=(endpoints, seconds, pause_s, out))
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    told = [out.get() for _ in processes]
    for process in processes:
        process.join()
    return Told(
        [ms for each in told for ms in each.claims_ms],
        sum((each.finished for each in told), Counter()),
        sum(each.statements for each in told),
    )


def commits_per_second(endpoints: Endpoints, seconds: float = 5.0) -> float:
    """Bare commits of one row by as many threads: what the disk allows."""
    sql(endpoints, "CREATE TABLE IF NOT EXISTS public.bare (id uuid, n int)")
    db = Database(endpoints.database_url, pool_size=16)
    done = Counter[int]()
    deadline = time.monotonic() + seconds

    def loop(number: int) -> None:
        while time.monotonic() < deadline:
            with db.transaction() as tx:
                tx.session.execute(text("INSERT INTO public.bare VALUES (gen_random_uuid(), 1)"))
            done[number] += 1

    threads = [threading.Thread(target=loop, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    db.close()
    return sum(done.values()) / seconds


def show(name: str, told: Told) -> None:
    slices = sum(told.finished.values())
    high = quantiles(told.claims_ms, n=20)[-1]
    print(
        f"  {name:<28} {slices / SECONDS:6.0f} slices/s   claim median "
        f"{median(told.claims_ms):5.1f} ms, 95 % below {high:5.1f} ms   "
        f"{told.statements / slices:4.1f} statements a slice",
        flush=True,
    )


def throughput(endpoints: Endpoints) -> None:
    owners = [uuid4() for _ in range(OWNERS)]
    print(
        f"claim and finish: {JOBS * SLICES:,} queued slices, {JOBS:,} jobs, {OWNERS} owners, "
        f"{PROCESSES * THREADS} claimers, {SECONDS:.0f} s each"
    )
    for name, finished in (("fresh ledger", 0), (f"{FINISHED:,} finished before", FINISHED)):
        clean(endpoints)
        fill(endpoints, owners, JOBS, SLICES)
        if finished:
            sql(endpoints, LOAD_FINISHED.format(each=finished // (50 * OWNERS)))
        sql(endpoints, "VACUUM ANALYZE jobs.jobs")
        sql(endpoints, "VACUUM ANALYZE jobs.slices")
        sql(endpoints, "VACUUM ANALYZE jobs.attempts")
        show(name, run(endpoints, SECONDS))
    print(f"  bare commits of one row        {commits_per_second(endpoints):6.0f} /s", flush=True)


def fairness(endpoints: Endpoints) -> None:
    clean(endpoints)
    heavy, light = uuid4(), uuid4()
    db = Database(endpoints.database_url)
    with db.transaction() as tx:
        shares.grant(tx, heavy, ShareRequest(weight=2))
    db.close()
    fill(endpoints, [heavy, light], 20, 500)
    told = run(endpoints, SECONDS, pause_s=0.2)
    ratio = told.finished[heavy] / told.finished[light]
    print(
        f"shares of two owners with weights 2:1 under saturation: {told.finished[heavy]} and "
        f"{told.finished[light]} slices, {ratio:.2f}:1"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        servers = Servers(Path(folder) / "state")
        endpoints = servers.start()
        try:
            upgrade(endpoints.database_url)
            throughput(endpoints)
            fairness(endpoints)
        finally:
            servers.stop()


if __name__ == "__main__":
    main()
