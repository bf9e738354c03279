"""The background process that brings an installation up and keeps it up.

`python -m services.local.supervisor STATE` starts the servers, migrates, starts the processes, and
from then on makes what runs equal what should run: a child that died comes back, with growing
pauses; a child whose settings changed is replaced. It holds nothing that a successor could not
read from the state folder: after a kill -9 the next one adopts its children.
"""

import hashlib
import math
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from services.kit import logging
from services.local.children import Child, Command
from services.local.installation import CODE, WEB, Installation, inherited
from services.local.servers import Endpoints, ServerFailed, Servers
from services.local.state import State

NAME = "supervisor"
LOOK_S = 0.5
LONGEST_PAUSE_S = 30.0
HEALTHY_S = 60.0
UP = "up"
FAILED = "failed: "

log = logging.get_logger(__name__)


class MigrationFailed(Exception):
    """The schemas could not be upgraded; the message ends with what was logged last."""


@dataclass
class Patience:
    """How long to wait before a child that keeps dying is started again."""

    pause_s: float = 0.0
    started: float = -math.inf

    def allows(self, now: float) -> bool:
        return now >= self.started + self.pause_s

    def note_start(self, now: float) -> None:
        calm = now - self.started > HEALTHY_S
        self.pause_s = 0.0 if calm else min(max(self.pause_s * 2, LOOK_S), LONGEST_PAUSE_S)
        self.started = now


class Supervisor:
    """Brings up and keeps up what one state folder describes."""

    def __init__(self, root: Path) -> None:
        self.servers = Servers(root)
        self.state = self.servers.state
        self.installation = Installation(self.state)
        self._patience: dict[str, Patience] = {}
        self._ending = threading.Event()

    def end(self, *_: object) -> None:
        self._ending.set()

    def run(self) -> None:
        """Until `end`; then everything is stopped, the workers before the servers they use."""
        try:
            self._bring_up()
            while not self._ending.wait(LOOK_S):
                self._look()
        except (ServerFailed, MigrationFailed) as error:
            tell(self.state, f"{FAILED}{error}")
            raise
        finally:
            log.info("stopping")
            stop_all(self.servers)

    def _bring_up(self) -> None:
        tell(self.state, "starting Postgres, Valkey and the object store")
        endpoints = self.servers.start()
        tell(self.state, "migrating the database")
        self._keep(WEB, endpoints)  # it takes its time to import, and asks for no table till then
        migrate(self.installation, endpoints)
        self._look()
        tell(self.state, UP)

    def _look(self) -> None:
        """Make what runs equal what should run."""
        gone = set(self.servers.names) - set(self.servers.running())
        if gone:
            log.info("starting again", servers=sorted(gone))
            try:
                self.servers.start()
            except ServerFailed as error:
                log.error("a server does not come back", why=str(error))  # noqa: TRY400 - its words, which the log leaves out
                return
        endpoints = self.servers.endpoints()
        for name in self.installation.names:
            self._keep(name, endpoints)

    def _keep(self, name: str, endpoints: Endpoints) -> None:
        child = Child(self.state, self.installation.command(name, endpoints))
        if child.current():
            return
        patience = self._patience.setdefault(name, Patience())
        if child.pid() is not None:
            log.info("replacing: its settings changed", child=name)
            child.stop()
        elif not patience.allows(time.monotonic()):
            return
        if name == WEB:
            self.state.settle_ports([WEB])
            child = Child(self.state, self.installation.command(name, endpoints))
        patience.note_start(time.monotonic())
        log.info("started", child=name, pid=child.spawn())


def code_digest(root: Path = CODE) -> str:
    """Over the code that would be started now: a supervisor of other code is replaced by `up`."""
    digest = hashlib.sha256()
    for package in ("api_schemas", "migrations", "services"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def supervisor(state: State) -> Child:
    """The supervisor of this state folder as a child of whoever asks."""
    command = Command(
        name=NAME,
        arguments=(sys.executable, "-m", "services.local.supervisor", str(state.root)),
        environment={"PYTHONPATH": str(CODE), "SYNTHORAX_CODE": code_digest()},
        inherited=inherited(),
        grace_s=100.0,  # it waits for its workers first
    )
    return Child(state, command)


def migrate(installation: Installation, endpoints: Endpoints) -> None:
    """Upgrade every schema; raises `MigrationFailed`."""
    child = Child(installation.state, installation.migrations(endpoints))
    if child.run() != 0:
        raise MigrationFailed(child.last_words())


def stop_all(servers: Servers) -> None:
    """Stop every process that has a record, the servers last."""
    state, known = servers.state, {NAME, *servers.names}
    names = [record.stem for record in state.records.glob("*.json") if record.stem not in known]
    children = [Child(state, Command(name, (), grace_s=60.0)) for name in names]
    for child in children:
        child.signal()
    for child in children:
        child.await_end()
    servers.stop()


def tell(state: State, phase: str) -> None:
    """Say how far it has come, for whoever waits."""
    state.write(state.records / "phase", phase)


def main() -> None:
    logging.configure("INFO")
    supervisor = Supervisor(Path(sys.argv[1]))
    signal.signal(signal.SIGTERM, supervisor.end)
    supervisor.run()


if __name__ == "__main__":
    main()
