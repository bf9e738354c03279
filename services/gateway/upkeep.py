"""What whoever runs an installation does to its object store by hand, after a look.

`python -m services.gateway.upkeep adopt` shows what the database and the store hold, and with
`--yes` declares that they belong together. `collect` shows how many objects no row names, and
with `--most N` removes them if they are no more than that.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.worker import collector
from services.kit.adapters import Adapters
from services.kit.jobs import lineage
from services.kit.jobs.faults import StoreMismatch
from services.kit.jobs.pairing import ROOT, Nameplate, Pairing, resource_of
from services.kit.settings import Settings

CHUNK = 10_000


@dataclass(frozen=True)
class Holdings:
    """What a database and a store hold, and whether they belong together."""

    database: Nameplate
    store: Nameplate | None
    mismatch: str
    resources: Counter[str]
    objects: int
    objects_of_known: int
    unnamed: int

    def lines(self) -> list[str]:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.resources.items()))
        theirs = "of no installation"
        if self.store is not None:
            theirs = f"of installation {self.store.id}, round {self.store.rounds}"
        foreign = self.objects - self.objects_of_known
        return [
            f"Database: of installation {self.database.id}, round {self.database.rounds}",
            f"  keeps {kinds or 'nothing'}",
            f"Store: {theirs}",
            f"  {self.objects} objects, {foreign} of them of things that the database never knew",
            f"  {self.unnamed} objects are old enough to be removed, and no row names them",
            self.mismatch or "They belong together.",
        ]


class Upkeep:
    """The database and the store of an installation, side by side."""

    def __init__(self, adapters: Adapters) -> None:
        self._adapters = adapters
        self._pairing = Pairing(adapters.db, adapters.store)
        self._collector = collector(adapters)

    def look(self) -> Holdings:
        try:
            self._pairing.check()
            mismatch = ""
        except StoreMismatch as error:
            mismatch = str(error)
        with self._adapters.db.transaction() as tx:
            resources = lineage.count_kinds(tx.session)
        self._adapters.store.ensure_bucket()
        by_resource = Counter(resource_of(key) for key in self._adapters.store.keys(ROOT))
        ids = [each for each in by_resource if each is not None]
        known = {
            found
            for first in range(0, len(ids), CHUNK)
            for found in self._pairing.known(ids[first : first + CHUNK])
        }
        return Holdings(
            database=self._pairing.of_database(),
            store=self._pairing.of_store(),
            mismatch=mismatch,
            resources=resources,
            objects=by_resource.total(),
            objects_of_known=sum(by_resource[each] for each in known),
            unnamed=self._collector.look().unnamed,
        )

    def adopt(self) -> None:
        self._pairing.adopt()

    def collect(self, most: int) -> int:
        """Remove what no row names if that is no more than `most`; answers how many went."""
        removed = self._collector.collect(most=most).removed
        self._adapters.erasure.compact()
        return removed


def _show(upkeep: Upkeep) -> Holdings:
    holdings = upkeep.look()
    sys.stdout.write("\n".join(holdings.lines()) + "\n")
    return holdings


def _adopt(upkeep: Upkeep, *, yes: bool) -> int:
    holdings = _show(upkeep)
    if not holdings.mismatch:
        return 0
    if not yes:
        sys.stdout.write(
            "Nothing was changed. If this store is to belong to this database from now on, run "
            "the same with --yes.\n"
        )
        return 1
    upkeep.adopt()
    sys.stdout.write(
        "Adopted: they belong together from now on. Nothing was removed. Objects that no row "
        "names stay until 'collect' is told how many to remove, unless they are few.\n"
    )
    return 0


def _collect(upkeep: Upkeep, most: int | None) -> int:
    holdings = _show(upkeep)
    if holdings.mismatch:
        return 1
    if most is None:
        sys.stdout.write(f"Nothing was removed; --most {holdings.unnamed} removes them.\n")
        return 0
    sys.stdout.write(f"{upkeep.collect(most)} objects removed\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m services.gateway.upkeep",
        description="Look at the database and the object store side by side.",
    )
    orders = parser.add_subparsers(dest="order", required=True)
    adopt = orders.add_parser("adopt", help="declare that the store belongs to the database")
    adopt.add_argument("--yes", action="store_true", help="do it; without it only look")
    collect = orders.add_parser("collect", help="remove objects that no row names")
    collect.add_argument("--most", type=int, help="remove them if they are no more than this")
    asked = parser.parse_args(arguments)
    upkeep = Upkeep(Adapters.connect(Settings.read()))
    if asked.order == "adopt":
        return _adopt(upkeep, yes=asked.yes)
    return _collect(upkeep, asked.most)


if __name__ == "__main__":
    sys.exit(main())
