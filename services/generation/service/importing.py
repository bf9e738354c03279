"""What a worker does to import a checkpoint: have it read behind walls, keep its weights."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from api_schemas.generators import GeneratorOrigin, ImportRequest
from services.generation.models import Generator
from services.generation.ports import engine as refusals
from services.generation.ports.engine import CheckpointRefused, Engine, Imported
from services.generation.service import problems
from services.generation.service.keys import generator_key
from services.generation.service.training import WEIGHTS
from services.kit.db import Database
from services.kit.errors import Unprocessable
from services.kit.jobs import Lease, step_of
from services.kit.objects import ObjectMissing, ObjectStore

IMPORT = "import-generator"

PROBLEMS: Mapping[type[CheckpointRefused], type[Unprocessable]] = MappingProxyType(
    {
        refusals.CheckpointUnreadable: problems.CheckpointUnreadable,
        refusals.CheckpointUnsafe: problems.CheckpointUnsafe,
        refusals.NetworkUnsupported: problems.NetworkUnsupported,
        refusals.KeysDiffer: problems.KeysDiffer,
        refusals.WeightsNotFinite: problems.WeightsNotFinite,
    }
)


class Importing:
    """Handles slices of kind `import-generator`. Knows no format; the engine does.

    The file that was sent goes when its weights are kept, and when they are refused.
    """

    def __init__(self, db: Database, store: ObjectStore, engine: Engine, scratch: Path) -> None:
        self._db = db
        self._store = store
        self._engine = engine
        self._scratch = scratch

    def __call__(self, lease: Lease) -> None:
        step_of(lease)
        upload, request = lease.payload["upload"], ImportRequest.model_validate(lease.inputs)
        folder = self._scratch / "generators" / str(lease.resource)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            found = self._read(upload, request, folder)
            lease.stop_now()
            self._keep(lease, upload, folder / WEIGHTS, found)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _read(self, upload: str, request: ImportRequest, folder: Path) -> Imported:
        source = folder / "checkpoint"
        try:
            self._store.get_file(upload, source, request.sha256)
            return self._engine.import_checkpoint(source, folder / WEIGHTS, request.weights)
        except ObjectMissing as error:
            raise problems.UploadGone("Send it again", field="file") from error
        except CheckpointRefused as refusal:
            self._store.remove([upload])
            raise PROBLEMS[type(refusal)](str(refusal), field="file") from refusal

    def _keep(self, lease: Lease, upload: str, weights: Path, found: Imported) -> None:
        with self._db.transaction() as tx:
            row = tx.session.get_one(Generator, lease.resource)
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        key = generator_key(row, WEIGHTS, digest)
        self._store.put_file(key, weights)
        lease.progress(1, 1, "files")
        with lease.finishing() as tx:
            row = tx.session.get_one(Generator, lease.resource)
            row.size_px = found.size_px
            row.encoder = found.encoder
            row.origin = origin(found).model_dump(mode="json")
            row.weights_key = key
            row.weights_sha256 = digest
            tx.after_commit(lambda: self._store.remove([upload]))


def origin(found: Imported) -> GeneratorOrigin:
    facts = {n: v for n, v in asdict(found).items() if n not in {"size_px", "encoder"}}
    return GeneratorOrigin.model_validate_json(json.dumps(facts))
