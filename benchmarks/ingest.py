"""`python -m benchmarks.ingest`: importing beside the bare computation, and a table of real size.

Starts an installation of its own in a temporary folder and takes it down again. Makes its own
data: JPEGs of CheXpert's original size out of phantoms, and a label table of CheXpert's real size
and columns, all made up.
"""

import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID

import numpy as np
from PIL import Image

from api_schemas.client import Client, wait
from api_schemas.imports import ChexpertImport, CsvImport, FilesRequest, PhantomSite
from benchmarks.processor import used_s
from services.datasets.importers.chexpert import OFFICIAL
from services.datasets.importers.decoders import KEEP_MEMORY
from services.datasets.importers.images import picture
from services.datasets.importers.phantom import draw, population
from services.datasets.importers.preparing import prepare
from services.datasets.importers.source import Preparation, Unreadable
from services.local.launcher import Launcher

DISTINCT, IMAGES = 128, 4096
WIDTH, HEIGHT = 2320, 2828
SIZE_PX = 256
ROUNDS = 2
ROWS, FRONTAL = 223_414, 191_027
PATIENTS = 64_540
LIMIT_S = 1800.0
LABELS = ("", "", "", "1.0", "0.0", "-1.0")


# ---------------------------------------------------------------- images


def make_images(folder: Path) -> Path:
    """A table of large JPEGs: a dozen phantoms, enlarged, each with grain of its own."""
    samples = population(PhantomSite.A, 12, seed=1)[:12]
    rng = np.random.default_rng(1)
    large = [
        np.asarray(Image.fromarray(p).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
        for p in draw(samples, SIZE_PX)
    ]
    grain = rng.normal(0, 4, (HEIGHT, WIDTH)).astype(np.int16)
    rows: list[str] = []
    for n in range(IMAGES):
        path = folder / f"{n}.jpg"
        if n < DISTINCT:
            noisy = large[n % 12] + np.roll(grain, n * 37, axis=1)
            Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, quality=85)
        else:
            path.hardlink_to(folder / f"{n % DISTINCT}.jpg")
        rows.append(f"{path.name},{n // 3}")
    table = folder / "images.csv"
    table.write_text("Path,PID\n" + "\n".join(rows) + "\n")
    return table


def bare(folder: Path, settings: Mapping[str, str]) -> tuple[float, float]:
    """Images a second that all cores decode, resize and encode, and do nothing else.

    And the processor's milliseconds an image, which other work on the machine does not change.
    `settings` are further variables of the environment.
    """
    cores = os.cpu_count() or 1
    command = [sys.executable, "-m", "benchmarks.ingest", "--bare", str(folder), str(cores)]
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [*command, str(n)],
            env={**os.environ, **alone, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(cores)
    ]
    pipes = [(w.stdin, w.stdout) for w in workers if w.stdin and w.stdout]
    for _, answers in pipes:
        answers.readline()  # has imported everything
    began = time.perf_counter()
    for orders, _ in pipes:
        orders.write("go\n")
        orders.flush()
    used = sum(float(answers.readline()) for _, answers in pipes)
    for worker in workers:
        worker.communicate()
    return IMAGES / (time.perf_counter() - began), 1000 * used / IMAGES


def bare_worker(folder: Path, cores: int, mine: int) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    how = Preparation(SIZE_PX, "paper")
    before = time.process_time()
    for n in range(mine, IMAGES, cores):
        prepared = prepare((folder / f"{n}.jpg").read_bytes(), how)
        if not isinstance(prepared, Unreadable):
            picture(prepared.pixels)
    print(time.process_time() - before, flush=True)


def through_the_service(
    client: Client, launcher: Launcher, table: Path
) -> tuple[float, dict[str, float]]:
    """Likewise, from the request to the manifest; milliseconds by process of the installation."""
    request = CsvImport(
        format="chexpert_csv", name="bench", path=str(table), site="bench", size_px=SIZE_PX
    )
    before = used_s(launcher)
    seconds = _imported(client, request, poll_s=1.0)[1]
    after = used_s(launcher)
    return IMAGES / seconds, {k: 1000 * (after[k] - before[k]) / IMAGES for k in before}


# ---------------------------------------------------------------- the table


def make_table(folder: Path) -> None:
    """train.csv as CheXpert's, of its size; every value made up."""
    chance = random.Random(1)
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(OFFICIAL)
        writer.writerows(_rows(chance))


def _rows(chance: random.Random) -> Iterator[list[str]]:
    lateral = set(chance.sample(range(ROWS), ROWS - FRONTAL))
    for n in range(ROWS):
        patient = 1 + n * PATIENTS // ROWS
        plane = "lateral" if n in lateral else "frontal"
        path = f"CheXpert-v1.0/train/patient{patient:05d}/study{n}/view1_{plane}.jpg"
        view = "" if n in lateral else chance.choice(("AP", "AP", "AP", "PA"))
        sex, age = chance.choice(("Male", "Female")), str(chance.randrange(18, 91))
        labels = ["", *(chance.choice(LABELS) for _ in OFFICIAL[6:])]
        yield [path, sex, age, plane.capitalize(), view, *labels]


def _imported(client: Client, request: FilesRequest, poll_s: float = 0.1) -> tuple[UUID, float]:
    """The dataset, and the seconds from the request to the finished manifest."""
    made = client.post_dataset(request)
    job = wait(lambda: client.get_dataset(made.id).job, limit_s=LIMIT_S, poll_s=poll_s)
    if job.finished_at is None:
        raise RuntimeError("a job that has succeeded has an end")
    return made.id, (job.finished_at - made.job.created_at).total_seconds()


def peak_mib(launcher: Launcher) -> int:
    """The most memory that the importing worker has held so far."""
    pid = next(row.pid for row in launcher.status() if row.name == "cpu")
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        data.mkdir()
        launcher = Launcher(Path(temporary) / "state")
        make_table(data)
        access = launcher.up([data])
        try:
            with Client(access.url, access.key) as client:
                request = ChexpertImport(
                    format="chexpert", name="table", path=str(data), images=False
                )
                made, seconds = _imported(client, request)
                view = client.get_dataset(made)
                print(
                    f"a table of {ROWS:,} rows without images: {seconds:.1f} s, "
                    f"{view.manifest.images if view.manifest else 0:,} samples, "
                    f"{view.rejected:,} lateral; the worker held {peak_mib(launcher)} MiB at most"
                )
                table = make_images(data)
                print(f"\nimages/s, JPEG {WIDTH}x{HEIGHT} to {SIZE_PX} px, {IMAGES} images")
                for round_ in range(1, ROUNDS + 1):
                    plain, kept = bare(data, {}), bare(data, KEEP_MEMORY)
                    served, spent = through_the_service(client, launcher, table)
                    whole = sum(spent.values())
                    alone = whole - spent["seaweed"]
                    print(f"  round {round_}: imported {served:6.1f}, {whole:.1f} ms of processors")
                    for name, (rate, cost) in (("bare", plain), ("keeping memory", kept)):
                        print(
                            f"    {name:14s} on all cores {rate:6.1f}, {cost:.1f} ms: ratio "
                            f"{served / rate:.2f}, by the processor {cost / whole:.2f}, "
                            f"without the store {cost / alone:.2f}"
                        )
                    names = sorted(spent, key=lambda name: -spent[name])
                    print(
                        "    by process: "
                        + ", ".join(f"{name} {spent[name]:.2f}" for name in names[:5])
                    )
        finally:
            launcher.down()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare_worker(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
