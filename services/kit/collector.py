"""Objects that no row names, removed when they are old enough.

A worker puts an object before it commits the row that names it, so a crash in between, or a late
write of a worker that lost its lease, leaves an orphan. Knows folders; every service tells which
keys of its folders its rows name.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from minio.error import S3Error

from services.kit.db import Database, Tx
from services.kit.jobs import lineage
from services.kit.jobs.faults import AWAY
from services.kit.logging import get_logger
from services.kit.objects import Listed, ObjectStore

log = get_logger(__name__)

ROOT = "projects/"
PAGE = 1000

Named = Callable[[Tx, UUID, Sequence[str]], set[str]]
"""Of some keys of a resource's folder, those that rows name; any more do no harm."""


@dataclass
class Tally:
    """What a walk has met."""

    seen: int = 0
    removed: int = 0
    unclaimed: int = 0


class Collector:
    """Walks `projects/{project}/{folder}/{resource}/...` and removes what nobody names.

    `named` says it by folder; what lies in no such folder is left alone. Age is told by the
    store's clock alone. Only younger objects can be of a slice that has yet to commit: `grace_s`
    is longer than any slice, and what belongs to an unfinished job is left until that has ended.
    """

    def __init__(
        self,
        db: Database,
        store: ObjectStore,
        named: Mapping[str, Named],
        *,
        grace_s: float,
        every_s: float,
    ) -> None:
        self._db = db
        self._store = store
        self._named = named
        self._grace = timedelta(seconds=grace_s)
        self._every_s = every_s

    def run(self, ending: threading.Event) -> None:
        """Walk, and again `every_s` after the walk has ended, until told to end; an error ends a
        walk, not the caller.
        """
        while not ending.is_set():
            try:
                self.collect(ending)
            except (*AWAY, S3Error, OSError) as error:
                log.warning("collecting stopped", error=type(error).__name__)
            ending.wait(self._every_s)

    def collect(self, ending: threading.Event | None = None) -> Tally:
        """One walk, page by page; it may be left off at any point."""
        horizon = self._store.now() - self._grace
        tally = Tally()
        listing = self._store.listing(ROOT)
        while page := list(islice(listing, PAGE)):
            tally.seen += len(page)
            self._remove(self._orphans(page, horizon, tally), horizon, tally)
            if ending is not None and ending.is_set():
                break
        log.info("collected", **vars(tally))
        return tally

    def _orphans(self, page: Sequence[Listed], horizon: datetime, tally: Tally) -> list[str]:
        by_resource: dict[tuple[str, UUID], list[str]] = defaultdict(list)
        for key, changed in page:
            place = _place(key)
            if place is None or place[0] not in self._named:
                tally.unclaimed += 1
            elif changed < horizon:
                by_resource[place].append(key)
        with self._db.transaction() as tx:
            # Asked before the rows: a job that ends in between has committed them by then.
            jobs = lineage.unfinished(tx.session, [resource for _, resource in by_resource])
            busy = {job.resource for job in jobs}
            return [
                key
                for (folder, resource), keys in by_resource.items()
                if resource not in busy
                for key in sorted({*keys} - self._named[folder](tx, resource, keys))
            ]

    def _remove(self, orphans: Sequence[str], horizon: datetime, tally: Tally) -> None:
        """Remove them unless somebody has just put the same bytes there again."""
        old = [k for k in orphans if (at := self._store.changed(k)) is not None and at < horizon]
        self._store.remove(old)
        tally.removed += len(old)


def _place(key: str) -> tuple[str, UUID] | None:
    """Folder and resource of `projects/{project}/{folder}/{resource}/...`."""
    match key.split("/"):
        case [_, _, folder, resource, *rest] if rest:
            try:
                return folder, UUID(resource)
            except ValueError:
                return None
        case _:
            return None
