"""Free the bytes of removed objects: `python -m services.local.compacting STATE`.

SeaweedFS packs objects into volumes and only marks there what is removed. Left to itself it
rewrites a volume some time after a third of it is garbage. Exit status 1 when it could not.
"""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from services.local.seaweed import Seaweed
from services.local.state import State

HOST = "127.0.0.1"
TIMES = 2
PAUSE_S = 2.0
"""The store marks what S3 removed a moment later, from a queue: so compact, and look again."""
LIMIT_S = 180.0
SCRIPT = b"lock\nvolume.vacuum -garbageThreshold=0\nunlock\nexit\n"


def compact(state: State) -> None:
    """Rewrite every volume that holds garbage, and sync it.

    Raises `CalledProcessError` and `TimeoutExpired`.
    """
    server = Seaweed(state).command()
    ports = f"{state.port('master.port')}.{state.port('master.port.grpc')}"
    for _ in range(TIMES):
        time.sleep(PAUSE_S)
        done = subprocess.run(
            (server.arguments[0], "shell", f"-master={HOST}:{ports}"),
            input=SCRIPT,
            capture_output=True,
            cwd=server.folder,  # its certificates are read from there
            env={"PATH": os.environ.get("PATH", ""), **server.environment},
            timeout=LIMIT_S,
            check=True,
        )
        if b"error" in (done.stdout + done.stderr).lower():
            raise subprocess.CalledProcessError(1, "weed shell", done.stdout, done.stderr)
    if server.folder is not None:
        _sync(server.folder)


def _sync(folder: Path) -> None:
    """The volumes were written anew: on the disk, before anybody relies on it that they are."""
    for path in (*sorted(folder.glob("*.dat")), *sorted(folder.glob("*.idx")), folder):
        with suppress(FileNotFoundError):  # an empty volume goes altogether
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


if __name__ == "__main__":
    try:
        compact(State(Path(sys.argv[1])))
    except subprocess.SubprocessError as error:
        sys.stderr.write(f"not compacted: {type(error).__name__}\n")
        sys.exit(1)
