"""A Celery worker process: hears bells of one queue and runs slices of one service."""

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery, signals

from services.kit.adapters import Adapters
from services.kit.bell import BELL_TASK, celery_settings
from services.kit.jobs.leases import Claim
from services.kit.jobs.runner import Handler, Runner
from services.kit.jobs.sweeper import Sweeper
from services.kit.settings import Settings

SWEEP_TASK = "synthorax.sweep"


def celery_app(name: str, extra: Callable[[Settings], dict[str, Any]] | None = None) -> Celery:
    """A Celery app that reads its settings when a worker starts, not when it is imported."""

    def configuration() -> dict[str, Any]:
        settings = Settings.read()
        own = extra(settings) if extra else {}
        return celery_settings(settings.broker_url.get_secret_value()) | own

    app = Celery(name, set_as_current=False)
    app.add_defaults(configuration)
    return app


def slice_worker(
    service: str,
    queue: str,
    compose: Callable[[Adapters], Mapping[str, Handler]],
    *,
    uses_device: bool = False,
) -> Celery:
    """The app of a worker: `compose` makes the handlers, by job kind, when it starts."""
    app = celery_app(f"synthorax-{service}")
    runners: list[Runner] = []

    def start(**_: object) -> None:
        settings = Settings.read()
        adapters = Adapters.connect(settings)
        runners.append(runner(adapters, service, queue, compose(adapters), uses_device=uses_device))

    def drain(**_: object) -> None:
        for each in runners:
            each.drain()

    def bell() -> None:
        for each in runners:
            each.answer_bell()

    app.task(name=BELL_TASK)(bell)

    # Weak references would be collected as soon as this function returns.
    signals.worker_init.connect(start, weak=False)
    signals.worker_shutting_down.connect(drain, weak=False)
    return app


def runner(
    adapters: Adapters,
    service: str,
    queue: str,
    handlers: Mapping[str, Handler],
    *,
    uses_device: bool = False,
) -> Runner:
    """The runner of a slice worker, as an installation's settings want it."""
    settings = adapters.settings
    ask = Claim(
        queue=queue,
        service=service,
        worker=f"{socket.gethostname()}:{os.getpid()}",
        lease_s=settings.lease_s,
        owner_cap=settings.owner_cap,
    )
    return Runner(
        adapters.db,
        adapters.bell,
        handlers,
        ask,
        heartbeat_s=settings.heartbeat_s,
        stall_s=settings.stall_s,
        device=f"{settings.machine or socket.gethostname()}:{settings.device}"
        if uses_device
        else None,
    )


def _beat(settings: Settings) -> dict[str, Any]:
    return {
        "beat_schedule": {
            "sweep": {
                "task": SWEEP_TASK,
                "schedule": settings.sweep_s,
                "options": {"queue": "control", "expires": 30},
            }
        }
    }


def control_worker() -> Celery:
    """The app of the control worker: sweeps when beat says so."""
    app = celery_app("synthorax-control", _beat)
    sweepers: list[Sweeper] = []

    def start(**_: object) -> None:
        settings = Settings.read()
        adapters = Adapters.connect(settings)
        sweepers.append(Sweeper(adapters.db, adapters.bell))

    def sweep() -> None:
        for each in sweepers:
            each.sweep()

    app.task(name=SWEEP_TASK)(sweep)
    signals.worker_init.connect(start, weak=False)
    return app
