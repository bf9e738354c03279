"""A worker of datasets that says what it has just done, so that a test can kill it there.

`python -m tests.datasets.killed_worker` runs slices until none is left.
"""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from services.datasets.worker import handlers
from services.kit.adapters import Adapters
from services.kit.db import Database, Tx
from services.kit.objects import ObjectStore
from services.kit.settings import Settings
from services.kit.worker import runner


def say(what: str) -> None:
    sys.stdout.write(what + "\n")
    sys.stdout.flush()


class TalkingDatabase(Database):
    @contextmanager
    def transaction(self) -> Generator[Tx]:
        with super().transaction() as tx:
            yield tx
        say("committed")


class TalkingStore(ObjectStore):
    def put(self, *args: Any, **kwargs: Any) -> None:
        super().put(*args, **kwargs)
        say("put")


def main() -> None:
    adapters = Adapters.connect(Settings.read())
    adapters.db.__class__ = TalkingDatabase
    adapters.store.__class__ = TalkingStore
    worker = runner(adapters, "datasets", "cpu", handlers(adapters))
    while worker.run_one():
        pass


if __name__ == "__main__":
    main()
