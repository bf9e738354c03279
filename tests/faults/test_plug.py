"""Row 54: the plug is pulled at random moments; no committed row names a missing object."""

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from services.kit.db import Database
from services.kit.jobs.integrity import Integrity
from services.kit.objects import ObjectStore, sha256
from services.local.launcher import Launcher
from services.local.seaweed import BUCKET
from services.local.servers import Endpoints, Servers
from tests.faults.house import until
from tests.faults.plug import Disk, lacking, pluggable_disk

MOMENTS = int(os.environ.get("PLUG_MOMENTS", "4"))
"""How often the plug is pulled; each takes half a minute. Before a release: PLUG_MOMENTS=20."""
WRITERS = 3
BATCH = 10
SIZES = (200, 3_000, 20_000, 200_000)

pytestmark = [
    pytest.mark.skipif(lacking() is not None, reason=str(lacking())),
    pytest.mark.slow,
    pytest.mark.timeout(3600),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        with pluggable_disk(tmp_path) as disk:
            yield disk
    except PermissionError as error:
        pytest.skip(f"no file system can be mounted here: {error}")


def connect(ends: Endpoints) -> tuple[Database, ObjectStore]:
    db = Database(ends.database_url)
    store = ObjectStore(
        ends.s3_endpoint, ends.s3_access_key, ends.s3_secret_key, BUCKET, folder=ends.s3_folder
    )
    db.before_commit(store.sync)
    return db, store


class Writer(threading.Thread):
    """Puts objects and commits the rows that name them, until the database is gone."""

    def __init__(self, ends: Endpoints, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._db, self._store = connect(ends)
        self.batches = 0

    def run(self) -> None:
        chance = random.Random(self.name)
        try:
            while True:
                contents = [chance.randbytes(chance.choice(SIZES)) for _ in range(BATCH)]
                with self._db.transaction() as tx:
                    for number, content in enumerate(contents):
                        key = f"plug/{self.name}/{self.batches}/{number}"
                        self._store.put(key, content)
                        row = {"key": key, "sha256": sha256(content)}
                        tx.session.execute(text("INSERT INTO named VALUES (:key, :sha256)"), row)
                self.batches += 1
        except Exception:  # noqa: BLE001 - the plug was pulled: it surfaces in many ways
            return
        finally:
            self._db.close()


def test_row_54_no_committed_row_names_a_missing_object(disk: Disk) -> None:
    chance = random.Random(54)
    committed = 0
    for moment in range(MOMENTS):
        servers = Servers(disk.place / "state")
        ends = servers.start()
        db, store = connect(ends)
        store.ensure_bucket()
        with db.transaction() as tx:
            tx.session.execute(text("CREATE TABLE IF NOT EXISTS named (key text, sha256 text)"))
            rows = tx.session.execute(text("SELECT key, sha256 FROM named")).all()
        assert len(rows) >= committed
        for key, digest in rows:
            store.get(key, digest)  # raises for what is missing or altered
        db.close()
        writers = [Writer(ends, f"{moment}-{n}") for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0.2, 4.0))
        batches = sum(writer.batches for writer in writers)
        disk.pull()
        committed = len(rows) + batches * BATCH
        for writer in writers:
            writer.join()
    assert committed > MOMENTS * BATCH


PHANTOMS = {"format": "phantom", "site": "phantom-a", "size_px": 32, "seed": 1}


def ordered(http: httpx2.Client, path: str, **body: Any) -> str:
    answer = http.post(path, json=body)
    assert answer.status_code in {201, 202}, answer.text
    return answer.json()["id"]


def done(http: httpx2.Client, path: str) -> dict[str, Any]:
    until(lambda: http.get(path).json()["job"]["finished_at"] is not None, path, 600)
    return http.get(path).json()


def order_some(http: httpx2.Client, dataset: str, generator: str, moment: int) -> str:
    """An import, an order of images, a training, by turns; where its job is seen."""
    match moment % 3:
        case 0:
            name = f"import {moment}"
            return f"/datasets/{ordered(http, '/datasets', name=name, patients=600, **PHANTOMS)}"
        case 1:
            mirror = {"dataset": dataset}
            order = {"generator": generator, "mirror": mirror, "sampler": {"steps": 2}}
            return f"/generations/{ordered(http, '/generate', seed=moment, **order)}"
        case _:
            data = {"dataset": dataset}
            study = {
                "name": f"training {moment}",
                "arms": [
                    {"name": arm, "stages": [{"sources": [{"data": data}]}]} for arm in ("a", "b")
                ],
                "seeds": [moment, moment + 1],
                "classifier": {"epochs": 2},
                "validation": {"data": data, "split": "validation"},
                "tests": [{"name": "t", "data": data}],
                "plan": {"reference": "a", "primary": "b"},
            }
            return f"/experiments/{ordered(http, '/experiments', **study)}"


def test_row_54_in_mid_import_order_and_training(disk: Disk) -> None:
    """All that was accepted comes to its end afterwards, on objects that are all there: what was
    cut off three times in one slice, after a retry.
    """
    chance = random.Random(54)
    root = disk.place / "state"
    paths: list[str] = []
    dataset = generator = ""
    for moment in range(MOMENTS):
        launcher = Launcher(root)
        access = launcher.up()
        headers = {"Authorization": f"Bearer {access.key}"}
        with httpx2.Client(base_url=access.url, headers=headers, timeout=120) as http:
            if not generator:
                made = ordered(http, "/datasets", name="all along", patients=60, **PHANTOMS)
                assert done(http, f"/datasets/{made}")["job"]["state"] == "succeeded"
                trained = {"dataset": made, "preset": "tiny-32", "steps": 4}
                generator = ordered(http, "/generators", name="g", **trained)
                done(http, f"/generators/{generator}")
                dataset = made
            paths.append(order_some(http, dataset, generator, moment))
        time.sleep(chance.uniform(0.5, 12.0))
        disk.pull()
        assert_whole(Servers(root))
    launcher = Launcher(root)
    access = launcher.up()
    headers = {"Authorization": f"Bearer {access.key}"}
    with httpx2.Client(base_url=access.url, headers=headers, timeout=120) as http:
        for path in paths:
            job = done(http, path)["job"]
            if (
                job["state"] == "quarantined"
            ):  # the plug was pulled three times in one of its slices
                assert http.post(f"/jobs/{job['id']}/retry").status_code == 200
                job = done(http, path)["job"]
            assert (path, job["state"], job["problem"]) == (path, "succeeded", None)
    assert_whole(launcher.servers, content=True)
    launcher.down()


def assert_whole(servers: Servers, *, content: bool = False) -> None:
    db, store = connect(servers.start())
    try:
        report = Integrity(db, store).verify(content=content)
        assert (report.missing, report.altered) == ({}, {})
    finally:
        db.close()
