"""Whether every object that a row names is in the store, and the resources where it is not.

Keys look alike in all services, so their columns are found, not listed: no service can forget to
mention one. Knows resources, not what a service keeps under them.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.kit.db import Database
from services.kit.jobs import lineage
from services.kit.objects import DigestMismatch, ObjectMissing, ObjectStore, sha256

PREFIX = "projects/"
UUID_TEXT = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
KEY = re.compile(f'projects/{UUID_TEXT}/[a-z]+/({UUID_TEXT})/[^"]+')
DIGEST = re.compile(r'"([0-9a-f]{64})"')
"""Beside a key its row keeps the SHA-256 of what was stored."""
ROWS_AT_ONCE = 10_000

_COLUMNS = text("""
    SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns
    WHERE table_schema NOT IN ('information_schema', 'pg_catalog', 'jobs')
      AND data_type IN ('text', 'character varying', 'jsonb')
    ORDER BY table_schema, table_name, ordinal_position
""")
_ROWS = """
    SELECT row FROM (SELECT to_jsonb(t)::text AS row FROM {table} t) AS rows
    WHERE row LIKE '%"projects/%'
"""
_KEY_IN_TEXT = "SELECT 1 FROM {table} WHERE {column} = :key LIMIT 1"
_KEY_IN_JSON = "SELECT 1 FROM {table} WHERE strpos({column}::text, :key) > 0 LIMIT 1"


@dataclass
class Report:
    """What a walk found: keys by resource."""

    objects: int = 0
    missing: dict[UUID, list[str]] = field(default_factory=dict[UUID, list[str]])
    altered: dict[UUID, list[str]] = field(default_factory=dict[UUID, list[str]])

    @property
    def damaged(self) -> set[UUID]:
        return {*self.missing, *self.altered}


class Integrity:
    """Rows beside objects."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store

    def verify(
        self, *, content: bool = False, progress: Callable[[int], None] = lambda _: None
    ) -> Report:
        """Walk rows against objects, and mark the resources that are damaged, and only those.

        With `content` every object is read as well. A resource that is made or deleted meanwhile
        is looked at twice before it counts as damaged.
        """
        named = self._named()
        keys = {key for of_resource in named.values() for key in of_resource}
        there = {each.key for each in self._store.listing(PREFIX)}
        missing = self._still_missing(keys - there)
        report = Report(objects=len(keys))
        report.missing = _by_resource(missing)
        if content:
            report.altered = _by_resource(self._altered(named, missing, progress))
        with self._db.transaction() as tx:
            lineage.set_damaged(tx.session, report.damaged)
        return report

    def _still_missing(self, missing: set[str]) -> set[str]:
        if not missing:
            return missing
        named = {key for keys in self._named().values() for key in keys}
        return {key for key in missing & named if not self._store.exists(key)}

    def _altered(
        self,
        named: dict[UUID, dict[str, set[str]]],
        missing: set[str],
        progress: Callable[[int], None],
    ) -> Iterator[str]:
        digests = {key: found for keys in named.values() for key, found in keys.items()}
        for read, key in enumerate(sorted(digests.keys() - missing)):
            progress(read)
            try:
                digest = sha256(self._store.get(key))
            except ObjectMissing:
                continue  # deleted meanwhile
            if digests[key] and digest not in digests[key]:
                yield key

    def _named(self) -> dict[UUID, dict[str, set[str]]]:
        """Every key that a row names with the digests of that row, by resource, of those that are
        not deleted.
        """
        named: dict[UUID, dict[str, set[str]]] = defaultdict(dict)
        with self._db.transaction() as tx:
            for row in _rows(tx.session):
                digests = set(DIGEST.findall(row))
                for match in KEY.finditer(row):
                    named[UUID(match[1])].setdefault(match[0], set()).update(digests)
            standing = lineage.standing(tx.session, named)
        return {resource: keys for resource, keys in named.items() if resource in standing}


def note_damage(db: Database, error: BaseException) -> None:
    """Mark the resource whose object was missing or altered, if an error comes from that."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (ObjectMissing, DigestMismatch)):
        cause = cause.__cause__
    match = KEY.fullmatch(str(cause)) if cause is not None else None
    if match is None:
        return
    with db.transaction() as tx:
        if _is_named(tx.session, match[0]):  # else it was removed on purpose, with its row
            lineage.note_damaged(tx.session, UUID(match[1]))


def _rows(session: Session) -> Iterator[str]:
    """Every row that names an object, as JSON; the names of tables are the catalogue's."""
    columns = session.execute(_COLUMNS).all()
    for schema, table in sorted({(each.table_schema, each.table_name) for each in columns}):
        query = text(_ROWS.format(table=f'"{schema}"."{table}"'))
        rows = session.execute(query, execution_options={"yield_per": ROWS_AT_ONCE})
        yield from rows.scalars()


def _is_named(session: Session, key: str) -> bool:
    for schema, table, column, kind in session.execute(_COLUMNS).all():
        query = _KEY_IN_JSON if kind == "jsonb" else _KEY_IN_TEXT
        place = {"table": f'"{schema}"."{table}"', "column": f'"{column}"'}
        if session.scalar(text(query.format(**place)), {"key": key}) is not None:
            return True
    return False


def _by_resource(keys: Iterable[str]) -> dict[UUID, list[str]]:
    found: dict[UUID, list[str]] = defaultdict(list)
    for key in sorted(keys):
        match = KEY.fullmatch(key)
        if match is not None:
            found[UUID(match[1])].append(key)
    return dict(found)
