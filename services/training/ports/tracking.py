"""Where runs are mirrored to, if anywhere: a tracking server of the lab's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class TrackedRun:
    """A run as others see it. `key` names it for good; nothing of it names a patient."""

    key: str
    experiment: str
    name: str
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])


Points = Sequence[Mapping[str, float | None]]
"""Validations: `step` and what was measured there."""


class Tracking(Protocol):
    def log(self, run: TrackedRun, points: Points, *, ended: bool) -> None:
        """Mirror all points so far. Never raises: a mirror is no reason to stop."""
        ...


class Nowhere:
    """No tracking server."""

    def log(self, run: TrackedRun, points: Points, *, ended: bool) -> None:
        """Nothing."""
