"""`verify` as it is typed, on servers that it starts itself."""

from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from services.kit.objects import ObjectStore, sha256
from services.local.__main__ import verify
from services.local.launcher import Launcher
from services.local.seaweed import BUCKET

CONTENT = b"a table of features"


def keep_features(launcher: Launcher) -> tuple[ObjectStore, str]:
    """One resource with one object, and nothing else."""
    project, table = uuid4(), uuid4()
    key = f"projects/{project}/features/{table}/features-{sha256(CONTENT)[:16]}.parquet"
    ends = launcher.servers.start()
    store = ObjectStore(ends.s3_endpoint, ends.s3_access_key, ends.s3_secret_key, BUCKET)
    store.put(key, CONTENT)
    with psycopg.connect(launcher.servers.postgres.url()) as connection:
        connection.execute(
            "INSERT INTO jobs.resources (id, project, service, queue, kind, name)"
            " VALUES (%s, %s, 'evaluation', 'evaluation', 'features', '')",
            [table, project],
        )
        connection.execute(
            "INSERT INTO evaluation.features"
            " (id, project, owner, request, manifest, images, dimension, key, sha256)"
            " VALUES (%s, %s, %s, '{}', '', 1, 1, %s, %s)",
            [table, project, uuid4(), key, sha256(CONTENT)],
        )
    return store, key


def test_verify_says_what_is_there_what_is_missing_and_what_is_altered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = Launcher(tmp_path / "state")
    launcher.migrate()
    try:
        store, key = keep_features(launcher)
        verify(state=tmp_path / "state", content=True)
        assert "1 objects are named by rows" in capsys.readouterr().out
        store.put(key, b"something else")
        verify(state=tmp_path / "state")
        assert "all of them are in the store" in capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            verify(state=tmp_path / "state", content=True)
        assert ended.value.code == 1
        assert "1 altered" in capsys.readouterr().out
        store.remove([key])
        with pytest.raises(SystemExit) as ended:
            verify(state=tmp_path / "state")
        assert ended.value.code == 1
        assert "1 missing" in capsys.readouterr().out
        assert launcher.servers.running()  # they ran before, so they are left running
    finally:
        launcher.down()
