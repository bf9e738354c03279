"""When a disk is full for the servers that write to it."""

import os
from pathlib import Path

FULL_BYTES = 16 << 20
"""With less, Postgres cannot begin the next segment of its log, and stops."""
FULL_SHARE = 0.01
"""With less of the disk, the embedded object store takes nothing more."""


def free_bytes(folder: Path) -> int:
    """What may still be written to the disk of this folder; 0 when no further file fits on it."""
    system = os.statvfs(folder)
    out_of_files = system.f_files > 0 and system.f_favail == 0
    return 0 if out_of_files else system.f_bavail * system.f_frsize


def is_full(folder: Path) -> bool:
    system = os.statvfs(folder)
    least = max(FULL_BYTES, FULL_SHARE * system.f_blocks * system.f_frsize)
    return free_bytes(folder) < least
