"""Use cases of the command line: up, down, status. The work itself is the supervisor's."""

import getpass
import os
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import httpx2
import psutil

from services.local.children import Child, Command
from services.local.disks import describe_full_disks
from services.local.installation import Installation
from services.local.servers import Endpoints, Servers
from services.local.supervisor import FAILED, UP, migrate, stop_all
from services.local.watchdog import LOCK, SUPERVISOR, WATCHDOG, supervisor, watchdog

WAIT_S = 180.0
LOOK_S = 0.1
STARTS = 3
PROJECT = "lab"


class NotUp(Exception):
    """The installation did not come up; the message says where to look."""


@dataclass(frozen=True)
class Access:
    """Where a client finds the running suite, and with which key."""

    url: str
    key: str


@dataclass(frozen=True)
class ProcessRow:
    """One line of `status`."""

    name: str
    pid: int | None
    since_s: float = 0.0
    memory_bytes: int = 0


class Launcher:
    """Brings the installation of one state folder up and down."""

    def __init__(self, root: Path, announce: Callable[[str], None] = lambda _: None) -> None:
        """`announce` hears for whom this has to wait, when somebody else is at the same folder,
        and which settings of an earlier `up` stay.
        """
        self._announce = announce
        self.servers = Servers(root)
        self.state = self.servers.state
        self.installation = Installation(self.state)
        self.client_file = self.state.root / "client.env"

    def up(
        self,
        import_roots: Iterable[Path] = (),
        report: Callable[[str], None] = lambda _: None,
    ) -> Access:
        """Make it run as asked, or find that it does; returns when an authenticated request works.

        Raises `NotUp` when it does not come up, with what the failing part logged last; the
        supervisor goes on trying until `down`.
        """
        with self.state.lock(LOCK, "up", self._announce):
            kept = self.installation.ask(import_roots)
            if kept:
                self._announce(
                    f"Settings of an earlier `up` stay: {', '.join(kept)} "
                    f"(values in {self.installation.file}; an empty value drops one)"
                )
            keepers = self._keepers()
            if any(keeper.pid() and not keeper.current() for keeper in keepers):
                for keeper in reversed(keepers):  # what runs was started from other code
                    keeper.stop()
            starts = 0
            deadline = time.monotonic() + WAIT_S
            while not (all(keeper.pid() for keeper in keepers) and self._stands()):
                phase = self._phase() if starts else "starting"
                report(phase)
                if phase.startswith(FAILED) or starts > STARTS:
                    raise NotUp(f"{phase}\n{keepers[0].last_words()}")
                if time.monotonic() > deadline:
                    raise NotUp(f"{phase}\nno answer within {WAIT_S:.0f} s; see {self.state.logs}")
                if keepers[0].pid() is None:  # not started yet, or killed while we watch
                    (self.state.records / "phase").unlink(missing_ok=True)
                    starts += 1
                for keeper in keepers:
                    if keeper.pid() is None:
                        keeper.spawn()
                time.sleep(LOOK_S)
            return self._write_access(self._key() or "")

    def down(self) -> list[str]:
        """Stop everything, whether or not a supervisor is left to do it; names what ran."""
        with self.state.lock(LOCK, "down", self._announce):
            ran = [row.name for row in self.status() if row.pid is not None]
            for keeper in reversed(self._keepers()):
                keeper.stop()
            stop_all(self.servers)
            return ran

    def migrate(self) -> None:
        """Upgrade every schema; servers that had to be started for it are stopped again."""
        with self._with_servers("migrate") as endpoints:
            migrate(self.installation, endpoints)

    def verify(self, *, content: bool = False) -> str:
        """Walk rows against objects; servers that had to be started for it are stopped again.

        Raises `CalledProcessError` with what was found when an object is missing or altered.
        """
        asked = ("--content",) if content else ()
        with self._with_servers("verify") as endpoints:
            return Child(self.state, self.installation.verification(endpoints, *asked)).output()

    def upkeep(self, *asked: str) -> int:
        """Run a command of `services.gateway.upkeep` in this terminal; its exit status.

        Servers that had to be started for it are stopped again.
        """
        with self._with_servers(asked[0]) as endpoints:
            return Child(self.state, self.installation.upkeep(endpoints, *asked)).show()

    @contextmanager
    def _with_servers(self, doing: str) -> Generator[Endpoints]:
        with self.state.lock(LOCK, doing, self._announce):
            ran = self.servers.running()
            endpoints = self.servers.start()
            try:
                yield endpoints
            finally:
                if not ran:
                    self.servers.stop()

    def status(self) -> list[ProcessRow]:
        names = (WATCHDOG, SUPERVISOR, *self.servers.names, *self.installation.names)
        return [_row(name, Child(self.state, Command(name, ())).pid()) for name in names]

    def problems(self) -> list[str]:
        """What a person should know or do: full disks, and what the supervisor fails at."""
        found = describe_full_disks(self.installation.folders)
        supervised = Child(self.state, Command(SUPERVISOR, ())).pid() is not None
        if supervised and self._phase() != UP:
            found.append(f"The supervisor says: {self._phase()}")
        return found

    def _keepers(self) -> tuple[Child, Child]:
        """The supervisor, which stops everything when it is told to end, and the watchdog."""
        return Child(self.state, supervisor(self.state)), Child(self.state, watchdog(self.state))

    def _phase(self) -> str:
        file = self.state.records / "phase"
        return file.read_text() if file.exists() else "starting"

    def _stands(self) -> bool:
        """Whether every process runs with the settings it should have now, and the web answers."""
        if self._phase() != UP:
            return False
        endpoints = self.servers.endpoints()
        commands = [self.installation.command(name, endpoints) for name in self.installation.names]
        if not all(Child(self.state, command).current() for command in commands):
            return False
        key = self._key() or self._mint()  # the web process is still importing: no time is lost
        answer = self._ask(key)
        if answer == HTTPStatus.UNAUTHORIZED:  # expired, revoked, or of another database
            self._mint()
        return answer == HTTPStatus.OK

    def _ask(self, key: str) -> int | None:
        """The status of `GET /me`, None while nobody listens."""
        headers = {"Authorization": f"Bearer {key}"}
        try:
            return httpx2.get(f"{self.installation.url}/me", headers=headers, timeout=5).status_code
        except httpx2.TransportError:
            return None

    def _key(self) -> str | None:
        if not self.client_file.exists():
            return None
        lines = self.client_file.read_text().splitlines()
        given = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        return given.get("SYNTHORAX_KEY")

    def _mint(self) -> str:
        asked = ("--person", getpass.getuser(), "--project", PROJECT, "--name", "first key")
        asked += ("--installation-admin",)  # whoever starts it on this machine runs it
        key = Child(
            self.state, self.installation.first_key(self.servers.endpoints(), *asked)
        ).output()
        self._write_access(key.strip())
        return key

    def _write_access(self, key: str) -> Access:
        access = Access(self.installation.url, key)
        lines = f"export SYNTHORAX_URL={access.url}\nexport SYNTHORAX_KEY={access.key}\n"
        if not self.client_file.exists() or self.client_file.read_text() != lines:
            self.state.write(self.client_file, lines)
        return access


def _row(name: str, pid: int | None) -> ProcessRow:
    if pid is None:
        return ProcessRow(name, None)
    try:
        process = psutil.Process(pid)
        helpers = [each for each in process.children() if os.getsid(each.pid) == pid]
        memory = sum(each.memory_info().rss for each in (process, *helpers))
        return ProcessRow(name, pid, time.time() - process.create_time(), memory)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return ProcessRow(name, None)
