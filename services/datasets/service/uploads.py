"""Archives that people send: received in bounded space, kept until something is imported.

An archive lies in the store, where every worker reaches it, and is unpacked on the scratch disk
of whichever worker needs its files; another worker, or the same after a crash, unpacks it anew.
"""

import hashlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID

import anyio.to_thread
from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.datasets import UploadView
from services.datasets import models
from services.datasets.importers.unpacker import unpack_apart
from services.datasets.service.keys import upload_key
from services.datasets.service.problems import UploadGone, UploadTooLarge, UploadUnknown
from services.kit.auth import Caller
from services.kit.db import Database, new_id
from services.kit.objects import ObjectStore
from services.kit.scratch import temporary_folder

FOLDER = "uploads"
BLOCK = 1 << 20


class Uploads:
    """The uploads of a caller's project; those of others do not exist."""

    def __init__(self, db: Database, store: ObjectStore, scratch: Path, limit_bytes: int) -> None:
        self._db = db
        self._store = store
        self._scratch = scratch
        self._limit_bytes = limit_bytes

    async def receive(self, caller: Caller, chunks: AsyncIterator[bytes]) -> UploadView:
        """Store what arrives, counted while it does. Raises `UploadTooLarge` (413)."""
        digest, size = hashlib.sha256(), 0
        with (
            temporary_folder(self._scratch, "upload-") as folder,
            (folder / "archive").open("wb") as file,
        ):
            async for chunk in chunks:
                size += len(chunk)
                if size > self._limit_bytes:
                    raise UploadTooLarge(
                        "Unpack it on the server instead, below a folder to import from",
                        accepted=f"at most {self._limit_bytes} bytes",
                    )
                digest.update(chunk)
                await anyio.to_thread.run_sync(file.write, chunk)
            file.flush()
            return await anyio.to_thread.run_sync(
                lambda: self._keep(caller, folder / "archive", size, digest.hexdigest())
            )

    def _keep(self, caller: Caller, path: Path, size: int, sha256: str) -> UploadView:
        upload = new_id()
        key = upload_key(caller.project, upload, sha256)
        self._store.put_file(key, path)
        row = models.Upload(
            id=upload,
            project=caller.project,
            owner=caller.person,
            key=key,
            bytes=size,
            sha256=sha256,
        )
        with self._db.transaction() as tx:
            tx.session.add(row)
        return UploadView(id=upload, bytes=size, sha256=sha256)

    def discard(self, caller: Caller, upload: UUID) -> None:
        """Forget an upload that nothing is to be imported from (any more)."""
        with self._db.transaction() as tx:
            row = _find(tx.session, caller.project, upload, lock=True)
            if row is None:
                raise UploadUnknown("There is no such upload")
            tx.session.delete(row)
            tx.after_commit(lambda: self._store.remove([row.key]))

    def require(self, session: Session, project: UUID, upload: UUID) -> models.Upload:
        row = _find(session, project, upload)
        if row is None:
            raise UploadGone(
                "Send the archive first; an import that succeeds uses it up", field="upload"
            )
        return row

    # ------------------------------------------------------------ for workers

    def unpacked(self, project: UUID, upload: UUID, stop_if_asked: Callable[[], None]) -> Path:
        """The folder of an upload's files on this machine. Raises `ArchiveUnusable`."""
        folder = self._scratch / FOLDER / str(upload)
        if folder.exists():
            return folder
        with self._db.transaction() as tx:
            row = self.require(tx.session, project, upload)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(self._scratch, "unpacking-") as making:
            (making / "files").mkdir()
            self._store.get_file(row.key, making / "archive", row.sha256)
            unpack_apart(making / "archive", making / "files", stop_if_asked)
            if not folder.exists():  # another worker of this machine may have been faster
                (making / "files").rename(folder)
        return folder

    def used_up(self, session: Session, project: UUID, upload: UUID) -> Callable[[], None]:
        """Forget an upload in the caller's transaction; answers what to do once it commits."""
        row = _find(session, project, upload)
        if row is not None:
            session.delete(row)

        def remove() -> None:
            shutil.rmtree(self._scratch / FOLDER / str(upload), ignore_errors=True)
            if row is not None:
                self._store.remove([row.key])

        return remove


def _find(
    session: Session, project: UUID, upload: UUID, *, lock: bool = False
) -> models.Upload | None:
    query = select(models.Upload).filter_by(id=upload, project=project)
    return session.scalars(query.with_for_update() if lock else query).one_or_none()
