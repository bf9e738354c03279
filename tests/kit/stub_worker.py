"""A worker whose slices do what their payload says; run by test_worker.py under real Celery."""

import time
from pathlib import Path

from services.kit.adapters import Adapters
from services.kit.jobs import Lease
from services.kit.jobs.runner import Handler
from services.kit.worker import slice_worker


def handle(lease: Lease) -> None:
    """Note the attempt in a file; wait while the slice's gate file stands."""
    notes = Path(lease.inputs["notes"])
    with notes.open("a") as file:
        file.write(f"{lease.payload['n']}\n")
    gate = Path(lease.payload.get("gate", "/nonexistent"))
    while gate.exists():
        lease.stop_now()
        time.sleep(0.05)
    with lease.finishing():
        pass


def compose(_: Adapters) -> dict[str, Handler]:
    return {"stub": handle}


app = slice_worker("stub", "stub", compose)
