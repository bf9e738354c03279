"""The embedded servers, started for real; every test has a state folder of its own."""

import io
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import astuple
from pathlib import Path
from signal import SIGKILL

import psutil
import psycopg
import pytest
from minio import Minio
from minio.error import S3Error
from redis import Redis
from redis.exceptions import AuthenticationError

from services.local import state
from services.local.seaweed import BUCKET
from services.local.servers import Endpoints, Servers

LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("lab") / "state")
    servers.start()
    yield servers
    servers.stop()


@pytest.fixture
def endpoints(servers: Servers) -> Endpoints:
    return servers.start()


def sql(endpoints: Endpoints, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(endpoints.database_url.replace("+psycopg", "")) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def store(endpoints: Endpoints, secret: str | None = None) -> Minio:
    return Minio(
        endpoints.s3_endpoint,
        access_key=endpoints.s3_access_key,
        secret_key=secret or endpoints.s3_secret_key,
        secure=False,
        region="us-east-1",
    )


def kill(pid: int) -> None:
    os.kill(pid, SIGKILL)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_in_the_state_folder_is_closed_to_others(servers: Servers) -> None:
    root = servers.state.root
    assert mode(root) == 0o700
    ours = [path for path in root.rglob("*") if servers.state.folder("seaweed") not in path.parents]
    assert [path for path in ours if mode(path) & 0o077] == []
    secrets = list(servers.state.secrets.iterdir())
    assert len(secrets) >= 8
    assert {mode(secret) for secret in secrets} == {0o600}


def test_no_server_listens_beyond_the_loopback(servers: Servers) -> None:
    listening = [
        connection.laddr.ip
        for pid in servers.running().values()
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 3
    assert set(listening) <= LOOPBACK


def test_no_secret_stands_on_a_command_line(servers: Servers) -> None:
    lines = "\n".join(" ".join(psutil.Process(pid).cmdline()) for pid in servers.running().values())
    for secret in servers.state.secrets.iterdir():
        assert secret.read_text() not in lines


def test_a_second_start_adopts_what_runs(servers: Servers, endpoints: Endpoints) -> None:
    before = servers.running()
    assert set(before) == {"postgres", "valkey", "seaweed"}
    again = Servers(servers.state.root)
    assert again.start() == endpoints
    assert again.running() == before


def test_wrong_secrets_are_refused(endpoints: Endpoints) -> None:
    wrong = endpoints.database_url.replace("+psycopg", "").split("@")[1]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://synthorax:wrong@{wrong}")
    address = endpoints.broker_url.split("@")[1]
    with Redis.from_url(f"redis://:wrong@{address}") as redis, pytest.raises(AuthenticationError):
        redis.ping()
    with pytest.raises(S3Error, match=r"AccessDenied|SignatureDoesNotMatch"):
        store(endpoints, "wrong").stat_object(BUCKET, "ready")


def test_kill_9_of_every_server_loses_nothing(servers: Servers, endpoints: Endpoints) -> None:
    """Bells apart: the broker keeps nothing, and nothing on the disk can keep it from starting."""
    sql(endpoints, "CREATE TABLE kept (n int)")
    sql(endpoints, "INSERT INTO kept SELECT generate_series(1, 1000)")
    with Redis.from_url(endpoints.broker_url) as redis:
        redis.rpush("bells", *range(1000))
    store(endpoints).put_object(BUCKET, "kept", io.BytesIO(b"image"), 5)
    before = servers.running()
    for pid in before.values():
        kill(pid)
    assert servers.start() == endpoints
    after = servers.running()
    assert set(after) == set(before)
    assert not set(after.values()) & set(before.values())
    assert sql(endpoints, "SELECT count(*) FROM kept") == [(1000,)]
    with Redis.from_url(endpoints.broker_url) as redis:
        assert redis.llen("bells") == 0
    assert list((servers.state.root / "valkey").iterdir()) == []
    response = store(endpoints).get_object(BUCKET, "kept")
    assert response.read() == b"image"
    response.close()


def test_stop_leaves_no_process_and_a_restart_keeps_secrets_and_data(
    servers: Servers, endpoints: Endpoints
) -> None:
    sql(endpoints, "CREATE TABLE stays AS SELECT 42 AS answer")
    store(endpoints).put_object(BUCKET, "stays", io.BytesIO(b"42"), 2)
    started = servers.running().values()
    processes = [
        process
        for pid in started
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    ]
    assert all(file.exists() for file in servers.seaweed.leftovers)
    servers.stop()
    assert servers.running() == {}
    assert not any(file.exists() for file in servers.seaweed.leftovers)
    _, alive = psutil.wait_procs(processes, timeout=3)
    assert alive == []
    assert astuple(servers.start()) == astuple(endpoints)
    assert sql(endpoints, "SELECT answer FROM stays") == [(42,)]
    assert store(endpoints).stat_object(BUCKET, "stays").size == 2


def test_a_taken_port_is_exchanged_and_the_data_stays(
    servers: Servers, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "SETTLE_S", 0.3)
    sql(endpoints, "CREATE TABLE moved AS SELECT 7 AS answer")
    store(endpoints).put_object(BUCKET, "moved", io.BytesIO(b"7"), 1)
    servers.stop()
    with ExitStack() as strangers:
        for name in ("postgres", "valkey", "s3.port"):
            stranger = strangers.enter_context(socket.socket())
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.bind(("127.0.0.1", servers.state.port(name)))
            stranger.listen()
        moved = servers.start()
    assert moved.database_url != endpoints.database_url
    assert moved.broker_url != endpoints.broker_url
    assert moved.s3_endpoint != endpoints.s3_endpoint
    assert sql(moved, "SELECT answer FROM moved") == [(7,)]
    assert store(moved).stat_object(BUCKET, "moved").size == 1


def test_a_reused_pid_is_never_taken_for_ours(servers: Servers) -> None:
    """The record of a dead server whose pid another process was given."""
    servers.start()
    child = servers._child(servers.valkey)
    record = servers.state.read(child.record, {})
    servers.state.write_json(child.record, record | {"pid": os.getpid()})
    assert child.pid() is None
    child.signal()  # would have ended the test run
    servers.state.write_json(child.record, record)
    assert child.pid() == record["pid"]
