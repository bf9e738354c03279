"""One background process by its record: start it, find it again, stop it.

A record holds the process's number and what proves that the process is still the recorded one: the
boot of the machine, the moment of its start and its command line. The number alone proves nothing:
after a crash the system gives it to somebody else. A later launcher so adopts what runs, never
signals a stranger, and notices that a process was started with other settings than it should have
now.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals

import psutil

from services.local.state import State

CODE = Path(__file__).parents[2]
LOG_BYTES = 16 * 1024 * 1024
MARK = "SYNTHORAX_CHILD"
"""The variable by which a child, and what it starts itself, can be told from every stranger."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_spawned: dict[int, subprocess.Popen[bytes]] = {}
"""Children of this very process: they must be reaped here, or they stay as zombies."""


@dataclass(frozen=True)
class Command:
    """What to run. `environment` is all that the process gets beside `inherited` variables."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    inherited: tuple[str, ...] = ("PATH", "HOME", "TMPDIR")
    folder: Path | None = None
    stop_signal: Signals = SIGTERM
    grace_s: float = 15.0

    @property
    def digest(self) -> str:
        told = json.dumps([self.arguments, sorted(self.environment.items())])
        return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True)
class Record:
    """A process as it was when it was started; `digest` is that of its command and settings."""

    pid: int
    boot: str
    started: float | None
    arguments: list[str]
    digest: str

    @property
    def lives(self) -> bool:
        """Whether the process with this number is still the one that was recorded."""
        if self.started is None or self.boot != _boot():
            return False
        if _started(self.pid) != self.started:
            return False
        try:
            command = psutil.Process(self.pid).cmdline()
        except psutil.ZombieProcess:
            return True  # it is still dying, and has no command line any more
        except psutil.Error:
            return False
        # a wrapper is replaced by what it runs, which is the end of the arguments
        return command == self.arguments[len(self.arguments) - len(command) :]


class Child:
    """The process that runs a command for this state folder, if any."""

    def __init__(self, state: State, command: Command) -> None:
        self.state = state
        self.command = command
        self.record = state.records / f"{command.name}.json"
        self.log = state.logs / f"{command.name}.log"

    def pid(self) -> int | None:
        """The living process of the record, or None; a dead child of ours is reaped."""
        record = self._recorded()
        if record is None:
            return None
        ours = _spawned.get(record.pid)
        if ours is not None and ours.poll() is not None:
            del _spawned[record.pid]
        return record.pid if record.lives else None

    def current(self) -> bool:
        """Whether it runs, and with the command as it should be now."""
        if self.pid() is None:
            return False
        record = self._recorded()
        return record is not None and record.digest == self.command.digest

    def spawn(self) -> int:
        """Start it in a session of its own: it outlives this process and its terminal.

        Raises `OSError` when the system refuses, as on a full disk; nothing runs then.
        """
        self.end_leftovers()
        process = self._start()
        record = Record(
            pid=process.pid,
            boot=_boot(),
            started=_started(process.pid),
            arguments=list(self.command.arguments),
            digest=self.command.digest,
        )
        try:
            self.state.write_json(self.record, asdict(record))
        except BaseException:  # without a record nobody would find it again
            process.kill()
            process.wait()
            raise
        _spawned[process.pid] = process
        return process.pid

    def output(self) -> str:
        """Start it and return what it prints; raises `CalledProcessError` with it when it fails.

        What it prints goes to the caller alone, not into the log: it may be a secret.
        """
        process = self._start(subprocess.PIPE)
        printed, _ = process.communicate()
        if process.returncode != 0:
            raise subprocess.CalledProcessError(
                process.returncode, self.command.name, printed.decode()
            )
        return printed.decode()

    def show(self) -> int:
        """Start it, pass on what it prints to this terminal, and return its exit status."""
        process = self._start(subprocess.PIPE)
        printed, _ = process.communicate()
        sys.stdout.write(printed.decode())
        return process.returncode

    def run(self) -> int:
        """Start it, wait for its end and return its exit status; one at a time."""
        self.await_end()
        status = _spawned[self.spawn()].wait()
        self.record.unlink()
        return status

    def signal(self) -> None:
        """Ask it to stop, and do not wait."""
        if (pid := self.pid()) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, self.command.stop_signal)

    def kill(self) -> None:
        """End it at once, with what it started itself."""
        if (pid := self.pid()) is not None:
            with suppress(ProcessLookupError):
                os.killpg(pid, SIGKILL)  # it leads a group of its own since it was started

    def await_end(self) -> None:
        """Wait for as long as it was promised, then end it and what it left behind."""
        deadline = time.monotonic() + self.command.grace_s
        while self.pid() is not None:
            if time.monotonic() > deadline:
                self.kill()
            time.sleep(0.02)
        self.end_leftovers()
        self.record.unlink(missing_ok=True)

    def stop(self) -> None:
        self.signal()
        self.await_end()

    def last_words(self, lines: int = 15) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _start(self, stdout: int | None = None) -> subprocess.Popen[bytes]:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        wanted = self.command.inherited
        inherited = {name: os.environ[name] for name in wanted if name in os.environ}
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return subprocess.Popen(
                self.command.arguments,
                cwd=self.command.folder or self.state.root,
                env=inherited | dict(self.command.environment) | {MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=stdout or descriptor,
                stderr=descriptor,
                start_new_session=True,
                umask=0o077,
            )
        finally:
            os.close(descriptor)

    @property
    def _mark(self) -> str:
        return f"{self.command.name} of {self.state.root}"

    def _recorded(self) -> Record | None:
        """The record; None when there is none, or one that was written by other code."""
        try:
            return Record(**self.state.read(self.record, None))
        except (TypeError, ValueError):
            return None

    def end_leftovers(self) -> None:
        """End what a dead process left behind: a loader's helpers, a Postgres that still computes.

        The process itself is among them when it was started but could not be recorded.
        """
        record = self._recorded()
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError, PermissionError):
                if self._left(process, record):
                    process.kill()

    def _left(self, process: psutil.Process, record: Record | None) -> bool:
        if process.environ().get(MARK) == self._mark:
            return True
        # Postgres overwrites the environment of its processes; they stay in session and folder
        if record is None or record.boot != _boot() or os.getsid(process.pid) != record.pid:
            return False
        return Path(process.cwd()).is_relative_to(self.state.root)


def inherited() -> tuple[str, ...]:
    """What every process of ours takes over: paths, locale, CUDA's variables; never settings."""
    return tuple(name for name in os.environ if not name.startswith(("SYNTHORAX_", "PYTHON")))


def _boot() -> str:
    """Which start of the machine this is: process numbers and start times begin anew with it."""
    if BOOT_ID.exists():
        return BOOT_ID.read_text().strip()
    return str(int(psutil.boot_time()) // 60)


def _started(pid: int) -> float | None:
    """When this process started; None if there is no such process or only its exit status is left.

    On Linux in clock ticks since boot: psutil adds the boot time, which moves when somebody sets
    the clock, and a process would then look like another one.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1:
            return None  # with threads left it is still dying, and may hold its ports
        if sys.platform == "linux":
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return float(after_name[19])  # field 22 of proc(5); the state, field 3, is the first
        return process.create_time()
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None
