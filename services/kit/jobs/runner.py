"""One worker: hears a bell, runs one slice, sees to it that the next bell rings.

Knows nothing of what a slice does; that is its handler's matter.
"""

import os
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from uuid import UUID

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from services.kit.bell import Bell
from services.kit.db import Database
from services.kit.jobs import faults
from services.kit.jobs.devices import Device
from services.kit.jobs.fairness import SHORT_ALLOWANCE_S, Ask, Choice
from services.kit.jobs.faults import StoreMismatch
from services.kit.jobs.integrity import note_damage
from services.kit.jobs.leases import Lease, LeaseLost, Released, claim
from services.kit.jobs.presence import Presence
from services.kit.logging import get_logger
from services.kit.objects import ObjectMissing

log = get_logger(__name__)

Handler = Callable[[Lease], None]

TICK_S = 0.5
AWAY_DELAY_S = 5.0
LONGEST_DELAY_S = 60.0
PATIENCE_S = 2.0
DEVICE_WAIT_S = 2.0
STALLED_EXIT = 70

DATABASE_AWAY = (OperationalError, InterfaceError)


class Runner:
    """Runs slices of one queue and service, one at a time."""

    def __init__(
        self,
        db: Database,
        bell: Bell,
        handlers: Mapping[str, Handler],
        ask: Ask,
        *,
        heartbeat_s: float = 10.0,
        stall_s: float = 900.0,
        device: str | None = None,
    ) -> None:
        """`device` names what this worker shares with others; it is locked while a slice runs
        that needs it.
        """
        self._db = db
        self._bell = bell
        self._handlers = handlers
        self._ask = ask
        self._heartbeat_s = heartbeat_s
        self._stall_s = stall_s
        self._device = None if device is None else Device(db, device)
        self._warm: UUID | None = None
        self.presence = Presence(db, ask, device or "")
        self.draining = threading.Event()

    def drain(self) -> None:
        """Stop claiming; the handler at work sees `should_stop` and releases its slice."""
        self.draining.set()

    def answer_bell(self) -> bool:
        """Run one slice and see that a bell rings for what is left; whether there was one.

        The next bell rings before the slice runs: another worker need not wait for its end. A short
        job keeps its turn: its next slices follow at once, for up to a minute.
        """
        return self._take_turn(self._ring_on, self._keeps_turn)

    def run_one(self) -> bool:
        """Claim and run one slice; False when nothing is runnable."""
        return self._take_turn(lambda: None, lambda _lease, _began: False)

    def _take_turn(
        self, claimed: Callable[[], None], keeps: Callable[[Lease, float], bool]
    ) -> bool:
        try:
            lease = self._claim_on_device()
            if lease is None:
                return False
            claimed()
            began = time.monotonic()
            self._perform(lease)
            while keeps(lease, began):
                further = self._claim(Choice(only=lease.job))
                if further is None:
                    break
                self._perform(further)
        finally:
            if self._device is not None:
                self._device.release()
        claimed()
        return True

    def _keeps_turn(self, lease: Lease, began: float) -> bool:
        on_device = self._device is None or self._device.is_held
        in_time = time.monotonic() - began < SHORT_ALLOWANCE_S
        return lease.short and on_device and in_time and not self.draining.is_set()

    def _claim_on_device(self) -> Lease | None:
        """The fairest slice once the device is ours; while it is not, one that needs none."""
        device = self._device
        while device is not None and not self.draining.is_set() and not device.acquire():
            lease = self._claim(Choice(off_device=True)) if self._ask.off_device else None
            if lease is not None:
                return lease
            if device.acquire(DEVICE_WAIT_S):
                break
        if self.draining.is_set():
            return None
        lease = self._claim(Choice(warm=self._warm))
        if lease is not None and device is not None and self._leaves_device(lease):
            device.release()
        return lease

    def _claim(self, choice: Choice) -> Lease | None:
        return claim(self._db, self._bell, self._ask, self.draining, choice)

    def _leaves_device(self, lease: Lease) -> bool:
        """Whether others may have the device meanwhile; what a short job plans follows at once."""
        planned = lease.short and lease.payload.get("step") == "plan"
        return self._keeps_books(lease) and not planned

    def _keeps_books(self, lease: Lease) -> bool:
        return f"{lease.kind}/{lease.payload.get('step', '')}" in self._ask.off_device

    def _perform(self, lease: Lease) -> None:
        if not self._keeps_books(lease):
            self._warm = lease.job  # whose model is loaded from now on
        with structlog.contextvars.bound_contextvars(job=str(lease.job), kind=lease.kind):
            self._run(lease)

    def _ring_on(self) -> None:
        self._bell.ring_if_silent(self._ask.queue)

    def _run(self, lease: Lease) -> None:
        with self._heartbeat(lease):
            try:
                self._handlers[lease.kind](lease)
            except LeaseLost:
                log.info("slice given up: cancelled, or leased to another")
                if lease.out_of_touch:
                    self._settle(lambda: lease.give_back("the database was away"))
            except Released as released:
                reason = str(released) or "its handler asked for a pause"
                delay_s = released.delay_s
                self._settle(lambda: lease.give_back(reason, delay_s))
            except Exception as error:  # noqa: BLE001 - the last resort: crashed, tried again
                self._after(lease, error)
            else:
                if not lease.lost.is_set():
                    log.error("handler returned without finishing its slice")
                    self._settle(lambda: lease.give_back("it did not finish", crashed=True))

    def _after(self, lease: Lease, error: Exception) -> None:
        """Give the slice back, or end its job: whichever the error calls for."""
        lacking = faults.absence(error)
        if lacking is not None:
            log.warning("slice given back", reason=lacking, error=type(error).__name__)
            # until a person has looked, sooner would only fill the ledger
            waits = LONGEST_DELAY_S if isinstance(error, StoreMismatch) else AWAY_DELAY_S
            self._settle(lambda: lease.give_back(lacking, waits))
            return
        with suppress(*DATABASE_AWAY):  # then the next reader notes it
            note_damage(self._db, error)
        problem = faults.verdict(error)
        if problem is not None and not (isinstance(error, ObjectMissing) and lease.attempt == 1):
            # what is missing may have been removed with its row, which a second look shows
            log.info("slice failed", problem=problem.problem.type)
            self._settle(lambda: lease.fail(problem))
            return
        # Where, not what: an error's own words may quote a path or a value that names a patient.
        trace = "".join(traceback.format_tb(error.__traceback__))
        log.error("slice crashed", error=type(error).__name__, trace=trace)
        reason = f"{type(error).__name__} in the worker; its log tells more"
        delay_s = min(2.0**lease.attempt, LONGEST_DELAY_S)
        self._settle(lambda: lease.give_back(reason, delay_s, crashed=True))

    def _settle(self, tell: Callable[[], None]) -> None:
        """Tell the database how the slice ended, however long it is away.

        There is nothing else that this worker could do meanwhile. Should it be told to stop, the
        sweeper will find the slice.
        """
        while True:
            try:
                return tell()
            except DATABASE_AWAY as error:
                log.warning("the database is away", error=type(error).__name__)
                if self.draining.wait(PATIENCE_S):
                    return None

    # ------------------------------------------------------------ heartbeat

    @contextmanager
    def _heartbeat(self, lease: Lease) -> Generator[None]:
        over = threading.Event()
        thread = threading.Thread(
            target=self._beat_until, args=(lease, over), name="heartbeat", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _beat_until(self, lease: Lease, over: threading.Event) -> None:
        while not over.wait(min(TICK_S, self._heartbeat_s)) and not lease.lost.is_set():
            now = time.monotonic()
            if now - lease.last_sign > self._stall_s:
                self._end_stalled(lease)
            if not lease.unwritten and now - lease.last_beat < self._heartbeat_s:
                continue
            try:
                lease.beat()
            except DATABASE_AWAY as error:
                log.warning("heartbeat missed", error=type(error).__name__)

    def _end_stalled(self, lease: Lease) -> None:
        log.error("no progress within the stall limit; ending this process", limit_s=self._stall_s)
        try:
            lease.give_back(f"no progress for {self._stall_s:.0f} s", crashed=True)
        finally:
            os._exit(STALLED_EXIT)
