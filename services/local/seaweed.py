"""SeaweedFS from a wheel: the object store, speaking S3."""

import io
import json
import sys
from pathlib import Path
from uuid import uuid4

import urllib3
from minio import Minio

from services.local.certificates import certificate
from services.local.children import Command
from services.local.state import State
from services.local.volumes import mend_volumes

BUCKET = "synthorax"
PORTS = (
    *("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port"),
    *("volume.port.grpc", "filer.port", "filer.port.grpc", "admin.port"),
)
PROGRAM = Path(sys.prefix) / "bin" / "weed"
GRPC_PARTS = ("s3", "master", "volume", "filer")
GRPC_OFFSET = 10_000
SOCKETS = Path("/tmp")  # noqa: S108 - its choice, not ours
SECURITY = "security.toml"
"""`weed` reads it from the folder in which it is started, as server and as client."""
TOKENS = ("signing", "signing.read", "filer_signing", "filer_signing.read")
SERVED = ("master", "volume", "filer", "s3", "admin")
CALLING = ("client", "worker")
ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


class Seaweed:
    """The recipe: how to configure, start and ask it."""

    name = "seaweed"
    ports = PORTS

    def __init__(self, state: State) -> None:
        self.state = state
        self.identities = state.root / "identities.json"

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.state.port('s3.port')}"

    @property
    def folder(self) -> Path:
        """All that it keeps."""
        return self.state.folder(self.name)

    @property
    def leftovers(self) -> tuple[Path, ...]:
        """Its parts' sockets for each other: only we may connect, but nobody removes them."""
        ports = {part: self.state.port(f"{part}.port.grpc") for part in GRPC_PARTS}
        ports["admin"] = self.state.port("admin.port") + GRPC_OFFSET
        return tuple(SOCKETS / f"seaweedfs-{part}-grpc-{port}.sock" for part, port in ports.items())

    def prepare(self) -> None:
        """The one identity that may do anything; nobody is anonymous. A power cut is mended."""
        mend_volumes(self.folder)
        credentials = {
            "accessKey": self.state.secret("s3_access_key"),
            "secretKey": self.state.secret("s3_secret_key"),
        }
        identity = {"name": "synthorax", "credentials": [credentials], "actions": ACTIONS}
        self.state.write_json(self.identities, {"identities": [identity]})
        self.state.write(self.folder / SECURITY, self._security())

    def _security(self) -> str:
        """Nobody is served without our certificate, and no object without a token besides.

        The parts would otherwise give whole volumes to every user of the machine.
        """
        files = certificate(self.state, self.name)
        ours = {"cert": str(files.certificate), "key": str(files.key)}
        authority = {"ca": str(files.authority)}
        tables: dict[str, dict[str, str | bool]] = {"grpc": {**authority}}
        tables |= {f"grpc.{part}": {**ours} for part in (*SERVED, *CALLING)}
        tables |= {f"https.{part}": {**ours, **authority} for part in SERVED if part != "s3"}
        tables["https.client"] = {"enabled": True, **ours, **authority}
        tables |= {
            f"jwt.{token}": {"key": self.state.secret(f"jwt_{token.replace('.', '_')}")}
            for token in TOKENS
        }
        tables["filer.expose_directory_metadata"] = {"enabled": False}
        lines: list[str] = []
        for name, table in tables.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        return "\n".join([*lines, ""])

    def command(self) -> Command:
        options = {
            "dir": str(self.folder),
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.telemetry": "false",
            "admin.ui": "false",
            "webdav": "false",
            "s3.iam": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "s3.config": str(self.identities),
            "s3.allowDeleteBucketNotEmpty": "false",
            "s3.autoCreateBucket": "false",
            # in our closed folder rather than in /tmp; relative, for a socket's path is short
            "s3.localSocket": "s3.sock",
            "filer.localSocket": "filer.sock",
            # its own maintenance worker looks for the administration at this offset, told or not
            "admin.port.grpc": str(self.state.port("admin.port") + GRPC_OFFSET),
        } | {port: str(self.state.port(port)) for port in PORTS}
        return Command(
            name=self.name,
            arguments=(
                str(PROGRAM),
                "-logtostderr=true",
                "mini",
                *(f"-{key}={value}" for key, value in options.items()),
            ),
            environment={"GOMEMLIMIT": "300MiB"},
            folder=self.folder,
        )

    def probe(self) -> None:
        """A real put: its health route answers before writes work.

        Each time under another key: a put that came too early may hang for a quarter of a minute,
        and keeps its key locked meanwhile.
        """
        with urllib3.PoolManager(timeout=3, retries=False) as pool:
            client = Minio(
                self.endpoint,
                access_key=self.state.secret("s3_access_key"),
                secret_key=self.state.secret("s3_secret_key"),
                secure=False,
                region="us-east-1",
                http_client=pool,
            )
            if not client.bucket_exists(BUCKET):
                client.make_bucket(BUCKET)
            key = f"ready/{uuid4()}"
            client.put_object(BUCKET, key, io.BytesIO(b"ready"), len(b"ready"))
            client.remove_object(BUCKET, key)
