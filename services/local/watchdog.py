"""The process that starts the supervisor again when it was killed. The supervisor does the same
for it, so that either of the two may die.

`python -m services.local.watchdog STATE`
"""

import hashlib
import signal
import sys
import threading
import time
from pathlib import Path

from services.kit import logging
from services.local.children import CODE, Child, Command, inherited
from services.local.patience import Patience
from services.local.state import State

SUPERVISOR = "supervisor"
WATCHDOG = "watchdog"
LOCK = "installation"
"""`up`, `down` and `migrate` hold this lock of the state folder. Nobody is revived meanwhile."""
LOOK_S = 0.5

log = logging.get_logger(__name__)


def supervisor(state: State) -> Command:
    return _command(state, SUPERVISOR, grace_s=100.0)  # it waits for its workers first


def watchdog(state: State) -> Command:
    return _command(state, WATCHDOG, grace_s=10.0)


def revive(state: State, command: Command, patience: Patience) -> None:
    """Start this process unless it runs, or somebody is starting or stopping the installation."""
    child = Child(state, command)
    if child.pid() is not None or not patience.allows(time.monotonic()):
        return
    with state.lock_if_free(LOCK) as free:
        if free and child.pid() is None:
            patience.note_start(time.monotonic())
            log.info("started", child=command.name, pid=child.spawn())


def code_digest(root: Path = CODE) -> str:
    """Over the code that would be started now: a supervisor of other code is replaced by `up`."""
    digest = hashlib.sha256()
    for package in ("api_schemas", "migrations", "services"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _command(state: State, name: str, grace_s: float) -> Command:
    return Command(
        name=name,
        arguments=(sys.executable, "-m", f"services.local.{name}", str(state.root)),
        environment={"PYTHONPATH": str(CODE), "SYNTHORAX_CODE": code_digest()},
        inherited=inherited(),
        grace_s=grace_s,
    )


def main() -> None:
    logging.configure("INFO")
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    state = State(Path(sys.argv[1]))
    watched, patience = supervisor(state), Patience()
    while not ending.wait(LOOK_S):
        try:
            revive(state, watched, patience)
        except Exception as error:  # noqa: BLE001 - a full disk, most likely: it must not end the watch
            log.error("the supervisor cannot be started", why=str(error))  # noqa: TRY400 - its words


if __name__ == "__main__":
    main()
