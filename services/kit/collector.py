"""Objects that no row names, removed when they are old enough.

A worker puts an object before it commits the row that names it, so a crash in between, or a late
write of a worker that lost its lease, leaves an orphan. Knows folders; every service tells which
keys of its folders its rows name.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from minio.error import S3Error

from services.kit.db import Database, Tx
from services.kit.jobs import lineage
from services.kit.jobs.faults import AWAY, StoreMismatch
from services.kit.jobs.pairing import ROOT, Pairing, resource_of
from services.kit.logging import get_logger
from services.kit.objects import Listed, ObjectStore

log = get_logger(__name__)

PAGE = 1000
MOST = 1000
"""A round removes no more objects than this, and no more than one in `ONE_IN`, unless told to."""
ONE_IN = 100

Named = Callable[[Tx, UUID, Sequence[str]], set[str]]
"""Of some keys of a resource's folder, those that rows name; any more do no harm."""


@dataclass
class Tally:
    """What a round has met. `unnamed` are old enough to be removed, and no row names them."""

    seen: int = 0
    unnamed: int = 0
    removed: int = 0
    unclaimed: int = 0

    @property
    def allowed(self) -> int:
        """How many objects a round may remove without being told to."""
        return min(max(1, self.seen // ONE_IN), MOST)


class Collector:
    """Walks `projects/{project}/{folder}/{resource}/...` and removes what nobody names.

    `named` says it by folder; what lies in no such folder is left alone. Age is told by the
    store's clock alone. Only younger objects can be of a slice that has yet to commit: `grace_s`
    is longer than any slice, and what belongs to an unfinished job is left until that has ended.

    Leftovers are few. Where more than a few of all objects seem to be leftovers, the database is
    the wrong one or a service has forgotten its rows: nothing is removed then until a person has
    looked and says how many.
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
        self._pairing = Pairing(db, store)
        self._named = named
        self._grace = timedelta(seconds=grace_s)
        self._every_s = every_s

    def run(self, ending: threading.Event, after: Callable[[], None] = lambda: None) -> None:
        """A round, then `after`, and again `every_s` later until told to end; an error ends a
        round, not the caller.
        """
        while not ending.is_set():
            try:
                self.collect(ending)
                after()
            except StoreMismatch as error:
                log.error("nothing is removed", why=str(error))  # noqa: TRY400 - our own words
            except (*AWAY, S3Error, OSError) as error:
                log.warning("collecting stopped", error=type(error).__name__)
            ending.wait(self._every_s)

    def collect(self, ending: threading.Event | None = None, most: int | None = None) -> Tally:
        """One round: look at every object, then remove those that no row names, all or none.

        Raises `StoreMismatch` where the store is not this database's. `most` is said by a person
        who has looked; without it a round stays within `Tally.allowed`.
        """
        self._pairing.count_round()
        horizon = self._store.now() - self._grace
        tally, found = self._look(horizon, most or MOST, ending)
        if ending is not None and ending.is_set():
            return tally
        allowed = tally.allowed if most is None else most
        if tally.unnamed <= allowed:
            self._remove(found, horizon, tally)
        else:
            log.error(
                "more objects without a row than a round may remove; none was removed",
                unnamed=tally.unnamed,
                allowed=allowed,
                seen=tally.seen,
                advice="python -m services.gateway.upkeep collect --most N, after a look",
            )
        log.info("collected", **vars(tally))
        return tally

    def look(self) -> Tally:
        """What a round would meet; removes nothing."""
        tally, _ = self._look(self._store.now() - self._grace, 0, None)
        return tally

    def _look(
        self, horizon: datetime, keep: int, ending: threading.Event | None
    ) -> tuple[Tally, list[str]]:
        """The tally of all objects, page by page, and the first `keep` of those without a row."""
        tally = Tally()
        found: list[str] = []
        listing = self._store.listing(ROOT)
        while page := list(islice(listing, PAGE)):
            tally.seen += len(page)
            orphans = self._orphans(page, horizon, tally)
            tally.unnamed += len(orphans)
            found += orphans[: max(0, keep - len(found))]
            if ending is not None and ending.is_set():
                break
        return tally, found

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

    def _remove(self, found: Sequence[str], horizon: datetime, tally: Tally) -> None:
        """Remove them unless a row names them by now, or somebody has just put the same bytes
        there again.
        """
        for part in _batches(found, PAGE):
            aged = [(k, at) for k in part if (at := self._store.changed(k)) is not None]
            listed = [Listed(key, at) for key, at in aged]
            still = self._orphans(listed, horizon, Tally())
            self._store.remove(still)
            tally.removed += len(still)


def _batches(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (keys[first : first + size] for first in range(0, len(keys), size))


def _place(key: str) -> tuple[str, UUID] | None:
    """Folder and resource of `projects/{project}/{folder}/{resource}/...`."""
    resource = resource_of(key)
    return None if resource is None else (key.split("/")[2], resource)
