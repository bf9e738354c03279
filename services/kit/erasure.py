"""Objects removed for good: from a store that is ours alone, and with the bytes they had.

Plain S3 says nothing of the bytes. A store that packs objects into volumes, as the embedded one
does, keeps those of a removed object until it compacts the volume; an installation with such a
store names a command that does so.
"""

import shlex
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

from services.kit.jobs import Released
from services.kit.jobs.pairing import Pairing
from services.kit.logging import get_logger
from services.kit.objects import ObjectStore

log = get_logger(__name__)

COMPACT = "compact"
LIMIT_S = 600.0
AGAIN_S = 30.0


class Erasure:
    """What a handler needs that removes data because somebody wants it gone."""

    def __init__(self, store: ObjectStore, pairing: Pairing, command: str = "") -> None:
        """`command` compacts the store; empty where removing an object removes its bytes."""
        self._store = store
        self._pairing = pairing
        self._command = shlex.split(command)

    @property
    def last(self) -> list[dict[str, Any]]:
        """The slices with which a job ends that has removed objects."""
        return [{"step": COMPACT}] if self._command else []

    def check(self) -> None:
        """Raises `StoreMismatch` unless the store belongs to the database."""
        self._pairing.check()

    def keys(self, prefix: str) -> Iterator[str]:
        return self._store.keys(prefix)

    def remove(self, keys: Iterable[str]) -> None:
        """Raises `StoreMismatch`, and removes nothing, unless the store is ours."""
        self._pairing.check()
        self._store.remove(keys)

    def compact(self) -> None:
        """Return when the bytes of what was removed are gone from the store's files.

        Raises `Released` when the store could not do it now: tried again until it can.
        """
        if not self._command:
            return
        try:
            subprocess.run(  # noqa: S603 - the installation's own settings say what
                self._command,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=LIMIT_S,
            )
        except (subprocess.SubprocessError, OSError) as error:
            log.warning("the store was not compacted", error=type(error).__name__)
            raise Released("the object store could not be compacted", AGAIN_S) from error
