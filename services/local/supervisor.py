"""The background process that brings an installation up and keeps it up.

`python -m services.local.supervisor STATE` makes what runs equal what should run, again and again:
it starts the servers, migrates, and starts the processes. A child that died comes back, with
growing pauses; a child whose settings changed is replaced. A server that is away, or a full disk,
ends neither the supervisor nor the other processes. It holds nothing that a successor could not
read from the state folder: after a kill -9 the watchdog starts the next one, which adopts its
children.
"""

import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from services.kit import logging
from services.local.children import Child, Command
from services.local.installation import WEB, Installation
from services.local.patience import Patience
from services.local.servers import Endpoints, ServerFailed, Servers
from services.local.watchdog import LOOK_S, SUPERVISOR, WATCHDOG, revive, watchdog

STARTING_LOOK_S = 0.05
SETTLED_S = 10.0
"""A process that has run for so long since its last start is in no trouble any more."""
UP = "up"
FAILED = "failed: "
MIGRATIONS = "migrations"

log = logging.get_logger(__name__)


class MigrationFailed(Exception):
    """The schemas could not be upgraded; the message ends with what was logged last."""


class Supervisor:
    """Brings up and keeps up what one state folder describes."""

    def __init__(self, root: Path) -> None:
        self.servers = Servers(root)
        self.state = self.servers.state
        self.installation = Installation(self.state)
        self._watchdog = watchdog(self.state)
        self._migrated = False
        self._patience: defaultdict[str, Patience] = defaultdict(Patience)
        self._troubles: dict[str, str] = {}
        self._leaving: dict[str, float] = {}
        self._phase = ""
        self._ending = threading.Event()

    def end(self, *_: object) -> None:
        self._ending.set()

    def run(self) -> None:
        """Until `end`; then everything is stopped, the workers before the servers they use."""
        try:
            while not self._ending.wait(self._pause_s):
                if self._attempt(SUPERVISOR, self._look):
                    self._troubles.pop(SUPERVISOR, None)
                self._tell(self._phase)
        finally:
            log.info("stopping")
            stop_all(self.servers)

    @property
    def _pause_s(self) -> float:
        return LOOK_S if self._migrated or self._troubles else STARTING_LOOK_S

    def _look(self) -> None:
        """Make what runs equal what should run."""
        if self._attempt(WATCHDOG, self._revive_watchdog):
            self._troubles.pop(WATCHDOG, None)
        running = self.servers.running()
        for name in self.servers.names:
            if name in running:
                self._note_running(name)
            else:
                self._start(name, partial(self.servers.launch, name))
        endpoints = self.servers.endpoints()
        self._keep(WEB, endpoints)  # before the servers answer: it takes its time to import
        if not self._migrated:
            self._migrate(endpoints)
        if self._migrated:
            for name in self.installation.names:
                self._keep(name, endpoints)
            self._tell(UP)

    def _revive_watchdog(self) -> None:
        revive(self.state, self._watchdog, self._patience[WATCHDOG])

    def _migrate(self, endpoints: Endpoints) -> None:
        """Upgrade the schemas as soon as the servers answer."""
        try:
            self.servers.check()
        except ServerFailed as error:
            self._tell(f"starting Postgres, Valkey and the object store: {error}")
            return
        self._tell("migrating the database")
        patience = self._patience[MIGRATIONS]
        if not patience.allows(time.monotonic()):
            return
        patience.note_start(time.monotonic())
        if self._attempt(MIGRATIONS, partial(migrate, self.installation, endpoints)):
            self._troubles.pop(MIGRATIONS, None)
            self._migrated = True

    def _keep(self, name: str, endpoints: Endpoints) -> None:
        child = Child(self.state, self.installation.command(name, endpoints))
        if child.current():
            self._note_running(name)
        elif child.pid() is None:
            self._leaving.pop(name, None)
            self._start(name, partial(self._spawn, name, endpoints))
        elif name not in self._leaving:
            log.info("replacing: its settings changed", child=name)
            self._leaving[name] = time.monotonic() + child.command.grace_s
            child.signal()
        elif time.monotonic() > self._leaving[name]:
            child.kill()

    def _spawn(self, name: str, endpoints: Endpoints) -> int:
        if name == WEB:
            self.state.settle_ports([WEB])
        return Child(self.state, self.installation.command(name, endpoints)).spawn()

    def _start(self, name: str, start: Callable[[], int]) -> None:
        """Start what does not run, unless it died a moment ago. A failure is noted, not raised."""
        patience = self._patience[name]
        if not patience.allows(time.monotonic()):
            return
        patience.note_start(time.monotonic())
        if not self._attempt(name, lambda: log.info("started", child=name, pid=start())):
            return
        if patience.hopeless:
            last_words = Child(self.state, Command(name, ())).last_words()
            self._troubles[name] = f"it has ended each time it was started\n{last_words}"

    def _note_running(self, name: str) -> None:
        if time.monotonic() - self._patience[name].started > SETTLED_S:
            self._troubles.pop(name, None)

    def _attempt(self, name: str, act: Callable[[], object]) -> bool:
        """Whether it went well; if not, the trouble is logged and kept for `status`."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - nothing may end the supervisor
            log.error("failed", child=name, why=str(error))  # noqa: TRY400 - its words, which the log leaves out
            self._troubles[name] = str(error)
            return False
        return True

    def _tell(self, phase: str) -> None:
        """Say how far it has come, or what is wrong, for whoever waits. On a full disk: later."""
        if self._troubles:
            phase = FAILED + "\n".join(f"{name}: {why}" for name, why in self._troubles.items())
        if phase != self._phase:
            with suppress(OSError):
                self.state.write(self.state.records / "phase", phase)
                self._phase = phase


def migrate(installation: Installation, endpoints: Endpoints) -> None:
    """Upgrade every schema; raises `MigrationFailed`."""
    child = Child(installation.state, installation.migrations(endpoints))
    if child.run() != 0:
        raise MigrationFailed(child.last_words())


def stop_all(servers: Servers) -> None:
    """Stop every process that has a record, the servers last."""
    state, known = servers.state, {SUPERVISOR, *servers.names}
    names = [record.stem for record in state.records.glob("*.json") if record.stem not in known]
    children = [Child(state, Command(name, (), grace_s=60.0)) for name in names]
    for child in children:
        child.signal()
    for child in children:
        child.await_end()
    servers.stop()


def main() -> None:
    logging.configure("INFO")
    supervisor = Supervisor(Path(sys.argv[1]))
    signal.signal(signal.SIGTERM, supervisor.end)
    supervisor.run()


if __name__ == "__main__":
    main()
