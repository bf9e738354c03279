"""One worker: hears a bell, runs one slice, rings again if more is runnable.

Knows nothing of what a slice does; that is its handler's matter.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from uuid import UUID

import httpx2
import structlog
import urllib3
from minio.error import S3Error
from sqlalchemy import Connection, text
from sqlalchemy.exc import InterfaceError, OperationalError

from services.kit.bell import Bell
from services.kit.db import Database
from services.kit.errors import ProblemError, Unavailable
from services.kit.jobs.leases import Claim, Lease, LeaseLost, Released, claim
from services.kit.logging import get_logger

log = get_logger(__name__)

Handler = Callable[[Lease], None]

TICK_S = 0.5
AWAY_DELAY_S = 5.0
STALLED_EXIT = 70

AWAY = (
    OperationalError,
    InterfaceError,
    urllib3.exceptions.HTTPError,
    httpx2.TransportError,
    Unavailable,
)
"""Errors that mean a server is away: requeued after a while, no failure counted."""

STORE_BUSY = frozenset({"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout"})


def _away(error: Exception) -> bool:
    return isinstance(error, AWAY) or (isinstance(error, S3Error) and error.code in STORE_BUSY)


def _requeue(lease: Lease, error: Exception) -> None:
    if _away(error):
        log.warning("a server is away", error=type(error).__name__)
        lease.give_back(AWAY_DELAY_S)
    else:
        log.error("slice crashed", error=type(error).__name__, exc_info=error)
        lease.give_back(2.0**lease.attempt, crashed=True)


class Runner:
    """Runs slices of one queue and service, one at a time."""

    def __init__(
        self,
        db: Database,
        bell: Bell,
        handlers: Mapping[str, Handler],
        ask: Claim,
        *,
        heartbeat_s: float = 10.0,
        stall_s: float = 900.0,
        device: str | None = None,
    ) -> None:
        """`device` names what only one worker may use at a time, across processes."""
        self._db = db
        self._bell = bell
        self._handlers = handlers
        self._ask = ask
        self._heartbeat_s = heartbeat_s
        self._stall_s = stall_s
        self._device = device
        self._warm: UUID | None = None
        self.draining = threading.Event()

    def drain(self) -> None:
        """Stop claiming; the handler at work sees `should_stop` and releases its slice."""
        self.draining.set()

    def answer_bell(self) -> bool:
        """Run one slice; ring on when there was one. Returns whether there was."""
        ran = self.run_one()
        if ran and not self.draining.is_set():
            self._bell.ring(self._ask.queue)
        return ran

    def run_one(self) -> bool:
        """Claim and run one slice; False when nothing is runnable."""
        with self._exclusive_device():
            if self.draining.is_set():
                return False
            lease = claim(self._db, self._bell, self._ask, self._warm, self.draining)
            if lease is None:
                return False
            self._warm = lease.job
            with structlog.contextvars.bound_contextvars(job=str(lease.job), kind=lease.kind):
                self._run(lease)
        return True

    def _run(self, lease: Lease) -> None:
        with self._heartbeat(lease):
            try:
                self._handlers[lease.kind](lease)
            except LeaseLost:
                log.info("slice given up: cancelled, or leased to another")
            except Released:
                lease.give_back()
            except ProblemError as error:
                if isinstance(error, Unavailable):
                    _requeue(lease, error)
                else:
                    log.info("slice failed", problem=error.problem.type)
                    lease.fail(error)
            except Exception as error:  # noqa: BLE001 - the last resort: crashed, tried again
                _requeue(lease, error)
            else:
                if not lease.lost.is_set():
                    log.error("handler returned without finishing its slice")
                    lease.give_back(crashed=True)

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
        beaten = time.monotonic()
        while not over.wait(min(TICK_S, self._heartbeat_s)) and not lease.lost.is_set():
            now = time.monotonic()
            if now - lease.last_sign > self._stall_s:
                self._end_stalled(lease)
            if not lease.unwritten and now - beaten < self._heartbeat_s:
                continue
            try:
                lease.beat()
                beaten = now
            except AWAY as error:
                log.warning("heartbeat missed", error=type(error).__name__)
                if now - beaten > self._ask.lease_s:
                    lease.lost.set()

    def _end_stalled(self, lease: Lease) -> None:
        log.error("no progress within the stall limit; ending this process", limit_s=self._stall_s)
        lease.give_back(crashed=True)
        os._exit(STALLED_EXIT)

    @contextmanager
    def _exclusive_device(self) -> Generator[None]:
        """Hold the device's advisory lock; waiters are served in the order they came."""
        if self._device is None:
            yield
            return
        key = f"device:{self._device}"
        engine = self._db.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("SET lock_timeout = '2s'"))
            held = False
            while not held and not self.draining.is_set():
                held = self._try_lock(connection, key)
            try:
                yield
            finally:
                if held:
                    connection.execute(
                        text("SELECT pg_advisory_unlock(hashtextextended(:key, 0))"), {"key": key}
                    )
                connection.execute(text("RESET lock_timeout"))

    def _try_lock(self, connection: Connection, key: str) -> bool:
        try:
            connection.execute(
                text("SELECT pg_advisory_lock(hashtextextended(:key, 0))"), {"key": key}
            )
        except OperationalError as error:
            if "lock timeout" not in str(error.orig):
                raise
            return False
        return True
