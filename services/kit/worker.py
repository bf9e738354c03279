"""The worker processes: Celery workers that run slices, and the control process that sweeps."""

import json
import os
import platform
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from celery import Celery, signals

from services.kit.adapters import Adapters
from services.kit.bell import BELL_TASK, celery_settings
from services.kit.collector import Collector
from services.kit.jobs import Released
from services.kit.jobs.fairness import ON_DEVICES, Ask
from services.kit.jobs.runner import Handler, Runner
from services.kit.jobs.sweeper import Sweeper
from services.kit.scratch import sweep
from services.kit.settings import Settings

NVIDIA = Path("/proc/driver/nvidia")


def celery_app(name: str) -> Celery:
    """A Celery app that reads its settings when a worker starts, not when it is imported."""

    def configuration() -> dict[str, Any]:
        return celery_settings(Settings.read().broker_url.get_secret_value())

    app = Celery(name, set_as_current=False)
    app.add_defaults(configuration)
    return app


def slice_worker(
    service: str,
    queue: str,
    compose: Callable[[Adapters], Mapping[str, Handler]],
    packages: Sequence[str] = (),
    *,
    off_device: Sequence[str] = (),
) -> Celery:
    """The app of a worker: `compose` makes the handlers, by job kind, when it starts.

    The versions of `packages` are kept with every attempt, beside the device and its driver.
    `off_device` names the slices that need no device, as `kind/step`.
    """
    app = celery_app(f"synthorax-{service}")
    runners: list[Runner] = []

    def start(**_: object) -> None:
        settings = Settings.read()
        adapters = Adapters.connect(settings)
        sweep(settings.scratch)
        handlers = compose(adapters)
        ours = runner(adapters, service, queue, handlers, packages, off_device)
        ours.presence.keep_saying()
        runners.append(ours)

    def drain(**_: object) -> None:
        for each in runners:
            each.drain()
            each.presence.end()

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
    packages: Sequence[str] = (),
    off_device: Sequence[str] = (),
) -> Runner:
    """The runner of a slice worker, as an installation's settings want it."""
    settings = adapters.settings
    host = settings.machine or socket.gethostname()
    ask = Ask(
        queue=queue,
        service=service,
        worker=f"{host}:{os.getpid()}",
        running_cap=settings.owner_cap,
        lease_s=settings.lease_s,
        about=json.dumps(_facts(settings.device, packages)),
        off_device=tuple(off_device),
    )
    return Runner(
        adapters.db,
        adapters.bell,
        handlers,
        ask,
        heartbeat_s=settings.heartbeat_s,
        stall_s=settings.stall_s,
        device=f"{host}:{settings.device}" if queue in ON_DEVICES else None,
    )


def _facts(device: str, packages: Sequence[str]) -> dict[str, str]:
    """What this worker computes with, as the kernel and the installed packages say."""
    cards = [
        line.partition(":")[2].strip()
        for file in sorted(NVIDIA.glob("gpus/*/information"))
        for line in file.read_text().splitlines()
        if line.startswith("Model:")
    ]
    driver = NVIDIA / "version"
    facts = {
        "device": device,
        "gpu": ", ".join(cards),
        "driver": driver.read_text().splitlines()[0].strip() if driver.exists() else "",
        "python": platform.python_version(),
    }
    return {k: v for k, v in facts.items() if v} | {name: version(name) for name in packages}


def control(compose: Callable[[Adapters], Collector]) -> None:
    """The control process: sweeps every few seconds until it is told to end, and collects.

    A plain loop by the monotonic clock: Celery's beat goes by the wall clock, and would stand
    still for an hour when somebody sets that back by one.
    """
    settings = Settings.read()
    adapters = Adapters.connect(settings)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())

    def compact() -> None:
        """The bytes of what was removed one by one: uploads that were discarded, old reports."""
        with suppress(Released):  # the next round does
            adapters.erasure.compact()

    collector = compose(adapters)
    collecting = threading.Thread(target=collector.run, args=(ending, compact), daemon=True)
    collecting.start()  # by itself: a store that hangs must not keep the sweeper waiting
    Sweeper(adapters.db, adapters.bell, settings.lease_s).run(settings.sweep_s, ending)
