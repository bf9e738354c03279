"""The processor's time, which says more than the clock's on a machine that others use at once."""

from collections.abc import Container

import psutil

from services.local.launcher import Launcher


def used_s(launcher: Launcher) -> dict[str, float]:
    """What each process of an installation has used so far, its own helpers included, by name."""
    roots = {row.pid: row.name for row in launcher.status() if row.pid is not None}
    return {name: _with_helpers_s(psutil.Process(pid), roots.keys()) for pid, name in roots.items()}


def _with_helpers_s(process: psutil.Process, others: Container[int]) -> float:
    times = process.cpu_times()
    helpers = [child for child in process.children() if child.pid not in others]
    return times.user + times.system + sum(_with_helpers_s(each, others) for each in helpers)
