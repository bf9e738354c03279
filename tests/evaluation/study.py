"""A made-up study: phantoms of two sites, four arms, predictions with a known effect."""

import io
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa
from PIL import Image

from api_schemas.base import JobState, JobView
from api_schemas.datasets import DatasetKind, DatasetView, ManifestView
from api_schemas.findings import FINDINGS
from api_schemas.generation import CohortManifest, GenerationView, Sampler
from api_schemas.generators import GeneratorView
from api_schemas.manifest import MANIFEST, PREDICTIONS, to_parquet
from api_schemas.screening import Neighbour
from services.kit.auth import Caller
from services.kit.errors import NotFound
from services.kit.objects import ObjectStore, sha256

ARMS = {"real": 0.8, "real_equal_steps": 0.9, "real+100%": 1.5}
DOSES = {"real": 0.0, "real+100%": 1.0}
SEEDS = [0, 1]
LABELS = ("Edema", "Cardiomegaly")
TESTS = {"site-a": 60, "site-b": 50}
"""Test sets and their patients."""
NOW = datetime(2026, 11, 23, tzinfo=UTC)
DONE = JobView(id=UUID(int=1), kind="import", state=JobState.SUCCEEDED, created_at=NOW)


def plan(experiment: UUID, data: UUID, **changes: Any) -> dict[str, Any]:
    """The plan as JSON; `changes` replace its fields."""
    test = {"data": {"dataset": str(data)}, "split": "test"}
    return {
        "experiment": str(experiment),
        "name": "does it help?",
        "arms": [{"name": name, "dose": DOSES.get(name)} for name in ARMS],
        "seeds": SEEDS,
        "tests": [{"name": name, **test} for name in TESTS],
        "reference": "real_equal_steps",
        "primary": "real+100%",
        "margin": 0.005,
        **changes,
    }


def predictions(
    test: str,
    arm: str,
    seed: int,
    *,
    labels: tuple[str, ...] = LABELS,
    patients: int | None = None,
    truth_seed: int = 0,
    patient: str = "patient",
) -> pa.Table:
    """Scores that find the truth the better, the larger the arm's effect."""
    count = patients or TESTS[test]
    rng = np.random.default_rng([truth_seed, count])
    owner = np.repeat(np.arange(count), rng.integers(1, 4, count))
    truth = (rng.random((count, len(labels))) < 0.35)[owner].astype(np.int8)
    noise = np.random.default_rng(1).normal(size=truth.shape)
    jitter = np.random.default_rng([list(ARMS).index(arm), seed]).normal(size=truth.shape)
    scores = ARMS[arm] * truth + noise + 0.1 * jitter
    known = np.random.default_rng(2).random(truth.shape) > 0.1
    n, width = truth.shape
    return pa.table(
        {
            "sample_id": np.repeat([f"{test}-{i:04d}" for i in range(n)], width),
            "patient_id": np.repeat([f"{test}-{patient}-{p}" for p in owner], width),
            "label": np.tile(np.array(labels), n),
            "truth": pa.array(truth.ravel(), pa.int8(), mask=~known.ravel()),
            "score": scores.ravel(),
        },
        schema=PREDICTIONS,
    )


@cache
def content(*args: Any, **kinds: Any) -> bytes:
    return to_parquet(predictions(*args, **kinds))


@dataclass
class Shelf:
    """Datasets and cohorts in memory, with their images in the real store."""

    store: ObjectStore
    datasets: dict[UUID, tuple[Caller, DatasetView, pa.Table]] = field(default_factory=dict)
    cohorts: dict[UUID, tuple[Caller, GenerationView, pa.Table]] = field(default_factory=dict)
    generators: dict[UUID, GeneratorView] = field(default_factory=dict)
    neighbours: dict[UUID, list[Neighbour]] = field(default_factory=dict)

    def add_dataset(self, caller: Caller, *, phantom: bool = True, samples: int = 16) -> UUID:
        made = uuid4()
        view = DatasetView(
            id=made,
            name="Phantoms of site A",
            kind=DatasetKind.PHANTOM if phantom else DatasetKind.REAL,
            format="phantom",
            site="phantom-a",
            size_px=16,
            terms="",
            created_at=NOW,
            job=DONE,
            manifest=ManifestView(id=made, digest="5" * 64, images=samples, patients=9, key="k"),
        )
        table = self._manifest(made, [(f"real-{i}", None) for i in range(samples)])
        self.datasets[made] = (caller, view, table)
        return made

    def add_population(self, caller: Caller, tables: list[pa.Table]) -> UUID:
        """A dataset that says who is on the images of some predictions: every third patient a man,
        half of them past sixty, and of the last five samples nothing.
        """
        made = self.add_dataset(caller, phantom=False)
        whose = {
            row["sample_id"]: int(row["patient_id"].rsplit("-", 1)[1])
            for table in tables
            for row in table.select(["sample_id", "patient_id"]).to_pylist()
        }
        rows = [
            dict.fromkeys(MANIFEST.names)
            | {"sample_id": sample, "patient_id": f"p{patient}", "site": "a", "split": "test"}
            | {"sex": "Male" if patient % 3 == 0 else "Female", "age": 70 if patient % 2 else 50}
            for sample, patient in list(whose.items())[:-5]
        ]
        table = pa.Table.from_pylist(rows, schema=MANIFEST)
        self.datasets[made] = (*self.datasets[made][:2], table)
        return made

    def add_cohort(self, caller: Caller, parents: list[str | None]) -> UUID:
        made = uuid4()
        view = GenerationView(
            id=made,
            name="cohort",
            generator=uuid4(),
            created_at=NOW,
            images=len(parents),
            seed=1,
            sampler=Sampler(),
            batch=8,
            mirror=None,
            replicas=1,
            phantom=True,
            manifest=CohortManifest(id=made, digest="6" * 64, images=len(parents), key="k"),
            job=DONE,
        )
        table = self._manifest(made, [(f"synthetic-{i}", p) for i, p in enumerate(parents)])
        self.cohorts[made] = (caller, view, table)
        return made

    def dataset(self, caller: Caller, dataset: UUID) -> DatasetView:
        return self._own(self.datasets, caller, dataset)[0]

    def dataset_manifest(self, caller: Caller, dataset: UUID) -> pa.Table:
        return self._own(self.datasets, caller, dataset)[1]

    def generator(self, caller: Caller, generator: UUID) -> GeneratorView:
        if generator not in self.generators:
            raise NotFound("There is no such thing")
        return self.generators[generator]

    def likest(self, caller: Caller, generation: UUID, count: int) -> list[Neighbour]:
        self.generation(caller, generation)
        return self.neighbours.get(generation, [])[:count]

    def generation(self, caller: Caller, generation: UUID) -> GenerationView:
        return self._own(self.cohorts, caller, generation)[0]

    def cohort_manifest(self, caller: Caller, generation: UUID) -> pa.Table:
        return self._own(self.cohorts, caller, generation)[1]

    def _own(self, things: dict, caller: Caller, key: UUID) -> tuple[Any, pa.Table]:
        if key not in things or things[key][0].project != caller.project:
            raise NotFound("There is no such thing")
        return things[key][1:]

    def _manifest(self, owner: UUID, samples: list[tuple[str, str | None]]) -> pa.Table:
        rows = []
        for index, (name, parent) in enumerate(samples):
            png = io.BytesIO()
            shade = np.full((16, 16), (37 * index) % 256, dtype=np.uint8)
            Image.fromarray(shade).save(png, format="PNG")
            key = f"test/{owner}/{name}.png"
            self.store.put(key, png.getvalue())
            rows.append(
                dict.fromkeys(MANIFEST.names)
                | dict.fromkeys((str(f) for f in FINDINGS), 0)
                | {
                    "sample_id": name,
                    "image_key": key,
                    "image_sha256": sha256(png.getvalue()),
                    "pixel_sha256": "0" * 64,
                    "patient_id": f"p{index}",
                    "site": "phantom-a",
                    "split": "train",
                    "sex": "Female",
                    "age": 40 + index,
                    "parent_sample_id": parent,
                    "seed": index if name.startswith("synthetic") else None,
                    str(FINDINGS[index % len(FINDINGS)]): 1,
                }
            )
        return pa.Table.from_pylist(rows, schema=MANIFEST)
