"""Which disks of an installation are full. Knows folders, not what is written to them."""

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

FULL_BYTES = 16 << 20
"""With less, Postgres cannot begin the next segment of its log, and stops."""


def describe_full_disks(folders: Mapping[str, Path]) -> list[str]:
    """One sentence for each full disk: what it holds, where it is, and how much is left of it."""
    holds: defaultdict[int, list[str]] = defaultdict(list)
    left: dict[int, tuple[Path, int]] = {}
    for name, folder in folders.items():
        if not folder.exists():
            continue
        disk, system = folder.stat().st_dev, os.statvfs(folder)
        free = system.f_bavail * system.f_frsize
        out_of_files = system.f_files > 0 and system.f_favail == 0
        if free < FULL_BYTES or out_of_files:
            holds[disk].append(name)
            left.setdefault(disk, (folder, 0 if out_of_files else free))
    return [
        f"The disk of {', '.join(names)} is full ({left[disk][0]}): "
        f"{left[disk][1] >> 20} MB are left. Make space; everything goes on by itself then."
        for disk, names in holds.items()
    ]
