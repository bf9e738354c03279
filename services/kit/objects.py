"""The object store, plain S3. Every read can verify its content."""

import hashlib
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from services.kit.failpoints import failpoint
from services.kit.syncing import SyncedFolder

BYTES = "application/octet-stream"
BLOCK = 1 << 20
MARKER = "clock"
"""Put to learn the store's time; nobody's object."""


class ObjectMissing(LookupError):
    """No object has this key."""


class DigestMismatch(ValueError):
    """The store returned other bytes than were put there."""


class Listed(NamedTuple):
    """An object, and when it was put by the store's clock."""

    key: str
    changed: datetime


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class ObjectStore:
    """Bytes under keys in one bucket. Does not know what they mean.

    An object that was put outlives the processes. It also outlives a power cut once `sync` has
    returned, which every commit calls: an object is safe before a row that names it is.

    Keys carry no personal data; by custom they end in the first 16 digits of the content's
    SHA-256, so that two writers never write different bytes to one key.
    """

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        *,
        secure: bool = False,
        folder: Path | None = None,
    ) -> None:
        """`folder` is where a store of this machine keeps its files; without it the store is one
        that answers a put when the object is on its disks.
        """
        self._files = SyncedFolder(folder) if folder is not None else None
        self._bucket = bucket
        self._client = Minio(
            endpoint,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            http_client=urllib3.PoolManager(
                maxsize=32,
                timeout=urllib3.Timeout(connect=5, read=60),
                retries=urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=[502, 503]),
            ),
        )

    def ensure_bucket(self) -> None:
        """Make the bucket unless somebody has."""
        try:
            self._client.make_bucket(self._bucket)
        except S3Error as error:
            if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    def sync(self) -> None:
        """Return when all that this process has put and removed so far outlives a power cut."""
        if self._files is not None:
            self._files.sync()

    def _note_change(self) -> None:
        if self._files is not None:
            self._files.note()

    def put(self, key: str, content: bytes, content_type: str = BYTES) -> None:
        """Store `content`; the bucket of a new installation is made on the way."""
        try:
            self._put(key, content, content_type)
        except S3Error as error:
            if error.code != "NoSuchBucket":
                raise
            self.ensure_bucket()
            self._put(key, content, content_type)
        self._note_change()
        failpoint("after_put")

    def _put(self, key: str, content: bytes, content_type: str) -> None:
        self._client.put_object(
            self._bucket, key, io.BytesIO(content), len(content), content_type=content_type
        )

    def put_file(self, key: str, path: Path) -> None:
        """Store a file of any size, in parts, and sync it: that may take too long for a commit."""
        self.ensure_bucket()
        self._client.fput_object(self._bucket, key, str(path))
        self._note_change()
        self.sync()
        failpoint("after_put")

    def get_file(self, key: str, path: Path, digest: str) -> None:
        """Write an object of any size to `path`. Raises like `get`; nothing is left then."""
        try:
            response = self._client.get_object(self._bucket, key)
        except S3Error as error:
            if error.code in {"NoSuchKey", "NoSuchObject"}:
                raise ObjectMissing(key) from error
            raise
        found = hashlib.sha256()
        try:
            with path.open("wb") as file:
                for block in response.stream(BLOCK):
                    found.update(block)
                    file.write(block)
        finally:
            response.close()
            response.release_conn()
        if found.hexdigest() != digest:
            path.unlink()
            raise DigestMismatch(key)

    def get(self, key: str, digest: str | None = None) -> bytes:
        """The object's bytes. Raises `ObjectMissing`, and `DigestMismatch` if `digest` differs."""
        try:
            response = self._client.get_object(self._bucket, key)
        except S3Error as error:
            if error.code in {"NoSuchKey", "NoSuchObject"}:
                raise ObjectMissing(key) from error
            raise
        try:
            content = response.read()
        finally:
            response.close()
            response.release_conn()
        if digest is not None and sha256(content) != digest:
            raise DigestMismatch(key)
        return content

    def exists(self, key: str) -> bool:
        return self.changed(key) is not None

    def keys(self, prefix: str) -> Iterator[str]:
        return (each.key for each in self.listing(prefix))

    def listing(self, prefix: str) -> Iterator[Listed]:
        """Objects below `prefix` in the order of their keys, read page by page."""
        for item in self._client.list_objects(self._bucket, prefix=prefix, recursive=True):
            if item.object_name is not None and item.last_modified is not None and not item.is_dir:
                yield Listed(item.object_name, item.last_modified)

    def changed(self, key: str) -> datetime | None:
        """When the object was put, by the store's clock; None when there is none."""
        try:
            return self._client.stat_object(self._bucket, key).last_modified
        except S3Error as error:
            if error.code in {"NoSuchKey", "NoSuchObject"}:
                return None
            raise

    def now(self) -> datetime:
        """What the store's clock says: when it put a marker just now."""
        self.put(MARKER, b"")
        return next(each.changed for each in self.listing(MARKER) if each.key == MARKER)

    def remove(self, keys: Iterable[str]) -> None:
        errors = self._client.remove_objects(self._bucket, (DeleteObject(k) for k in keys))
        failed = [e.code for e in errors if e.code != "NoSuchKey"]
        self._note_change()
        if failed:
            raise OSError(f"{len(failed)} objects could not be removed: {failed[0]}")

    def remove_prefix(self, prefix: str) -> None:
        """Remove everything below `prefix`, which must end in a slash."""
        if not prefix.endswith("/"):
            raise ValueError("a prefix to remove ends in a slash")
        self.remove(self.keys(prefix))
