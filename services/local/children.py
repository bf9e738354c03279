"""One background process by its record: start it, find it again, stop it.

A record holds the pid, when that process started and a digest of its command, so that a later
launcher adopts what runs, never signals a stranger that was given an old pid, and notices when a
process was started with other settings than it should have now.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals

import psutil

from services.local.state import State

LOG_BYTES = 16 * 1024 * 1024
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


class Child:
    """The process that runs a command for this state folder, if any."""

    def __init__(self, state: State, command: Command) -> None:
        self.state = state
        self.command = command
        self.record = state.records / f"{command.name}.json"
        self.log = state.logs / f"{command.name}.log"

    def pid(self) -> int | None:
        """The living process of the record, or None; a dead child of ours is reaped."""
        record = self.state.read(self.record, None)
        if record is None:
            return None
        pid = record["pid"]
        if (ours := _spawned.get(pid)) is not None:
            if ours.poll() is None:
                return pid
            del _spawned[pid]
            return None
        return pid if _started(pid) == record["started"] else None

    def current(self) -> bool:
        """Whether it runs, and with the command as it should be now."""
        if self.pid() is None:
            return False
        return self.state.read(self.record, {}).get("digest") == self.command.digest

    def spawn(self) -> int:
        """Start it in a session of its own: it outlives this process and its terminal."""
        self._end_leftovers()
        process = self._start()
        _spawned[process.pid] = process
        record = {
            "pid": process.pid,
            "started": _started(process.pid),
            "digest": self.command.digest,
        }
        self.state.write_json(self.record, record)
        return process.pid

    def output(self) -> str:
        """Start it and return what it prints; raises `CalledProcessError` when it fails.

        What it prints goes to the caller alone, not into the log: it may be a secret.
        """
        process = self._start(subprocess.PIPE)
        printed, _ = process.communicate()
        if process.returncode != 0:
            raise subprocess.CalledProcessError(process.returncode, self.command.name)
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

    def await_end(self) -> None:
        """Wait for as long as it was promised, then end it and what it left behind."""
        deadline = time.monotonic() + self.command.grace_s
        while (pid := self.pid()) is not None:
            if time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    os.killpg(pid, SIGKILL)
            time.sleep(0.02)
        self._end_leftovers()
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
                env=inherited | dict(self.command.environment),
                stdin=subprocess.DEVNULL,
                stdout=stdout or descriptor,
                stderr=descriptor,
                start_new_session=True,
                umask=0o077,
            )
        finally:
            os.close(descriptor)

    def _end_leftovers(self) -> None:
        """End what a dead process left in its session (Celery's beat, a loader's helpers).

        While a session has members its number is given to no new process: who is in it is ours.
        """
        record = self.state.read(self.record, None)
        if record is None or psutil.pid_exists(record["pid"]):
            return
        for pid in psutil.pids():
            with suppress(ProcessLookupError, PermissionError):
                if os.getsid(pid) == record["pid"]:
                    os.kill(pid, SIGKILL)


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
