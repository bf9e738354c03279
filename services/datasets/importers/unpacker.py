"""Archives are unpacked in a process of their own.

The directory of an archive, and a header within it, may need more memory than there is. The
process has no secret in its environment and a limit on memory; it ends with who started it. It
answers with a line of JSON: the `problem`, or the `errno` of a disk that is full.
"""

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.datasets.importers.archives import unpack
from services.datasets.importers.decoders import CODE, environment
from services.datasets.importers.source import ArchiveUnusable

MEMORY_BYTES = 2 << 30
ASK_EVERY_S = 0.5
TOO_MUCH = "the archive cannot be used: it needs more memory than any folder of images"


def unpack_apart(
    archive: Path,
    folder: Path,
    stop_if_asked: Callable[[], None],
    memory_bytes: int = MEMORY_BYTES,
) -> None:
    """As `archives.unpack`; calls `stop_if_asked` twice a second, what that raises passes through.

    Raises `ArchiveUnusable`, and `OSError` where the disk is full.
    """
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", __name__, str(archive), str(folder), str(memory_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
        cwd=CODE,
    ) as process:
        try:
            while process.poll() is None:
                stop_if_asked()
                _wait(process)
            answer = process.stdout.read() if process.stdout else b""
        finally:
            process.kill()
    told: dict[str, Any] = json.loads(answer) if answer else {"problem": TOO_MUCH}
    if "errno" in told:
        raise OSError(told["errno"], os.strerror(told["errno"]))
    if told["problem"] is not None:
        raise ArchiveUnusable(told["problem"], field="upload")


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(ASK_EVERY_S)
    except subprocess.TimeoutExpired:
        return


def main() -> None:
    archive, folder, memory_bytes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    told: dict[str, Any] = {"problem": None}
    try:
        unpack(archive, folder, lambda: None)
    except ArchiveUnusable as error:
        told = {"problem": str(error)}
    except OSError as error:
        told = {"errno": error.errno or 0}
    except MemoryError:
        told = {"problem": TOO_MUCH}
    sys.stdout.write(json.dumps(told))


def _end_with_parent() -> None:
    """Whoever started the process holds the other end of its input."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
