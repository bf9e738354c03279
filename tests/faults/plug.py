"""A disk whose plug can be pulled: what nobody synced is gone, as the kernel itself forgets it.

An ext4 file system in a file. ext4 can be told to stop without writing another byte (the request
that its own tests use): pages and journal entries in memory are lost, and what was synced is
found when it is mounted again. Its timed flushes are put off, so that nothing is saved by luck.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

TOOLS = MKFS, MOUNT, UMOUNT = "mkfs.ext4", "mount", "umount"
SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN."""
WITHOUT_LOG = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written."""
FLUSH_S = 300
LIMIT_S = 60


class Disk:
    """Mounted at `place`; `pull` ends everything that runs on it, without a last word."""

    def __init__(self, image: Path, place: Path, size: int = 4 << 30) -> None:
        self.place = place
        self._image = image
        with image.open("wb") as file:
            file.truncate(size)
        subprocess.run([MKFS, "-q", str(image)], check=True)
        place.mkdir()
        self._mount()

    def pull(self) -> None:
        """Drop what is not on the disk, end what runs there, and put the plug in again."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_LOG))
        finally:
            os.close(descriptor)
        self._unmount()
        self._mount()

    def close(self) -> None:
        self._unmount()
        self._image.unlink()

    def _mount(self) -> None:
        options = f"loop,commit={FLUSH_S}"
        subprocess.run([MOUNT, "-o", options, str(self._image), str(self.place)], check=True)

    def _unmount(self) -> None:
        end = time.monotonic() + LIMIT_S
        while True:
            for process in self._processes():
                with suppress(psutil.Error):
                    process.kill()
            done = subprocess.run([UMOUNT, str(self.place)], capture_output=True, check=False)
            if done.returncode == 0:
                return
            assert time.monotonic() < end, done.stderr
            time.sleep(0.2)

    def _processes(self) -> Iterator[psutil.Process]:
        """Those of the installation on this disk, by what they were told and where they work."""
        place = str(self.place)
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != os.getpid() and (
                    place in " ".join(process.cmdline())
                    or process.cwd().startswith(place)
                    or any(place in value for value in process.environ().values())
                ):
                    yield process


@contextmanager
def pluggable_disk(folder: Path) -> Iterator[Disk]:
    disk = Disk(folder / "disk.img", folder / "disk")
    try:
        yield disk
    finally:
        disk.close()


def lacking() -> str | None:
    """Why no plug can be pulled here; None when one can."""
    if os.geteuid() != 0 or None in {shutil.which(tool) for tool in TOOLS}:
        return "needs root, mount and mkfs.ext4"
    if not Path("/dev/loop-control").exists():
        return "needs loop devices"
    return None
