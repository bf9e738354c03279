"""Row 33: whatever the order of moves, jobs and slices stand as a small model says they must."""

from dataclasses import dataclass, field
from threading import Event
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.kit.errors import Unprocessable
from services.kit.jobs import Lease, LeaseLost, NewJob
from services.kit.jobs.endings import DependencyFailed
from services.kit.jobs.fairness import Ask
from services.kit.jobs.leases import claim
from services.kit.jobs.ledger import JobFinished, NotQuarantined
from services.kit.jobs.sweeper import Sweeper
from tests.faults import invariants
from tests.faults.house import House

LEASE_S = 10.0
CRASH_LIMIT = 3
IN_VAIN = {"failed", "cancelled"}
ACTIVE = {"queued", "running"}

some = st.integers(min_value=0, max_value=99)
"""Chooses among what there is, whatever its number."""


@dataclass(eq=False)
class Part:
    state: str = "queued"
    crashes: int = 0


@dataclass(eq=False)
class Work:
    """A job as the design describes it."""

    state: str
    parts: list[Part]
    waits: list["Work"] = field(default_factory=list)
    waited_for_by: list["Work"] = field(default_factory=list)

    @property
    def runnable(self) -> bool:
        return self.state in ACTIVE and any(p.state == "queued" for p in self.parts)

    def end(self, state: str) -> None:
        self.state = state
        for part in self.parts:
            if part.state == "running":
                part.state = "queued" if state == "quarantined" else "cancelled"
            if part.state == "queued" and state in IN_VAIN:
                part.state = "cancelled"
        for other in self.waited_for_by:
            if other.state == "blocked":
                other.settle()

    def settle(self) -> None:
        if any(w.state in IN_VAIN for w in self.waits):
            self.end("failed")
        elif all(w.state == "succeeded" for w in self.waits):
            self.state = "queued"

    def crash(self, part: Part) -> None:
        part.crashes += 1
        part.state = "queued"
        if part.crashes == CRASH_LIMIT:
            part.state = "quarantined"
            self.end("quarantined")


class Transitions(RuleBasedStateMachine):
    """Every rule makes one move on both, and says what it must answer."""

    house: House

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[UUID, Work] = {}
        self.held: list[tuple[Lease, Work, Part]] = []
        self.zombies: list[Lease] = []
        self.now = 0.0
        adapters = self.house.adapters
        self.sweeper = Sweeper(adapters.db, adapters.bell, LEASE_S, clock=lambda: self.now)

    def teardown(self) -> None:
        try:
            invariants.check(self.house)
        finally:
            self.house.execute("TRUNCATE jobs.jobs CASCADE")

    # ------------------------------------------------------------ what people do

    @rule(slices=st.integers(1, 3), waits=st.lists(some, max_size=2))
    def submit(self, slices: int, waits: list[int]) -> None:
        awaited = [self._job(n) for n in waits] if self.jobs else []
        job = NewJob(
            *("stub", "model", "stub", self.house.caller, uuid4(), {}),
            slices=[{"n": n} for n in range(slices)],
            waits_for=[key for key, _ in awaited],
        )
        works = list({id(w): w for _, w in awaited}.values())
        if any(w.state in IN_VAIN | {"quarantined"} for w in works):
            with pytest.raises(DependencyFailed):
                self._submit(job)
            return
        self._submit(job)
        work = Work("blocked", [Part() for _ in range(slices)], works)
        work.settle()
        for each in works:
            each.waited_for_by.append(work)
        self.jobs[job.id] = work

    @precondition(lambda self: self.jobs)
    @rule(which=some)
    def cancel(self, which: int) -> None:
        key, work = self._job(which)
        ledger, db = self.house.adapters.jobs, self.house.adapters.db
        if work.state in {"succeeded", "failed", "quarantined"}:
            with pytest.raises(JobFinished), db.transaction() as tx:
                ledger.cancel(tx, key)
            return
        with db.transaction() as tx:
            assert ledger.cancel(tx, key).state.value == "cancelled"
        if work.state != "cancelled":
            work.end("cancelled")
        self._bury()

    @precondition(lambda self: self.jobs)
    @rule(which=some)
    def retry(self, which: int) -> None:
        key, work = self._job(which)
        ledger, db = self.house.adapters.jobs, self.house.adapters.db
        if work.state != "quarantined":
            with pytest.raises(NotQuarantined), db.transaction() as tx:
                ledger.retry(tx, key)
            return
        with db.transaction() as tx:
            ledger.retry(tx, key)
        work.state = "queued"
        for part in work.parts:
            if part.state == "quarantined":
                part.state, part.crashes = "queued", 0

    # ------------------------------------------------------------ what workers do

    @rule()
    def claim(self) -> None:
        adapters = self.house.adapters
        ask = Ask("stub", "stub", "a worker", running_cap=1000)
        lease = claim(adapters.db, adapters.bell, ask, Event())
        if lease is None:
            assert not any(work.runnable for work in self.jobs.values())
            return
        work = self.jobs[lease.job]
        assert work.runnable
        part = work.parts[lease.payload["n"]]
        assert part is next(p for p in work.parts if p.state == "queued")
        part.state = work.state = "running"
        self.held.append((lease, work, part))

    @precondition(lambda self: self.held)
    @rule(which=some, more=st.integers(0, 1))
    def finish(self, which: int, more: int) -> None:
        lease, work, part = self._held(which)
        with lease.finishing([{"n": len(work.parts) + n} for n in range(more)]):
            pass
        part.state = "done"
        work.parts += [Part() for _ in range(more)]
        if all(p.state == "done" for p in work.parts):
            work.end("succeeded")
        self._bury()

    @precondition(lambda self: self.held)
    @rule(which=some)
    def fail(self, which: int) -> None:
        lease, work, part = self._held(which)
        lease.fail(Unprocessable("no usable row"))
        part.state = "failed"
        work.end("failed")
        self._bury()

    @precondition(lambda self: self.held)
    @rule(which=some)
    def release(self, which: int) -> None:
        lease, _, part = self._held(which)
        lease.give_back("asked to stop")
        part.state = "queued"
        self._bury()

    @precondition(lambda self: self.held)
    @rule(which=some)
    def crash(self, which: int) -> None:
        lease, work, part = self._held(which)
        lease.give_back("boom", crashed=True)
        work.crash(part)
        self._bury()

    @precondition(lambda self: self.held)
    @rule(which=some)
    def all_but_one_die(self, which: int) -> None:
        """Who does not beat for the time of a lease loses it to the sweeper."""
        survivor, _, _ = self._held(which)
        assert all(lease.beat() for lease, _, _ in self.held)
        self.sweeper.sweep()
        self.now += 0.6 * LEASE_S
        assert survivor.beat()
        self.sweeper.sweep()
        self.now += 0.6 * LEASE_S
        self.sweeper.sweep()
        dead = [(work, part) for lease, work, part in self.held if lease is not survivor]
        for work, part in sorted(dead, key=lambda each: each[0].parts.index(each[1])):
            if part.state == "running":  # not given back meanwhile, its job set aside
                work.crash(part)
        self._bury(survivor)

    @precondition(lambda self: self.zombies)
    @rule(which=some)
    def a_zombie_writes(self, which: int) -> None:
        zombie = self.zombies[which % len(self.zombies)]
        with pytest.raises(LeaseLost), zombie.finishing([{"n": 99}]):
            pass
        with pytest.raises(LeaseLost), zombie.writing():
            pass
        assert not zombie.beat()
        zombie.give_back("late", crashed=True)
        zombie.fail(Unprocessable("late"))

    # ------------------------------------------------------------ what must hold

    @invariant()
    def both_stand_alike(self) -> None:
        rows = self.house.query(
            "SELECT j.id, j.state, s.state AS part, s.crashes FROM jobs.jobs j "
            "JOIN jobs.slices s ON s.job = j.id ORDER BY j.id, s.ordinal"
        )
        real: dict[UUID, tuple[str, list[tuple[str, int]]]] = {}
        for row in rows:
            real.setdefault(row.id, (row.state, []))[1].append((row.part, row.crashes))
        model = {
            key: (work.state, [(p.state, p.crashes) for p in work.parts])
            for key, work in self.jobs.items()
        }
        assert real == model

    # ------------------------------------------------------------ inside

    def _submit(self, job: NewJob) -> None:
        with self.house.adapters.db.transaction() as tx:
            self.house.adapters.jobs.submit(tx, job)

    def _job(self, which: int) -> tuple[UUID, Work]:
        return list(self.jobs.items())[which % len(self.jobs)]

    def _held(self, which: int) -> tuple[Lease, Work, Part]:
        return self.held[which % len(self.held)]

    def _bury(self, survivor: Lease | None = None) -> None:
        """Leases whose part runs no more are zombies from now on; so is all but the survivor."""
        held, self.held = self.held, []
        for lease, work, part in held:
            if part.state == "running" and (survivor is None or lease is survivor):
                self.held.append((lease, work, part))
            else:
                self.zombies.append(lease)


def test_row_33_every_order_of_moves(house) -> None:
    house.stop_lasting()  # the only sweeper is the one whose moves the model knows
    machine = type("Transitions", (Transitions,), {"house": house})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
