"""Named moments at which a process can be made to die, for the tests of what must be survived.

`SYNTHORAX_FAIL=after_put:kill` ends the process right after an object was put; `:raise` raises
there, `:hang` stays there for ever, and `after_put@3:kill` waits for the third time. Several are
joined by commas. No installation sets it: the launcher and the compose file pass no such
variable on, and a process that has it says so in its log. Does not know what happens at a moment.
"""

import os
import signal
import threading
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, cast, get_args

from services.kit.logging import get_logger

log = get_logger(__name__)

MOMENTS = MappingProxyType(
    {
        "after_submit": "a job's rows are written, its transaction is not committed",
        "before_bell": "work is committed, its bell is not rung",
        "after_put": "an object lies in the store, no row names it yet",
        "before_finish": "a slice's work is done and stored, the slice is not finished",
        "after_write": "a write in mid slice (a checkpoint) is committed",
    }
)

Action = Literal["kill", "raise", "hang"]


class FailpointHit(Exception):
    """Raised where somebody asked for it; nobody handles it by name."""


class BadFailpoint(ValueError):
    """`SYNTHORAX_FAIL` cannot be read: the process must not start as if it were not set."""


@dataclass
class _Armed:
    action: Action
    hits: int


_armed: dict[str, _Armed] = {}


def arm(asked: str) -> None:
    """Arm what `SYNTHORAX_FAIL` asks for. Raises `BadFailpoint` for anything it does not know."""
    _armed.clear()
    for part in filter(None, asked.split(",")):
        moment, colon, action = part.partition(":")
        name, at, count = moment.partition("@")
        hits = int(count) if count.isdigit() else 0 if at else 1
        if name not in MOMENTS or action not in get_args(Action) or not colon or hits < 1:
            raise BadFailpoint(
                f"SYNTHORAX_FAIL has {part!r}; it takes moment[@count]:action, "
                f"moment one of {', '.join(MOMENTS)}, action one of {', '.join(get_args(Action))}"
            )
        _armed[name] = _Armed(cast("Action", action), hits)
        log.warning("a failpoint is armed: this process is under test", failpoint=part)


def failpoint(moment: str) -> None:
    """Fail here if this moment is armed and its turn has come; otherwise a look into a dict."""
    armed = _armed.get(moment)
    if armed is None:
        return
    armed.hits -= 1
    if armed.hits > 0 or _armed.pop(moment, None) is None:  # another thread was first
        return
    log.warning("failpoint", failpoint=moment, action=armed.action)
    match armed.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise FailpointHit(moment)
        case "hang":
            threading.Event().wait()
