"""The one place where the environment is read; only composition roots ask for it."""

import os
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Read(BaseSettings):
    """Settings that come from variables, or from files where those are not set."""

    model_config = SettingsConfigDict(env_prefix="SYNTHORAX_", extra="ignore")

    @classmethod
    def read(cls) -> Self:
        """Read variables and secret files; raises pydantic's error naming what is missing."""
        folder = os.environ.get("SYNTHORAX_SECRETS_DIR")
        return cls(_secrets_dir=folder)  # pyright: ignore[reportCallIssue]


class DatabaseSettings(Read):
    """The little that a migration needs."""

    database_url: SecretStr


class PseudonymSettings(Read):
    """The little that finding a patient's pseudonym needs."""

    pseudonym_key: SecretStr
    """Key under which patient ids become pseudonyms."""


class Settings(DatabaseSettings, PseudonymSettings):
    """What an installation sets: `SYNTHORAX_*` variables, or files of those names.

    Files lie in `SYNTHORAX_SECRETS_DIR` (a compose file mounts its secrets there); a variable
    wins over a file.
    """

    broker_url: SecretStr
    s3_endpoint: str
    s3_access_key: SecretStr
    s3_secret_key: SecretStr
    s3_secure: bool = False
    s3_folder: Path | None = None
    """The folder of the object store's files, for a store of this machine: it answers a put before
    the object is on the disk, so its files are synced before a row is committed; and its answers do
    not tell a full disk from other failures.
    """
    bucket: str = "synthorax"
    s3_compact: str = ""
    """Command line that frees the bytes of removed objects, where the store keeps them."""

    key_pepper: SecretStr
    """Key of the hash under which API keys are stored."""
    service_secret: SecretStr
    """What services show each other when they act on behalf of a user."""

    datasets_url: str = "http://127.0.0.1:8000"
    generation_url: str = "http://127.0.0.1:8000"
    training_url: str = "http://127.0.0.1:8000"
    evaluation_url: str = "http://127.0.0.1:8000"

    scratch: Path = Path("/tmp/synthorax")  # noqa: S108 - only a default; the launcher sets its own
    import_roots: str = ""
    """Folders below which a dataset may be imported, joined by the path separator."""
    upload_limit_bytes: int = Field(default=64 << 30, gt=0)
    """An archive that is sent may have so many bytes."""
    checkpoint_limit_bytes: int = Field(default=8 << 30, gt=0)
    """A checkpoint that is sent may have so many bytes."""
    device: str = "auto"
    machine: str = ""
    """Name of the host whose device this is; containers on one host must agree on it."""
    log_level: str = "INFO"

    fail: str = ""
    """For tests alone: where this process is made to fail, see `services.kit.failpoints`."""

    lease_s: float = Field(default=60.0, gt=0)
    heartbeat_s: float = Field(default=10.0, gt=0)
    sweep_s: float = Field(default=5.0, gt=0)
    stall_s: float = Field(default=900.0, gt=0)
    """A slice that reports no progress for this long is given up and its process ended."""
    owner_cap: int = Field(default=4, ge=1)
    """Slices of one person that may run at once in one queue."""
    queued_cap: int = Field(default=1000, ge=1)
    """Unfinished jobs that one person may have in one queue."""
    collect_grace_s: float = Field(default=24 * 3600.0, ge=60)
    """An object that no row names is removed when it is older than this; longer than any slice."""
    collect_every_s: float = Field(default=3600.0, gt=0)

    @property
    def roots(self) -> list[Path]:
        return [Path(p).resolve() for p in self.import_roots.split(os.pathsep) if p]
