"""One installation on this machine: what its processes are told, and how they are started.

What a person asked for (folders to import from, a device) is kept in the state folder, so that
the supervisor and every later `up` see the same. Each process gets only the settings it needs:
a change then restarts just those that it concerns.
"""

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from services.local import processes
from services.local.children import CODE, Command, inherited
from services.local.seaweed import BUCKET
from services.local.servers import Endpoints
from services.local.state import State

HOST = "127.0.0.1"
TUNABLE = (
    "MLFLOW_TRACKING_URI",
    *(
        f"SYNTHORAX_{name}"
        for name in (
            "DEVICE",
            "LOG_LEVEL",
            "LEASE_S",
            "HEARTBEAT_S",
            "SWEEP_S",
            "STALL_S",
            "OWNER_CAP",
            "QUEUED_CAP",
            "COLLECT_GRACE_S",
            "COLLECT_EVERY_S",
            "GENERATION_THREADS",
            "GENERATION_PROCESSES",
            "GENERATION_IMAGE_QUOTA",
            "GENERATION_CHANNELS_LAST",
            "GENERATION_COMPILE",
            "TRAINING_CACHE_GIB",
            "TRAINING_CHANNELS_LAST",
            "TRAINING_COMPILE",
            "TRAINING_PROCESSES",
        )
    ),
)
"""Settings that whoever runs `up` may give in the environment; they are kept for the next `up`."""

FEW_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1") | {
    "POLARS_MAX_THREADS": "2"
}
"""For all but the torch workers: their cores belong to those."""

TORCH = {"GOMP_SPINCOUNT": "3000"}
"""Threads that wait for each other spin for a moment, then sleep. Without end they would be
several times slower on busy cores; not at all, nearly twice as slow on idle ones."""

WEB = "web"
IMPORTERS = (WEB, "cpu")
"""The processes that look below the import roots."""


class Installation:
    """The processes of one state folder, as they should be now."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.file = state.root / "installation.json"

    def ask(self, import_roots: Iterable[Path]) -> list[str]:
        """Add folders below which datasets may be imported; take this shell's tunables.

        A tunable that an earlier `up` was given stays until another value is given; an empty value
        drops it. Answers the names of those that stay without having been given again.
        """
        roots = {*self.import_roots, *(str(root.resolve(strict=True)) for root in import_roots)}
        given = {name: os.environ[name] for name in TUNABLE if name in os.environ}
        tuned = {name: value for name, value in (self._tuned | given).items() if value}
        asked = {"import_roots": sorted(roots), "tuned": tuned}
        if asked != self.state.read(self.file, None):
            self.state.write_json(self.file, asked)
        return sorted(tuned.keys() - given.keys())

    @property
    def _tuned(self) -> dict[str, str]:
        return self.state.read(self.file, {}).get("tuned", {})

    @property
    def import_roots(self) -> list[str]:
        return self.state.read(self.file, {}).get("import_roots", [])

    @property
    def folders(self) -> dict[str, Path]:
        """What the installation writes to, by what a person calls it."""
        names = {
            "database": "postgres",
            "object store": "seaweed",
            "broker": "valkey",
            "scratch": "scratch",
            "logs": "logs",
            "records": "run",
        }
        return {called: self.state.root / name for called, name in names.items()}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.state.port(WEB)}"

    @property
    def names(self) -> tuple[str, ...]:
        """The processes that should run, in the order in which they are started."""
        return (WEB, *processes.WORKERS)

    def command(self, name: str, endpoints: Endpoints) -> Command:
        """How the web process or a worker is started."""
        if name == WEB:
            return self._command(
                name, processes.web("gateway", HOST, self.state.port(WEB)), endpoints
            )
        worker = processes.WORKERS[name]
        return self._command(name, worker.arguments, endpoints, torch=worker.torch)

    def migrations(self, endpoints: Endpoints) -> Command:
        return self._command("migrations", processes.MIGRATIONS, endpoints)

    def first_key(self, endpoints: Endpoints, *asked: str) -> Command:
        return self._command("first-key", (*processes.FIRST_KEY, *asked), endpoints)

    def verification(self, endpoints: Endpoints, *asked: str) -> Command:
        return self._command("verify", (*processes.VERIFY, *asked), endpoints)

    def upkeep(self, endpoints: Endpoints, *asked: str) -> Command:
        return self._command("upkeep", (*processes.UPKEEP, *asked), endpoints)

    def _command(
        self, name: str, arguments: tuple[str, ...], endpoints: Endpoints, *, torch: bool = False
    ) -> Command:
        environment = {"PYTHONPATH": str(CODE), **self._settings(endpoints)}
        environment |= TORCH if torch else FEW_THREADS
        if name in IMPORTERS:
            environment["SYNTHORAX_IMPORT_ROOTS"] = os.pathsep.join(self.import_roots)
        return Command(
            name=name,
            arguments=(sys.executable, *arguments),
            environment=environment,
            inherited=inherited(),
            folder=self.state.folder("work"),
            grace_s=60.0,  # a worker finishes its step and writes a checkpoint
        )

    def _settings(self, endpoints: Endpoints) -> dict[str, str]:
        state, url = self.state, self.url
        settings = {
            "DATABASE_URL": endpoints.database_url,
            "BROKER_URL": endpoints.broker_url,
            "S3_ENDPOINT": endpoints.s3_endpoint,
            "S3_ACCESS_KEY": endpoints.s3_access_key,
            "S3_SECRET_KEY": endpoints.s3_secret_key,
            "S3_FOLDER": str(endpoints.s3_folder),
            "BUCKET": BUCKET,
            "S3_COMPACT": shlex.join((sys.executable, *processes.COMPACTING, str(state.root))),
            "KEY_PEPPER": state.secret("key_pepper"),
            "PSEUDONYM_KEY": state.secret("pseudonym_key"),
            "SERVICE_SECRET": state.secret("service_secret"),
            "SCRATCH": str(state.folder("scratch")),
            "DATASETS_URL": url,
            "GENERATION_URL": url,
            "TRAINING_URL": url,
            "EVALUATION_URL": url,
        }
        named = {f"SYNTHORAX_{name}": value for name, value in settings.items()}
        return named | self._tuned
