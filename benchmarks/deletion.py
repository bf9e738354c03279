"""`python -m benchmarks.deletion [images]`: what deleting and collecting cost, on its own servers.

Prints the deletion of a dataset of 50,000 images through its job beside the bare removal of as
many objects from the same store, and a walk of the collector over them.
"""

import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy import insert

from api_schemas.accounts import Scope
from migrations.sections import upgrade
from services.datasets.models import Dataset, Sample
from services.datasets.service import KEPT, KIND, NAMED, QUEUE
from services.datasets.service.keys import folder, image_key
from services.kit.adapters import Adapters
from services.kit.auth import Caller
from services.kit.collector import Collector
from services.kit.db import new_id
from services.kit.deletion import Delete, Deletions
from services.kit.jobs import lineage
from services.kit.jobs.lineage import DELETE, Made
from services.kit.settings import Settings
from services.kit.worker import runner
from services.local.servers import Endpoints, Servers

IMAGES = 50_000
BYTES = 2_000
ORPHAN_EVERY = 100
"""One image of so many has no row that names it."""

T = TypeVar("T")


def connect(endpoints: Endpoints) -> Adapters:
    secret = SecretStr("benchmark")
    return Adapters.connect(
        Settings(
            database_url=SecretStr(endpoints.database_url),
            broker_url=SecretStr(endpoints.broker_url),
            s3_endpoint=endpoints.s3_endpoint,
            s3_access_key=SecretStr(endpoints.s3_access_key),
            s3_secret_key=SecretStr(endpoints.s3_secret_key),
            s3_folder=endpoints.s3_folder,
            key_pepper=secret,
            pseudonym_key=secret,
            service_secret=secret,
            log_level="WARNING",
        )
    )


def put_images(adapters: Adapters, project: UUID, dataset: UUID, images: int) -> list[str]:
    keys = [image_key(project, dataset, n, f"{n:064x}"[::-1]) for n in range(images)]
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(lambda key: adapters.store.put(key, bytes(BYTES), "image/png"), keys):
            pass
    return keys


def register(adapters: Adapters, caller: Caller, dataset: UUID, keys: list[str]) -> None:
    with adapters.db.transaction() as tx:
        lineage.note(tx, caller, Made("datasets", QUEUE, KIND, dataset, "a benchmark"))
        tx.session.add(
            Dataset(
                id=dataset,
                project=caller.project,
                owner=caller.person,
                job=new_id(),
                name="a benchmark",
                request={},
            )
        )
        tx.session.flush()
        rows = [
            {
                "dataset": dataset,
                "ordinal": n,
                "line": n,
                "sample_id": str(n),
                "patient_id": "nobody",
                "labels": {},
                "image_key": key if n % ORPHAN_EVERY else None,
            }
            for n, key in enumerate(keys)
        ]
        tx.session.execute(insert(Sample), rows)


def timed(what: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    return what(), time.perf_counter() - began


def peak_mib(what: Callable[[], object]) -> float:
    tracemalloc.start()
    what()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def delete(adapters: Adapters, caller: Caller, dataset: UUID) -> str:
    """Ask for the deletion and do all its slices; what that was."""
    deletions = Deletions(adapters.db, adapters.jobs, KIND)
    deletions.delete(caller, dataset, derived=True)
    worker = runner(adapters, "datasets", QUEUE, {DELETE: Delete(adapters.erasure, KEPT)})
    slices = 0
    while worker.run_one():
        slices += 1
    job = deletions.look(caller, dataset).job
    return f"{job.done:.0f} objects, {slices} slices, {job.state}" if job else "not asked for"


def measure(adapters: Adapters, images: int) -> None:
    caller = Caller(uuid4(), uuid4(), frozenset({Scope.WRITE}))
    dataset, bare = new_id(), new_id()
    register(adapters, caller, dataset, put_images(adapters, caller.project, dataset, images))
    collector = Collector(adapters.db, adapters.store, NAMED, grace_s=-3600, every_s=3600)
    tally, walked_s = timed(collector.collect)
    print(f"a walk over {tally.seen} objects, {tally.removed} orphans taken: {walked_s:.1f} s")
    print(f"another, traced: at most {peak_mib(collector.collect):.1f} MiB of Python's memory")
    put_images(adapters, caller.project, bare, images)
    place = folder(caller.project, bare)
    _, bare_s = timed(lambda: adapters.store.remove_prefix(place))
    what, deleted_s = timed(lambda: delete(adapters, caller, dataset))
    print(f"bare removal of {images} objects: {bare_s:.1f} s")
    print(f"deletion of a dataset ({what}): {deleted_s:.1f} s")


def main() -> None:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    with tempfile.TemporaryDirectory() as state:
        servers = Servers(Path(state))
        endpoints = servers.start()
        try:
            upgrade(endpoints.database_url)
            measure(connect(endpoints), images)
        finally:
            servers.stop()


if __name__ == "__main__":
    main()
