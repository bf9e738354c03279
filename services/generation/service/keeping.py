"""What generation keeps: which objects a row names, how it all goes, and what lies in scratch."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from services.generation.models import (
    Calibrated,
    Checkpoint,
    Generation,
    Generator,
    Image,
    Loss,
    Preview,
)
from services.generation.service.keys import generation_folder, generator_folder, index_of
from services.kit.collector import Named
from services.kit.db import Database, Tx
from services.kit.deletion import Kept
from services.kit.jobs import Jobs, lineage

GENERATOR = "generator"
GENERATION = "generation"
MAY_RUN = frozenset({"queued", "running", "quarantined"})
"""States of a slice that may still read its inputs."""


def _forget_generator(session: Session, generator: UUID) -> None:
    session.execute(delete(Checkpoint).where(Checkpoint.generator == generator))
    session.execute(delete(Loss).where(Loss.generator == generator))
    session.execute(delete(Calibrated).where(Calibrated.generator == generator))
    session.execute(delete(Preview).where(Preview.generator == generator))
    session.execute(delete(Generator).where(Generator.id == generator))


def _forget_generation(session: Session, generation: UUID) -> None:
    session.execute(delete(Image).where(Image.generation == generation))
    session.execute(delete(Generation).where(Generation.id == generation))


KEPT: Mapping[str, Kept] = {
    GENERATOR: Kept(generator_folder, _forget_generator),
    GENERATION: Kept(generation_folder, _forget_generation),
}


def naming(jobs: Jobs) -> Mapping[str, Named]:
    """Which keys of the folders of generators and generations rows name."""

    def of_generator(tx: Tx, generator: UUID, _: Sequence[str]) -> set[str]:
        row = tx.session.get(Generator, generator)
        if row is None:
            return set()
        checkpoints = tx.session.scalars(
            select(Checkpoint.files).where(Checkpoint.generator == generator)
        )
        keys = {key for files in checkpoints for key, _ in files.values()}
        previews = select(Preview.image_key).where(Preview.generator == generator)
        keys.update(tx.session.scalars(previews))
        for payload, state in jobs.slice_states(tx, row.job):
            if state in MAY_RUN:  # it reads the rows to train on, or the file that was sent
                keys.update(payload[name] for name in ("rows", "upload") if name in payload)
        return keys.union(key for key in (row.weights_key, row.population_key) if key is not None)

    return {"generators": of_generator, "generations": _of_generation}


def _of_generation(tx: Tx, generation: UUID, keys: Sequence[str]) -> set[str]:
    indices = [n for n in map(index_of, keys) if n is not None]
    images = tx.session.scalars(
        select(Image.image_key).where(Image.generation == generation, Image.index.in_(indices))
    )
    manifest = tx.session.scalars(
        select(Generation.manifest_key).where(Generation.id == generation)
    )
    return {key for key in (*images, *manifest) if key is not None}


@dataclass(frozen=True)
class Scratch:
    """Copies on this machine's disk: packed training images by generator, weights by digest."""

    db: Database
    jobs: Jobs
    folder: Path

    def tidy(self) -> None:
        """Remove the images of trainings that are over or deleted, and deleted weights."""
        packed = {UUID(path.name): path for path in (self.folder / "generators").glob("*")}
        weights = {path.name.split(".")[0]: path for path in (self.folder / "weights").glob("*")}
        with self.db.transaction() as tx:
            there = lineage.visible(Generator.id)
            rows = tx.session.execute(
                select(Generator.id, Generator.job).where(Generator.id.in_(packed), there)
            ).all()
            views = self.jobs.views(tx, [row.job for row in rows])
            training = {row.id for row in rows if not views[row.job].state.terminal}
            digests = select(Generator.weights_sha256).where(
                Generator.weights_sha256.in_(weights), there
            )
            kept = set(tx.session.scalars(digests))
        for path in (packed[name] for name in packed.keys() - training):
            shutil.rmtree(path, ignore_errors=True)
        for path in (weights[digest] for digest in weights.keys() - kept):
            path.unlink(missing_ok=True)
