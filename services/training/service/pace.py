"""How fast a run goes, and how long its experiment still takes at this pace."""

import statistics
import time
from collections.abc import Callable
from itertools import pairwise

FEWEST_STEPS = 5
MINUTE_S, HOUR_S = 60, 3600


class Pace:
    """Told the end of every step of a stretch that begins now, `before` steps being done."""

    def __init__(
        self, total: float, before: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self.before = before
        self._clock = clock
        self._ends: list[float] = []

    def step(self, done: int) -> str:
        """The time left in words, once there is a pace; `done` counts this run's steps."""
        self._ends.append(self._clock())
        step_s = self.step_s
        if step_s is None:
            return ""
        return f", about {in_words(step_s * (self.total - self.before - done))} left"

    @property
    def step_s(self) -> float | None:
        """The median, so that neither a validation nor a slow beginning counts."""
        if len(self._ends) <= FEWEST_STEPS:
            return None
        return statistics.median(after - before for before, after in pairwise(self._ends))


def in_words(seconds: float) -> str:
    """As a person would say it; a worker alone would need so long, several need less."""
    if seconds < MINUTE_S:
        return f"{max(1, round(seconds))} s"
    if seconds < 2 * HOUR_S:
        return f"{round(seconds / MINUTE_S)} min"
    return f"{round(seconds / HOUR_S)} h"
