"""The process that opens files of unknown honesty: `python -m services.datasets.importers.decoder`.

It has no secret in its environment, limits on memory and processor time, and may write no file.
It reads requests, a JSON line each, and answers with a JSON line and the bytes it announces.
"""

import json
import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from services.datasets.importers import dicom
from services.datasets.importers.files import open_regular, read_limited
from services.datasets.importers.images import picture
from services.datasets.importers.preparing import FILE_LIMIT_BYTES, prepare
from services.datasets.importers.provenance import inscription, read_origin
from services.datasets.importers.source import Header, Picture, Preparation, Unreadable

MEMORY_BYTES = 2 << 30
CPU_S = 60


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints disturbs nothing
    for line in sys.stdin.buffer:
        _allow_time()
        _reply(answers, _answer(json.loads(line)))


def _allow_time() -> None:
    """So much processor time for the next file; the process ends when it is used up."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_S, resource.RLIM_INFINITY))


def _answer(request: dict[str, Any]) -> Picture | Header | Unreadable:
    path = Path(request["path"])
    try:
        if request["what"] == "header":
            with open_regular(path) as file:
                return dicom.header(file)
        content = read_limited(path, FILE_LIMIT_BYTES)
    except OSError:
        return Unreadable("the file cannot be read")
    if content is None:
        return Unreadable(f"the file has more than {FILE_LIMIT_BYTES >> 20} MiB")
    prepared = prepare(content, Preparation(request["size_px"], request["resize"]))
    if isinstance(prepared, Unreadable):
        return prepared
    origin = read_origin(content)
    return replace(picture(prepared.pixels, inscription(origin), prepared.notes), origin=origin)


def _reply(answers: BinaryIO, answer: Picture | Header | Unreadable) -> None:
    content = b""
    if isinstance(answer, Unreadable):
        told: dict[str, Any] = {"unreadable": answer.reason, "code": answer.code}
    elif isinstance(answer, Picture):
        content = answer.png
        told = {
            "bytes": len(content),
            "pixel_sha256": answer.pixel_sha256,
            "descriptor": answer.descriptor.hex(),
            "notes": answer.notes,
            "origin": answer.origin and answer.origin.model_dump(mode="json"),
        }
    else:
        told = {"header": dict(answer)}
    answers.write(json.dumps(told).encode() + b"\n" + content)
    answers.flush()


if __name__ == "__main__":
    main()
