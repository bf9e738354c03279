"""Row 34: a steady stream of jobs under random faults; nothing is lost, doubled or wrong.

`make soak SEED=7 SOAK_S=600`. A seed fixes which faults come in which order and what is ordered;
when exactly they strike is up to the machine.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy.exc import OperationalError

from services.kit.objects import DigestMismatch, ObjectMissing
from tests.faults.house import LIMIT_S, House, Process, until

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
SOAK_S = float(os.environ.get("SOAK_S") or 600)
WORKERS = 3
UNFINISHED = 60
"""Orders wait while more than this are unfinished: what is tested is faults, not a queue."""


class Soak:
    """The processes, the stream, and the faults."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.chance = random.Random(SEED)
        self.wishes = random.Random(SEED)  # of its own: the stream runs beside the faults
        self.ways = house.through("database", "broker", "store")
        self.workers = [house.worker(**self.ways) for _ in range(WORKERS)]
        self.url = house.web(**house.through("broker"))
        self.faults: Counter[str] = Counter()
        self.cancelled = self.refused = 0
        self.retried: set[UUID] = set()

    # ------------------------------------------------------------ the stream

    def stream(self, ending: threading.Event) -> None:
        while not ending.wait(self.wishes.uniform(0, 0.6)):
            if self._room():
                self.order()

    def _room(self) -> bool:
        try:
            return self.unfinished() < UNFINISHED
        except OperationalError:  # the database is down: the best time to order
            return True

    def order(self) -> None:
        """Order a job as a careful client does: again with the same key until it is accepted."""
        slices = [
            {"pause_s": round(self.wishes.uniform(0, 0.5), 2), "apart": self.wishes.random() < 0.3}
            for _ in range(self.wishes.randint(1, 4))
        ]
        body, key = self.house.order(*slices), {"Idempotency-Key": str(uuid4())}
        answers: list[httpx2.Response] = []

        def accepted() -> bool:
            try:
                with self.house.http(self.url) as http:
                    answer = http.post("/orders", json=body, headers=key)
            except httpx2.TransportError:
                self.refused += 1
                return False
            self.refused += answer.status_code != 202
            answers.append(answer)
            return answer.status_code == 202

        until(accepted, "an order to be accepted")
        job = self.house.accept(answers[-1])
        if self.wishes.random() < 0.1:
            self._cancel(job)

    def _cancel(self, job: UUID) -> None:
        try:
            with self.house.http(self.url) as http:
                self.cancelled += http.post(f"/orders/{job}/cancel").status_code == 200
        except httpx2.TransportError:
            self.refused += 1

    # ------------------------------------------------------------ the faults

    def strike(self) -> None:
        """One fault, over when this returns; what it broke may still be mending."""
        kinds: dict[Callable[[], None], int] = {
            self.worker_killed: 6,
            self.worker_frozen: 4,
            self.worker_drained: 3,
            self.web_killed: 2,
            self.control_killed: 2,
            self.broker_killed: 3,
            self.broker_emptied: 2,
            self.broker_silent: 1,
            self.database_cut: 4,
            self.database_silent: 2,
            self.database_stopped: 1,
            self.store_busy: 3,
            self.store_truncating: 2,
            self.store_refusing: 2,
        }
        fault = self.chance.choices(list(kinds), list(kinds.values()))[0]
        self.faults[fault.__name__.replace("_", " ")] += 1
        fault()

    def worker_killed(self) -> None:
        self._replace(Process.kill)

    def worker_frozen(self) -> None:
        worker = self.chance.choice(self.workers)
        worker.freeze()
        self.pause(0.5, 2 * self.house.settings.lease_s)
        worker.thaw()

    def worker_drained(self) -> None:
        self._replace(Process.terminate)

    def _replace(self, end: Callable[[Process], None]) -> None:
        number = self.chance.randrange(WORKERS)
        end(self.workers[number])
        self.workers[number].wait()
        self.workers[number] = self.house.worker(**self.ways)

    def web_killed(self) -> None:
        self.house.kill_web()
        self.url = self.house.web(**self.house.through("broker"))

    def control_killed(self) -> None:
        self.house.control().kill()
        self.house.control()

    def broker_killed(self) -> None:
        self.house.kill_server("valkey")
        self.pause(0, 2)
        self.house.start_servers()

    def broker_emptied(self) -> None:
        self.house.redis.flushall()

    def broker_silent(self) -> None:
        self.house.broker.stall()
        self.pause(1, 4)
        self.house.broker.heal()

    def database_cut(self) -> None:
        self.house.database.cut()

    def database_silent(self) -> None:
        self.house.database.stall()
        self.pause(1, 4)
        self.house.database.heal()

    def database_stopped(self) -> None:
        self.house.kill_server("postgres", signal.SIGQUIT)
        self.pause(0, 2)
        self.house.start_servers()

    def store_busy(self) -> None:
        self.house.store.answer_503()
        self.pause(1, 6)
        self.house.store.heal()

    def store_truncating(self) -> None:
        self.house.store.truncate()
        self.pause(1, 4)
        self.house.store.heal()

    def store_refusing(self) -> None:
        self.house.store.refuse()
        self.pause(1, 4)
        self.house.store.heal()

    def pause(self, least_s: float, most_s: float) -> None:
        """Let a fault, or the peace after one, last: a duration, not a wait for something."""
        time.sleep(self.chance.uniform(least_s, most_s))

    # ------------------------------------------------------------ the end

    def unfinished(self) -> int:
        (row,) = self.house.query(
            "SELECT count(*) AS n FROM jobs.jobs WHERE finished_at IS NULL OR state = 'quarantined'"
        )
        return row.n

    def settle(self) -> None:
        """All servers stand: every worker listens again, and everything comes to its end."""
        self.house.mend()

        def all_ended() -> bool:
            for row in self.house.query("SELECT id FROM jobs.jobs WHERE state = 'quarantined'"):
                with self.house.adapters.db.transaction() as tx:
                    self.house.adapters.jobs.retry(tx, row.id)
                self.retried.add(row.id)
            return self.unfinished() == 0

        until(all_ended, "all jobs to end", 180)
        for worker in self.workers:
            until(lambda: self.house.waits_for_a_bell(worker), "every worker to listen")  # noqa: B023 - at once

    def closing(self) -> tuple[dict[str, object], dict[str, int]]:
        """What happened, and what must not have."""
        states = Counter(row.state for row in self.house.query("SELECT state FROM jobs.jobs"))
        outcomes = Counter(
            row.outcome for row in self.house.query("SELECT outcome FROM jobs.attempts")
        )
        images = self.house.query("SELECT job, n, key, sha256 FROM stub.images")
        known = {row.id for row in self.house.query("SELECT id FROM jobs.jobs")}
        winners = Counter((image.job, image.n) for image in images)
        happened = {
            "seed": SEED,
            "seconds": round(SOAK_S),
            "jobs accepted": len(self.house.accepted),
            "cancels answered": self.cancelled,
            "requests repeated": self.refused,
            "set aside and retried": len(self.retried),
            "images published": len(images),
            **{f"jobs {state}": n for state, n in sorted(states.items())},
            **{f"attempts {outcome}": n for outcome, n in sorted(outcomes.items())},
            **dict(self.faults.most_common()),
        }
        return happened, {
            "jobs lost": len(set(self.house.accepted) - known),
            "jobs made twice": len(known - set(self.house.accepted)),
            "jobs failed": states["failed"],
            "images published twice": sum(n > 1 for n in winners.values()),
            "digests wrong": sum(not self._right(image.key, image.sha256) for image in images),
        }

    def _right(self, key: str, digest: str) -> bool:
        try:
            self.house.adapters.store.get(key, digest)
        except (DigestMismatch, ObjectMissing):
            return False
        return True


@pytest.mark.soak
@pytest.mark.timeout(SOAK_S + 900)
def test_row_34_soak(house, capsys) -> None:
    with capsys.disabled():
        print(f"\nsoak: SEED={SEED} SOAK_S={SOAK_S:.0f}")  # noqa: T201 - needed to repeat it
    house.control()
    soak = Soak(house)
    ends = time.monotonic() + SOAK_S
    ending = threading.Event()
    with ThreadPoolExecutor(1) as beside:
        stream = beside.submit(soak.stream, ending)
        while time.monotonic() < ends and stream.running():
            soak.strike()
            soak.pause(0, 2)
        ending.set()
        stream.result(LIMIT_S)
    soak.settle()
    happened, must_not = soak.closing()
    with capsys.disabled():
        for name, value in [*happened.items(), *must_not.items()]:
            print(f"{value:>10}  {name}")  # noqa: T201 - the closing table
    assert set(must_not.values()) == {0}
