"""Every process of the suite: the one table that the launcher and the compose file share.

Knows command lines (what follows the interpreter), not settings, hosts or state.
"""

from dataclasses import dataclass

MIGRATIONS = ("-m", "migrations")
VERIFY = ("-m", "services.gateway.verify")
FIRST_KEY = ("-m", "services.accounts.main")
UPKEEP = ("-m", "services.gateway.upkeep")
COMPACTING = ("-m", "services.local.compacting")
WEB_SERVICES = ("accounts", "datasets", "generation", "training", "evaluation")
"""Each also runs alone; on one machine the gateway holds them all."""


def web(service: str, host: str, port: int) -> tuple[str, ...]:
    """The web process of one service, or of the gateway."""
    return (
        *("-m", "uvicorn", "--factory", f"services.{service}.main:build"),
        *("--host", host, "--port", str(port)),
        *("--timeout-graceful-shutdown", "5", "--no-access-log", "--no-server-header"),
    )


@dataclass(frozen=True)
class Worker:
    """A Celery worker: whose it is, which queue it hears, whether torch computes in it.

    One thread: a worker runs one slice at a time, and CUDA does not survive a fork.
    """

    service: str
    queue: str
    torch: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.arguments_of(f"services.{self.service}.worker:app")

    def arguments_of(self, app: str) -> tuple[str, ...]:
        """How a Celery app is run as this worker."""
        return (
            *("-m", "celery", "-A", app),
            *("worker", "-Q", self.queue, "-n", f"{self.queue}@%h"),
            *("--pool", "threads", "--concurrency", "1"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            *("--loglevel", "INFO"),
        )


@dataclass(frozen=True)
class Control:
    """The process that sweeps; it hears no queue."""

    torch: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("-m", "services.gateway.worker")


WORKERS: dict[str, Worker | Control] = {
    "generation": Worker("generation", "generation", torch=True),
    "training": Worker("training", "training", torch=True),
    "cpu": Worker("datasets", "cpu"),
    "evaluation": Worker("evaluation", "evaluation"),
    "control": Control(),
}
