"""How long to wait before a process that keeps dying is started again."""

import math
from dataclasses import dataclass

SHORTEST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
HEALTHY_S = 60.0
HOPELESS = 4


@dataclass
class Patience:
    """The first death may be an accident: back at once. Each further one doubles the pause."""

    pause_s: float = 0.0
    started: float = -math.inf
    deaths: int = 0

    def allows(self, now: float) -> bool:
        return now >= self.started + self.pause_s

    def note_start(self, now: float) -> None:
        calm = now - self.started > HEALTHY_S
        self.deaths = 0 if calm else self.deaths + 1
        self.pause_s = (
            0.0 if calm else min(max(self.pause_s * 2, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
        )
        self.started = now

    @property
    def hopeless(self) -> bool:
        """Whether it has died so often in a row that somebody should be told."""
        return self.deaths >= HOPELESS
