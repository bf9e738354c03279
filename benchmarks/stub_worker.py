"""A worker whose slices take as long as their payload says; for benchmarks of the job system."""

import time

from services.kit.adapters import Adapters
from services.kit.jobs import Lease
from services.kit.jobs.runner import Handler
from services.kit.worker import slice_worker

QUEUE = "bench"


def wait(lease: Lease) -> None:
    """Only a first attempt waits: a second one is what somebody waits for."""
    ends = time.monotonic() + (lease.payload.get("seconds", 0) if lease.attempt == 1 else 0)
    while time.monotonic() < ends:
        lease.stop_now()
        time.sleep(0.02)
    with lease.finishing():
        pass


def compose(_: Adapters) -> dict[str, Handler]:
    return {QUEUE: wait}


app = slice_worker(QUEUE, QUEUE, compose)
