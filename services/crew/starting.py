"""The worker's side: it starts the processes of this host and ends them."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

STOP = "stop"
MEMORY_EXIT = 3
LEAVE_S = 20.0
"""Processes that were asked to end are killed after so long."""


class CrewFailed(RuntimeError):
    """A process of a training ended before its time; its own words are in the worker's log."""


@dataclass(frozen=True)
class Crew:
    """Who trains together: `here` processes on this host, of `world` on all hosts.

    They meet at `address` (host:port) of the first host; with port 0 a free one is taken, which
    only does where all are on this host. Several hosts see one scratch folder.
    """

    here: int
    world: int
    address: str = "127.0.0.1:0"

    def environment(self, rank: int, local: int, threads: int) -> dict[str, str]:
        """What torch and accelerate want to be told of a process."""
        host, _, port = self.address.rpartition(":")
        return {
            "RANK": str(rank),
            "LOCAL_RANK": str(local),
            "WORLD_SIZE": str(self.world),
            "LOCAL_WORLD_SIZE": str(self.here),
            "MASTER_ADDR": host,
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": str(threads),
        }

    def meeting(self) -> "Crew":
        """The same with a port that is free, if it has none."""
        host, _, port = self.address.rpartition(":")
        if port != "0":
            return self
        with socket.socket() as free:
            free.bind((host, 0))
            return Crew(self.here, self.world, f"{host}:{free.getsockname()[1]}")


@contextmanager
def started(
    crew: Crew, module: str, *arguments: str, first_rank: int = 0
) -> Generator[list[subprocess.Popen[str]]]:
    """The processes of this host, each running `module`. None of them is left afterwards.

    When one fails the others would wait for it for ever: they are ended.
    """
    threads = max(1, (os.cpu_count() or 1) // crew.here)
    processes: list[subprocess.Popen[str]] = []
    over = threading.Event()
    watching = threading.Thread(target=_end_all_when_one_fails, args=(processes, over))
    try:
        for local in range(crew.here):
            environment = crew.environment(first_rank + local, local, threads)
            processes.append(
                subprocess.Popen(  # noqa: S603 - this very program
                    [sys.executable, "-m", module, *arguments],
                    env=os.environ | environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE if local == 0 else None,
                    text=True,
                )
            )
        watching.start()
        yield processes
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    finally:
        for process in processes:
            _leave(process)
        over.set()
        if watching.ident is not None:
            watching.join()


def _end_all_when_one_fails(
    processes: Sequence[subprocess.Popen[str]], over: threading.Event
) -> None:
    while not over.wait(0.2):
        if any(process.poll() for process in processes):
            for process in processes:
                process.terminate()


def _leave(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(LEAVE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
