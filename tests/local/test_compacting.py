"""Row 60: what was deleted is not in the object store's own files either."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from services.kit.adapters import Adapters
from services.kit.db import new_id
from services.kit.deletion import Delete, Deletions, Kept
from services.kit.erasure import Erasure
from services.kit.jobs import Released, lineage
from services.kit.jobs.lineage import DELETE, Made
from services.kit.jobs.pairing import Pairing
from services.kit.objects import ObjectStore
from services.local.processes import COMPACTING
from services.local.seaweed import BUCKET
from services.local.servers import Servers

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """An installation's servers, whose files we may search."""
    servers = Servers(tmp_path_factory.mktemp("compacting") / "state")
    servers.start()
    yield servers
    servers.stop()


@pytest.fixture
def store(servers: Servers, adapters: Adapters) -> ObjectStore:
    told = servers.endpoints()
    store = ObjectStore(told.s3_endpoint, told.s3_access_key, told.s3_secret_key, BUCKET)
    Pairing(adapters.db, store).adopt()
    return store


@pytest.fixture
def erasure(servers: Servers, adapters: Adapters, store, monkeypatch) -> Erasure:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    command = shlex.join((sys.executable, *COMPACTING, str(servers.state.root)))
    return Erasure(store, Pairing(adapters.db, store), command)


def folder(project: UUID, resource: UUID) -> str:
    return f"projects/{project}/things/{resource}/"


def found(servers: Servers, content: bytes) -> list[str]:
    """The files of the store in which these bytes stand."""
    files = [path for path in servers.state.folder("seaweed").rglob("*") if path.is_file()]
    return [path.name for path in files if content in path.read_bytes()]


@pytest.fixture
def make(adapters, store, ada) -> Callable[..., UUID]:
    def put(content: bytes, *uses: UUID, tmp_path: Path | None = None) -> UUID:
        thing = new_id()
        with adapters.db.transaction() as tx:
            made = Made("stub", "stub", "thing", thing)
            lineage.note(tx, ada.caller, made, dict.fromkeys(uses, "uses"))
        place = folder(ada.caller.project, thing)
        for n in range(40):
            store.put(f"{place}{n}", content + bytes([n]) * 20_000)
        if tmp_path is not None:  # larger than a part of an upload
            large = tmp_path / "large"
            large.write_bytes(content + bytes(12 << 20))
            store.put_file(f"{place}large", large)
        return thing

    return put


def test_row_60_after_a_deletion_the_bytes_are_gone(
    servers, adapters, store, erasure, make, ada, work, tmp_path
) -> None:
    gone, derived, kept = b"of-a-deleted-patient", b"made-from-it", b"of-another-patient"
    thing = make(gone, tmp_path=tmp_path)
    made_from_it, other = make(derived, thing), make(kept)
    assert found(servers, gone)
    assert found(servers, derived)
    rows = {"thing": Kept(folder, lambda _session, _resource: None)}
    deletions = Deletions(adapters.db, adapters.jobs, "thing")
    deletions.delete(ada.caller, thing, derived=True)
    work("stub", "stub", {DELETE: Delete(erasure, rows)})
    assert deletions.look(ada.caller, thing).job.state == "succeeded"
    assert deletions.look(ada.caller, made_from_it).job.state == "succeeded"
    assert found(servers, gone) == []
    assert found(servers, derived) == []
    assert found(servers, kept)
    place = folder(ada.caller.project, other)
    assert [len(store.get(key)) for key in store.keys(place)] == [len(kept) + 20_000] * 40


def test_a_store_that_cannot_be_compacted_keeps_the_deletion_from_succeeding(
    adapters, store, make, ada, work
) -> None:
    """Nobody is told that bytes are gone which are not; it is tried again."""
    thing = make(b"whatever")
    erasure = Erasure(
        store, Pairing(adapters.db, store), f"{sys.executable} -c 'raise SystemExit(1)'"
    )
    with pytest.raises(Released):
        erasure.compact()
    rows = {"thing": Kept(folder, lambda _session, _resource: None)}
    deletions = Deletions(adapters.db, adapters.jobs, "thing")
    deletions.delete(ada.caller, thing, derived=False)
    handlers = {DELETE: Delete(erasure, rows)}
    assert work("stub", "stub", handlers) == 2
    view = deletions.look(ada.caller, thing)
    assert view.job is not None
    assert view.job.state == "queued"
    with adapters.db.transaction() as tx:
        outcomes = tx.session.execute(text("SELECT outcome, reason FROM jobs.attempts ORDER BY 1"))
        assert [tuple(row) for row in outcomes] == [
            ("done", ""),
            ("released", "the object store could not be compacted"),
        ]
