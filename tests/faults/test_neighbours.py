"""Row 59: another user of the machine tries every door of an installation."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import psycopg
import pytest
from redis import Redis

from services.kit.objects import ObjectStore
from services.local.launcher import Launcher
from services.local.seaweed import BUCKET, PROGRAM, SECURITY
from tests.faults import neighbour

NOBODY = "65534"
CANARY = "QZCANARY"
"""In an object, a row, an item of the broker and a name that a person chose."""
AS_NOBODY = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups")
SUPERBLOCK = 8
"""Bytes of a volume file that holds nothing."""
NO = rb"HTTP/1\.[01] (400|401|403|404|405) |HTTP/1\.1 200 OK\r\n.*Content-Length: 0\r\n"
REFUSED = {
    "http": NO,
    "redis": rb"-NOAUTH|" + NO,
    "postgres": rb"R....\x00\x00\x00\x0a|" + NO,  # it asks for a SCRAM exchange
    "gRPC": rb"\x15\x03|-NOAUTH|" + NO,  # an alert of TLS
}
"""How a door that says anything must say no, by what was spoken to it."""


def python_of_nobody() -> str | None:
    """An interpreter that `nobody` can start; the project's may lie in somebody's home."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return None
    for python in (sys.executable, "/usr/bin/python3"):
        asked = [*AS_NOBODY, python, "-I", "-c", "import ssl"]
        if subprocess.run(asked, capture_output=True, cwd="/", check=False).returncode == 0:
            return python
    return None


@dataclass(frozen=True)
class Attack:
    """An installation with something in every store, and what `nobody` got from it."""

    launcher: Launcher
    weed: Path
    ports: dict[str, int]
    got: dict[str, bytes]


def leave_canaries(launcher: Launcher, key: str, url: str) -> None:
    ends = launcher.servers.endpoints()
    store = ObjectStore(ends.s3_endpoint, ends.s3_access_key, ends.s3_secret_key, BUCKET)
    store.put("canary", f"{CANARY} in an object".encode() * 100)
    with psycopg.connect(launcher.servers.postgres.url()) as connection:
        connection.execute(f"CREATE TABLE canary AS SELECT '{CANARY} in a row' AS t".encode())
    with Redis.from_url(ends.broker_url) as redis:
        redis.set("canary", f"{CANARY} in the broker")
    asked = {"name": CANARY, "scopes": ["read"]}
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx2.post(f"{url}/keys", json=asked, headers=headers).status_code < 300


def processes(launcher: Launcher) -> list[psutil.Process]:
    ours = [psutil.Process(row.pid) for row in launcher.status() if row.pid is not None]
    return [each for one in ours for each in (one, *one.children(recursive=True))]


@pytest.fixture(scope="module")
def attack() -> Iterator[Attack]:
    python = python_of_nobody()
    if python is None:
        pytest.skip("needs root, setpriv and a Python that nobody may start")
    since = time.time()
    place = Path(tempfile.mkdtemp(prefix="neighbour-"))  # pytest's own folders are closed to others
    try:
        place.chmod(0o755)
        weed = place / "weed"
        shutil.copy(PROGRAM, weed)
        script = place / "neighbour.py"
        shutil.copy(neighbour.__file__, script)
        for file in (weed, script):
            file.chmod(0o755)
        own = place / "nobody"
        own.mkdir()
        shutil.chown(own, int(NOBODY), int(NOBODY))
        launcher = Launcher(place / "state")
        try:
            access = launcher.up()
            leave_canaries(launcher, access.key, access.url)
            state, running = launcher.state, processes(launcher)
            listening = {
                connection.laddr.port
                for process in running
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
            ports: dict[str, int] = json.loads((state.root / "ports.json").read_text())
            named = set(ports.values())
            ports |= {f"port {port}": port for port in listening - named}
            told = {
                "ports": ports,
                "weed": str(weed),
                "pids": [process.pid for process in running],
                "files": [
                    str(path)
                    for path in (*state.root.rglob("*"), *launcher.servers.seaweed.leftovers)
                    if not path.is_dir()
                ],
                "folders": [str(p) for p in (state.root, *state.root.rglob("*")) if p.is_dir()],
                "since": since,
            }
            done = subprocess.run(
                [*AS_NOBODY, python, "-I", str(script)],
                input=json.dumps(told).encode(),
                capture_output=True,
                cwd=own,
                env={"PATH": os.environ["PATH"], "HOME": str(own)},
                timeout=280,
                check=False,
            )
            assert done.returncode == 0, done.stderr.decode()
            got = {name: bytes.fromhex(each) for name, each in json.loads(done.stdout).items()}
            yield Attack(launcher, weed, ports, got)
        finally:
            launcher.down()
    finally:
        shutil.rmtree(place)


@pytest.mark.timeout(600)
def test_row_59_no_secret_and_nothing_kept_reaches_another_user(attack: Attack) -> None:
    state = attack.launcher.state
    needles = {path.name: path.read_bytes() for path in state.secrets.iterdir()}
    needles |= {"canary": CANARY.encode(), "key": attack.launcher.up().key.encode()}
    found = [
        (name, attempt)
        for attempt, answer in attack.got.items()
        for name, needle in needles.items()
        if needle in answer
    ]
    assert found == []


def test_row_59_every_port_says_no(attack: Attack) -> None:
    """The doors of the web that are open to everybody were not tried here."""
    wrong: list[tuple[str, bytes]] = []
    for attempt, answer in attack.got.items():
        protocol = attempt.split()[0].replace("https", "http")
        if protocol in REFUSED and not re.match(REFUSED[protocol], answer, re.DOTALL):
            wrong.append((attempt, answer[:200]))
    assert wrong == []
    for part in ("master", "volume", "filer", "admin"):
        assert b"HTTP request to an HTTPS server" in attack.got[f"http {part}.port /"]
        assert f"https {part}.port /" not in attack.got  # without a certificate
    spoken = {attempt.split(maxsplit=1)[1].split(" /")[0] for attempt in attack.got}
    assert {"web", "s3.port", "postgres", "valkey"} <= spoken  # what it tried was there


def test_row_59_no_file_process_or_socket_opens(attack: Attack) -> None:
    opened = {
        attempt
        for attempt in attack.got
        if attempt.split()[0] in {"file", "folder", "socket", "proc"}
    }
    assert opened <= {"proc cmdline"}  # everybody's to read; nothing secret stands there


def test_row_59_the_stores_own_tools_copy_nothing(attack: Attack, tmp_path: Path) -> None:
    """The same commands with our certificate show what there would be to get."""
    said = {name: answer for name, answer in attack.got.items() if name.startswith("weed")}
    assert not [name for name in said if " copies " in name]
    tools = neighbour.tools(attack.ports)
    for name in tools:
        answer = said.get(f"weed {name} says", b"")
        assert b"DataNode" not in answer, answer
        assert b"/canary {" not in answer, answer
        assert CANARY.encode() not in answer, answer
    seaweed = attack.launcher.state.folder("seaweed")
    shutil.copy(seaweed / SECURITY, tmp_path / SECURITY)
    ours = neighbour.run(str(attack.weed), *tools["shell"], tmp_path)
    assert b"DataNode" in ours
    assert CANARY.encode() in ours
    neighbour.run(str(attack.weed), *tools["backup"], tmp_path)
    assert any(file.stat().st_size > SUPERBLOCK for file in tmp_path.glob("*.dat"))
