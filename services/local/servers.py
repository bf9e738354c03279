"""The three servers of a lab on one machine, as real ones, without root and without Docker."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.local.children import Child, Command
from services.local.postgres import Postgres
from services.local.seaweed import Seaweed
from services.local.state import State
from services.local.valkey import Valkey

DEATHS = 6
READY_S = 60.0


@dataclass(frozen=True)
class Endpoints:
    """What a process must be told to use the servers."""

    database_url: str
    broker_url: str
    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: str
    s3_folder: Path


class Recipe(Protocol):
    """How one server is made ready, started and asked whether it works."""

    @property
    def name(self) -> str: ...
    @property
    def ports(self) -> tuple[str, ...]:
        """The names of the ports that it keeps."""
        ...

    @property
    def leftovers(self) -> tuple[Path, ...]:
        """Files outside the state folder that it leaves behind."""
        ...

    def prepare(self) -> None: ...
    def command(self) -> Command: ...
    def probe(self) -> None:
        """Raise unless a real request works."""
        ...


class ServerFailed(Exception):
    """A server did not come up; the message ends with what it logged last."""


class Servers:
    """Postgres, Valkey and SeaweedFS of one state folder."""

    def __init__(self, state: Path) -> None:
        self.state = State(state)
        self.postgres = Postgres(self.state)
        self.valkey = Valkey(self.state)
        self.seaweed = Seaweed(self.state)
        self._recipes: tuple[Recipe, ...] = (self.seaweed, self.valkey, self.postgres)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(recipe.name for recipe in self._recipes)

    def start(self) -> Endpoints:
        """Adopt what runs, start what does not, and return when all answer real requests."""
        with self.state.lock("servers"):
            for recipe in self._recipes:
                if self._child(recipe).pid() is None:
                    self._launch(recipe)
            for recipe in self._recipes:
                self._await(recipe)
        return self.endpoints()

    def launch(self, name: str) -> int:
        """Start one server unless it runs, and do not wait until it answers."""
        recipe = next(each for each in self._recipes if each.name == name)
        with self.state.lock("servers"):
            return self._child(recipe).pid() or self._launch(recipe)

    def check(self) -> None:
        """Raise `ServerFailed` unless all of them answer real requests."""
        for recipe in self._recipes:
            try:
                recipe.probe()
            except Exception as error:
                raise ServerFailed(f"{recipe.name} does not answer") from error

    def stop(self) -> None:
        with self.state.lock("servers"):
            children = [self._child(recipe) for recipe in self._recipes]
            for child in children:
                child.signal()
            for child in children:
                child.await_end()
            for recipe in self._recipes:
                for file in recipe.leftovers:
                    file.unlink(missing_ok=True)

    def running(self) -> dict[str, int]:
        """Name to pid of those that run."""
        pids = {recipe.name: self._child(recipe).pid() for recipe in self._recipes}
        return {name: pid for name, pid in pids.items() if pid is not None}

    def endpoints(self) -> Endpoints:
        return Endpoints(
            database_url=self.postgres.url("postgresql+psycopg"),
            broker_url=self.valkey.url(),
            s3_endpoint=self.seaweed.endpoint,
            s3_access_key=self.state.secret("s3_access_key"),
            s3_secret_key=self.state.secret("s3_secret_key"),
            s3_folder=self.seaweed.folder,
        )

    def _child(self, recipe: Recipe) -> Child:
        return Child(self.state, recipe.command())

    def _launch(self, recipe: Recipe) -> int:
        self._child(recipe).end_leftovers()  # it may still hold ports and files
        self.state.settle_ports(recipe.ports)
        recipe.prepare()
        return self._child(recipe).spawn()

    def _await(self, recipe: Recipe) -> None:
        """Wait for a real answer; start again what dies on the way.

        After a kill -9 of the postmaster the first restart can fail while an old backend lives.
        """
        deadline = time.monotonic() + READY_S
        deaths = 0
        while True:
            try:
                recipe.probe()
            except Exception as error:
                child = self._child(recipe)
                dead = child.pid() is None
                if time.monotonic() > deadline or (dead and deaths == DEATHS):
                    raise ServerFailed(f"{recipe.name}: {error}\n{child.last_words()}") from error
                if dead:
                    self._launch(recipe)
                    deaths += 1
                time.sleep(0.5 if deaths > 1 else 0.05)
            else:
                return
