"""The folder that makes a restart the same installation: secrets, ports, pid records, logs.

It knows files and their modes; it does not know what the secrets open or what listens on the
ports.
"""

import fcntl
import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from services.kit.syncing import sync

PORTS = range(10_000, 22_000)
"""Below the kernel's ephemeral range, so that no outgoing connection takes a port we keep; so is
each of them plus 10,000, which SeaweedFS uses as well."""

SETTLE_S = 2.0


class State:
    """A private folder (0700); every file that it writes is private too (0600)."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        for folder in (self.root, self.secrets, self.records, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def records(self) -> Path:
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def secret(self, name: str) -> str:
        """256 random bits under this name, made when first asked for."""
        file = self.secrets / name
        if not file.exists():
            with self.lock("secrets"):
                if not file.exists():
                    self.write(file, secrets.token_urlsafe(32))
        return file.read_text()

    def port(self, name: str) -> int:
        """The port kept under this name; a free one is chosen when first asked for."""
        ports = self._ports()
        if name not in ports:
            with self.lock("ports"):
                ports = self._ports()
                if name not in ports:
                    ports[name] = _free_port(set(ports.values()))
                    self.write_json(self._port_file, ports)
        return ports[name]

    def settle_ports(self, names: Collection[str]) -> None:
        """Before a start: a process just killed may hold its ports for a moment, so wait; a
        stranger keeps them, so choose others.
        """
        deadline = time.monotonic() + SETTLE_S
        while not all(port_is_free(self.port(name)) for name in names):
            if time.monotonic() > deadline:
                with self.lock("ports"):
                    kept = {name: port for name, port in self._ports().items() if name not in names}
                    self.write_json(self._port_file, kept)
                return
            time.sleep(0.05)

    def read(self, file: Path, otherwise: Any) -> Any:
        return json.loads(file.read_text()) if file.exists() else otherwise

    def write_json(self, file: Path, value: Any) -> None:
        self.write(file, json.dumps(value, indent=1, sort_keys=True))

    def write(self, file: Path, text: str) -> None:
        """Replace the file in one step, so that a reader or a crash never sees half of it.

        Raises `OSError` when the system refuses, as on a full disk; the old file stays then.
        """
        fresh = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            fresh.replace(file)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        sync(file.parent)  # a secret whose name a power cut took would be made anew

    @contextmanager
    def lock(
        self, name: str, holder: str = "", report: Callable[[str], None] = lambda _: None
    ) -> Generator[None]:
        """One holder at a time, over processes; the kernel frees it when the holder dies.

        Whoever has to wait reports who holds the lock: `holder` says what that process does.
        """
        with self._open_lock(name) as file:
            if not _try_lock(file):
                report(f"waiting for {file.read() or 'another process'}")
                fcntl.flock(file, fcntl.LOCK_EX)
            if holder:
                _sign(file, f"`{holder}` (process {os.getpid()})")
            yield

    @contextmanager
    def lock_if_free(self, name: str) -> Generator[bool]:
        """The same lock without waiting; false when somebody else holds it."""
        with self._open_lock(name) as file:
            yield _try_lock(file)

    def _open_lock(self, name: str) -> IO[str]:
        flags = os.O_RDWR | os.O_CREAT
        return os.fdopen(os.open(self.records / f"{name}.lock", flags, 0o600), "r+")

    @property
    def _port_file(self) -> Path:
        return self.root / "ports.json"

    def _ports(self) -> dict[str, int]:
        return self.read(self._port_file, {})


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(file: IO[str], holder: str) -> None:
    """Leave word of the holder for those who wait; a full disk must not prevent the work."""
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.pwrite(file.fileno(), holder.encode(), 0)


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port(taken: set[int]) -> int:
    candidates = list(PORTS)
    random.shuffle(candidates)
    return next(port for port in candidates if port not in taken and port_is_free(port))
