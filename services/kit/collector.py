"""Objects that no row names, removed when they are old enough.

A worker puts an object before it commits the row that names it, so a crash in between, or a late
write of a worker that lost its lease, leaves an orphan. Knows folders; every service tells which
keys of its folders its rows name.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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
TURN_S = 2.0

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
        self._walk: Iterator[Tally] | None = None
        self._due = time.monotonic()

    def collect_if_due(self) -> None:
        """Walk on for a turn of some seconds, or do nothing; an error ends the walk, not the
        caller. The next walk begins `every_s` after the last one ended.
        """
        if self._walk is None and time.monotonic() < self._due:
            return
        self._walk = self._walk or self.walk()
        turn_ends = time.monotonic() + TURN_S
        try:
            for _ in self._walk:
                if time.monotonic() > turn_ends:
                    return
        except (*AWAY, S3Error, OSError) as error:
            log.warning("collecting stopped", error=type(error).__name__)
        self._walk = None
        self._due = time.monotonic() + self._every_s

    def collect(self) -> Tally:
        """One whole walk."""
        tally = Tally()
        for tally in self.walk():  # noqa: B007 - the last one tells all
            pass
        return tally

    def walk(self) -> Iterator[Tally]:
        """A walk, page by page; it may be left off at any point."""
        horizon = self._store.now() - self._grace
        tally = Tally()
        listing = self._store.listing(ROOT)
        while page := list(islice(listing, PAGE)):
            tally.seen += len(page)
            self._remove(self._orphans(page, horizon, tally), horizon, tally)
            yield tally
        log.info("collected", **vars(tally))

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
