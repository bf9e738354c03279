"""Walk the rows of every service against the object store: `python -m services.gateway.verify`.

With `--content` every object is read as well. Exit status 1 when something is missing or altered;
its resources then say `damaged`, and no longer once a later walk has found them whole.
"""

import argparse
import sys
from collections.abc import Sequence

from services.kit.adapters import Adapters
from services.kit.jobs.integrity import Integrity, Report
from services.kit.settings import Settings

SHOWN = 5


def lines(report: Report) -> list[str]:
    """What a person is told: counts, and some keys of each damaged resource."""
    told = [f"{report.objects} objects are named by rows"]
    for what, found in (("missing", report.missing), ("altered", report.altered)):
        for resource, keys in sorted(found.items(), key=lambda item: str(item[0])):
            told.append(f"{resource} is damaged: {len(keys)} {what}")
            told += [f"    {key}" for key in keys[:SHOWN]]
    return told if report.damaged else [*told, "all of them are in the store"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m services.gateway.verify",
        description="Walk the rows of every service against the object store.",
    )
    parser.add_argument("--content", action="store_true", help="read every object as well")
    asked = parser.parse_args(arguments)
    adapters = Adapters.connect(Settings.read())
    report = Integrity(adapters.db, adapters.store).verify(content=asked.content)
    sys.stdout.write("\n".join(lines(report)) + "\n")
    return 1 if report.damaged else 0


if __name__ == "__main__":
    sys.exit(main())
