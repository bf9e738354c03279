"""`make bench`: what the service costs beside the bare computation, in one run, as ratios.

Starts an installation of its own in a temporary folder and takes it down again.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from uuid import UUID

from api_schemas.client import Client, wait
from api_schemas.generation import ConditionRequest, GenerateRequest, Sampler
from api_schemas.generators import GeneratorRequest
from api_schemas.imports import PhantomImport, PhantomSite
from benchmarks.processor import used_s
from services.local.installation import TORCH
from services.local.launcher import Launcher

THREADS = "SYNTHORAX_GENERATION_THREADS"
"""Set to 1 on two cores, the other one is free for all that is not sampling."""
IMAGES = 1000
STEPS = 16
ROUNDS = 2
SMALL = 64
LIMIT_S = 900.0


def bare() -> tuple[float, float]:
    """Images per second, and milliseconds of the processor an image; threads as the worker's."""
    command = [sys.executable, "-m", "benchmarks.bare_sampling", str(IMAGES), str(STEPS)]
    threads = {"OMP_NUM_THREADS": os.environ[THREADS]} if os.environ.get(THREADS) else {}
    printed = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | TORCH | threads,
    ).stdout
    rate, used_ms = printed.split()
    return float(rate), float(used_ms)


def order(client: Client, generator: UUID, count: int, seed: int = 0) -> UUID:
    request = GenerateRequest(
        generator=generator,
        conditions=[ConditionRequest(count=count)],
        seed=seed,
        sampler=Sampler(steps=STEPS),
        screen=False,  # benchmarks.screening tells what that costs
    )
    return client.post_generate(request).id


def finish(client: Client, generation: UUID, poll_s: float = 0.05) -> None:
    wait(lambda: client.get_generation(generation).job, limit_s=LIMIT_S, poll_s=poll_s)


def through_the_service(
    client: Client, launcher: Launcher, generator: UUID
) -> tuple[float, dict[str, float]]:
    """Likewise, from the request to the finished manifest; the milliseconds by process.

    The end is the job's own: whoever asks often takes time from it, and seldom, sees it late.
    """
    before, began = used_s(launcher), datetime.now(UTC)
    generation = order(client, generator, IMAGES)
    finish(client, generation, poll_s=0.5)
    after, ended = used_s(launcher), client.get_generation(generation).job.finished_at
    assert ended is not None  # noqa: S101 - it is finished
    rate = IMAGES / (ended - began).total_seconds()
    return rate, {name: 1000 * (after[name] - before[name]) / IMAGES for name in after}


def a_generator(client: Client) -> UUID:
    """Speed does not depend on what it has learnt: a few steps will do."""
    data = client.post_dataset(
        PhantomImport(format="phantom", name="bench", site=PhantomSite.A, patients=60)
    )
    request = GeneratorRequest(name="bench", dataset=data.id, preset="tiny-32", steps=5)
    generator = client.post_generator(request).id
    wait(lambda: client.get_generator(generator).job, limit_s=LIMIT_S)
    finish(client, order(client, generator, 1))  # warm
    return generator


def latencies(client: Client, generator: UUID, clients: int, posts: int) -> list[float]:
    """Milliseconds of each POST /generate while `clients` send `posts` in all."""
    made: list[UUID] = []

    def post(seed: int) -> float:
        began = time.perf_counter()
        made.append(order(client, generator, 1, seed))
        return 1000 * (time.perf_counter() - began)

    with ThreadPoolExecutor(clients) as pool:
        times = list(pool.map(post, range(posts)))
    for generation in made:
        finish(client, generation)
    return times


def show_throughput(client: Client, launcher: Launcher, generator: UUID) -> None:
    print(f"\n{IMAGES} images, tiny-32, dpmsolver++ {STEPS} steps, batches of 64: images/s, and")
    print("milliseconds of the processor an image")
    for round_ in range(1, ROUNDS + 1):
        alone, alone_ms = bare()
        served, served_ms = through_the_service(client, launcher, generator)
        names = sorted(served_ms, key=lambda name: -served_ms[name])
        parts = ", ".join(f"{name} {served_ms[name]:.1f}" for name in names[:4])
        print(
            f"  round {round_}: bare loop {alone:.1f}/s, {alone_ms:.1f} ms; through the service "
            f"{served:.1f}/s, {sum(served_ms.values()):.1f} ms ({parts}); "
            f"ratio {served / alone:.2f}"
        )


def show_small_orders(client: Client, generator: UUID) -> None:
    """What one image an order costs: as many orders and slices, and a batch of one."""
    print(f"\n{SMALL} images: one order, as many orders of one image sent together")
    began = time.perf_counter()
    finish(client, order(client, generator, SMALL))
    together = time.perf_counter() - began
    began = time.perf_counter()
    with ThreadPoolExecutor(SMALL) as pool:
        made = list(pool.map(lambda seed: order(client, generator, 1, seed), range(SMALL)))
    for generation in made:
        finish(client, generation)
    apart = time.perf_counter() - began
    print(f"  {SMALL / together:.1f} images/s; {SMALL / apart:.1f} images/s")


def show_latencies(client: Client, generator: UUID) -> None:
    print("\nPOST /generate, milliseconds, while a worker renders what was ordered")
    alone = latencies(client, generator, 1, 30)
    many = latencies(client, generator, 16, 64)
    for name, times in (("1 client", alone), ("16 clients", many)):
        high = quantiles(times, n=20)[-1]
        print(f"  {name:<10}: median {median(times):6.1f}   95 % below {high:6.1f}")
    print(f"  ratio of medians, 16 clients to 1: {median(many) / median(alone):.1f}")


def show_start(launcher: Launcher, generator: UUID) -> None:
    launcher.down()
    began = time.perf_counter()
    access = launcher.up()
    ready = time.perf_counter() - began
    with Client(access.url, access.key) as client:
        generation = order(client, generator, 1)
        finish(client, generation)
        client.generation_image_png(generation, 0)
    image = time.perf_counter() - began
    print(f"\n`up` to the first answered request: {ready:.1f} s; to the first image: {image:.1f} s")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        launcher = Launcher(Path(folder) / "state")
        access = launcher.up()
        try:
            with Client(access.url, access.key) as client:
                generator = a_generator(client)
                show_throughput(client, launcher, generator)
                show_small_orders(client, generator)
                show_latencies(client, generator)
            show_start(launcher, generator)
        finally:
            launcher.down()


if __name__ == "__main__":
    main()
