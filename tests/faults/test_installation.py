"""Rows 53 and 55 to 57: the processes of one machine, full disks, stale records, and two who start
and stop the same installation at once.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import httpx2
import psutil
import psycopg
import pytest

from services.local.children import CODE, MARK
from services.local.launcher import Launcher
from services.local.servers import Servers
from tests.faults.house import until

DISKS = {"postgres": "192m", "seaweed": "128m", "scratch": "40m", "logs": "40m"}
CALLED = {"postgres": "database", "seaweed": "object store"}
NAMES = (
    *("watchdog", "supervisor", "seaweed", "valkey", "postgres"),
    *("web", "generation", "training", "cpu", "evaluation", "control"),
)


@dataclass
class Machine:
    """A whole installation, as `up` starts it; `disks` are those of its folders that are small."""

    launcher: Launcher
    disks: dict[str, Path]

    @property
    def root(self) -> Path:
        return self.launcher.state.root

    def whole(self) -> bool:
        """Whether everything runs, nothing is wrong, and a request is answered."""
        if self.launcher.problems() or any(row.pid is None for row in self.launcher.status()):
            return False
        return self.ask("GET", "/health") == 200

    def ask(self, method: str, path: str, **request: object) -> int | None:
        """The status of the answer; None when there was none."""
        lines = self.launcher.client_file.read_text().splitlines()
        access = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        headers = {"Authorization": f"Bearer {access['SYNTHORAX_KEY']}"}
        url = access["SYNTHORAX_URL"]
        with suppress(httpx2.TransportError), _client(url, headers) as http:
            return http.request(method, path, **request).status_code
        return None

    def upload(self) -> int | None:
        return self.ask("POST", "/uploads", content=os.urandom(1 << 20))

    def write_key(self) -> int | None:
        return self.ask("POST", "/keys", json={"name": "one more", "scopes": ["read"]})

    def uploads(self) -> int:
        with psycopg.connect(self.launcher.servers.postgres.url()) as connection:
            row = connection.execute("SELECT count(*) FROM datasets.uploads").fetchone()
        return 0 if row is None else int(row[0])

    def leaders(self) -> Counter[str]:
        """How many processes of each name were started for this folder and live."""
        found: Counter[str] = Counter()
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                name, _, root = process.environ().get(MARK, "").partition(" of ")
                if root == str(self.root) and os.getsid(process.pid) == process.pid:
                    found[name] += process.status() != psutil.STATUS_ZOMBIE
        return +found

    def command(self, *arguments: str) -> subprocess.Popen[str]:
        """`python -m services.local ...` at this folder."""
        return subprocess.Popen(
            [sys.executable, "-m", "services.local", *arguments, "--state", str(self.root)],
            cwd=CODE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _client(url: str, headers: dict[str, str]) -> httpx2.Client:
    return httpx2.Client(base_url=url, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Its database, store, scratch and logs lie on small disks where we may mount some."""
    root = tmp_path_factory.mktemp("machine") / "state"
    servers = Servers(root)
    servers.start()
    servers.stop()
    disks = {name: servers.state.folder(name) for name, size in DISKS.items()}
    mounted = {name: path for name, path in disks.items() if _move_to_disk(path, DISKS[name])}
    machine = Machine(Launcher(root), mounted)
    try:
        yield machine
    finally:
        machine.launcher.down()
        for path in mounted.values():
            subprocess.run(["umount", "--lazy", path], check=True)  # noqa: S607 - of the system


@pytest.fixture
def machine(installed: Machine) -> Machine:
    """The installation, up and whole."""
    installed.launcher.up()
    until(installed.whole, "a whole installation")
    return installed


def _move_to_disk(folder: Path, size: str) -> bool:
    """Whether the folder now lies on a disk of this size, with what was in it."""
    aside = folder.with_name(f"{folder.name}.aside")
    folder.rename(aside)
    folder.mkdir(mode=0o700)
    options = f"size={size},mode=700"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder],  # noqa: S607 - of the system
        capture_output=True,
        check=False,
    )
    subprocess.run(["cp", "-a", f"{aside}/.", folder], check=True)  # noqa: S607 - keeps the owners
    shutil.copystat(aside, folder)
    os.chown(folder, aside.stat().st_uid, aside.stat().st_gid)
    shutil.rmtree(aside)
    return done.returncode == 0


def fill(disk: Path) -> Path:
    """Take all that is left of a disk; returns the file to remove for space again."""
    ballast = disk / "ballast"
    for size in (1 << 20, 1 << 9):
        with suppress(OSError), ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(size))
    return ballast


# ---------------------------------------------------------------- row 53


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", DISKS)
def test_row_53_a_disk_is_full_and_has_space_again(machine: Machine, part: str) -> None:
    """Refused with the reason or done, never half; `status` says which; all back by itself."""
    if part not in machine.disks:
        pytest.skip("needs to mount a tmpfs, as root")
    assert machine.upload() == 201
    kept = machine.uploads()
    ballast = fill(machine.disks[part])
    if part == "postgres":
        _write_until_it_stops(machine)
    called = CALLED.get(part, part)
    assert any(f"disk of {called} is full" in each for each in machine.launcher.problems())
    before = {row.name: row.pid for row in machine.launcher.status()}
    answers = [act() for _ in range(5) for act in (machine.upload, machine.write_key)]
    if part == "postgres":  # it stops and starts again as long as it has no space
        assert set(answers) <= {201, 503, 507}
    if part in {"seaweed", "scratch"}:
        assert set(answers[::2]) == {507}
        assert set(answers[1::2]) == {201}
    if part == "logs":
        assert set(answers) == {201}
    keepers = {row.name: row.pid for row in machine.launcher.status()}
    assert [keepers[name] for name in NAMES[:2]] == [before[name] for name in NAMES[:2]]
    ballast.unlink()
    until(machine.whole, "everything to be back", limit_s=180)
    until(lambda: machine.upload() == 201, "the store to take something", limit_s=180)
    assert machine.uploads() == kept + answers[::2].count(201) + 1
    assert list((machine.root / "scratch").glob("upload-*")) == []


def _write_until_it_stops(machine: Machine) -> None:
    """More than the disk of the database holds: Postgres stops for want of its log."""
    log = machine.root / "logs" / "postgres.log"
    panics = log.read_text().count("PANIC")
    with suppress(psycopg.Error), psycopg.connect(machine.launcher.servers.postgres.url()) as db:
        for _ in range(1000):
            db.execute("SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 1000000))")
    until(lambda: log.read_text().count("PANIC") > panics, "Postgres to stop")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_row_53_the_one_disk_of_everything_is_full(tmp_path: Path) -> None:
    """Records, locks and logs cannot be written either, and processes die meanwhile."""
    root = tmp_path / "state"
    Launcher(root)
    if not _move_to_disk(root, "400m"):
        pytest.skip("needs to mount a tmpfs, as root")
    machine = Machine(Launcher(root), {})
    try:
        machine.launcher.up()
        assert machine.upload() == 201
        ballast = fill(root)
        before = {row.name: row.pid for row in machine.launcher.status()}
        for name in ("supervisor", "web", "valkey", "postgres", "control"):
            os.kill(before[name] or 0, SIGKILL)
        (said,) = (each for each in machine.launcher.problems() if "is full" in each)
        assert all(part in said for part in ("database", "object store", "scratch", "logs"))
        time.sleep(5)  # of trying in vain
        after = {row.name: row.pid for row in machine.launcher.status()}
        assert after["watchdog"] == before["watchdog"]
        ballast.unlink()
        until(machine.whole, "everything to be back", limit_s=180)
        until(lambda: machine.upload() == 201, "the store to take something", limit_s=180)
        assert machine.leaders() == Counter(NAMES)
        assert list((root / "scratch").glob("upload-*")) == []
        assert list(root.rglob(".*.json.*")) == []
    finally:
        machine.launcher.down()
        subprocess.run(["umount", "--lazy", root], check=True)  # noqa: S607 - of the system


# ---------------------------------------------------------------- row 55


@pytest.fixture
def strangers() -> Iterator[list[psutil.Process]]:
    """Somebody else's processes: one that leads a session, and one whose leader has died."""
    sleep = "import time; time.sleep(600)"
    leave = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', sys.argv[1]]).pid)"
    )
    leader = subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True)
    parent = subprocess.Popen(
        [sys.executable, "-c", leave, sleep],
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    orphan = psutil.Process(int(parent.stdout.readline()))
    parent.stdout.close()
    parent.wait()
    yield [psutil.Process(leader.pid), orphan]
    leader.kill()
    leader.wait()
    orphan.kill()


@pytest.mark.parametrize("kind", ["number", "start", "boot", "session"])
def test_row_55_a_stale_record_ends_nobody(
    tmp_path: Path, strangers: list[psutil.Process], kind: str
) -> None:
    """Every record names a stranger: by number alone, with their very start, from an earlier boot
    of the machine, or by the number of a session in which somebody still is.
    """
    machine = Machine(Launcher(tmp_path / "state"), {})
    servers, state = machine.launcher.servers, machine.launcher.state
    servers.launch("valkey")
    record = state.read(state.records / "valkey.json", {})
    assert machine.launcher.down() == ["valkey"]
    leader, orphan = strangers
    stat = Path(f"/proc/{leader.pid}/stat").read_text().rpartition(")")[2].split()
    started = float(stat[19])
    stale = (
        record
        | {
            "number": {"pid": leader.pid},
            "start": {"pid": leader.pid, "started": started},
            "boot": {
                "pid": leader.pid,
                "started": started,
                "arguments": leader.cmdline(),
                "boot": "another",
            },
            "session": {"pid": os.getsid(orphan.pid)},
        }[kind]
    )
    for act in (machine.launcher.down, lambda: servers.launch("valkey")):
        for name in NAMES:
            state.write_json(state.records / f"{name}.json", stale)
        assert all(row.pid is None for row in machine.launcher.status())
        act()
    assert machine.launcher.down() == ["valkey"]
    assert leader.is_running()
    assert orphan.is_running()
    assert machine.leaders() == Counter()


# ---------------------------------------------------------------- row 56


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_row_56_two_start_at_once(installed: Machine) -> None:
    installed.launcher.down()
    both = [installed.command("up") for _ in range(2)]
    said = [each.communicate()[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert sum("waiting for `up` (process" in each for each in said) == 1
    until(installed.whole, "a whole installation")
    assert installed.leaders() == Counter(NAMES)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_row_56_stopped_in_mid_start(installed: Machine) -> None:
    """`down` waits for the `up` that it meets, and what it says is so."""
    installed.launcher.down()
    up = installed.command("up")
    until(installed.launcher.servers.running, "the first server")
    down = installed.command("down")
    said = down.communicate()[0]
    assert (up.wait(), down.returncode) == (0, 0)
    assert f"waiting for `up` (process {up.pid})" in said
    assert installed.leaders() == Counter()
    assert up.stdout is not None
    up.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_row_56_a_start_that_is_killed_leaves_what_can_be_stopped(installed: Machine) -> None:
    installed.launcher.down()
    up = installed.command("up")
    until(installed.launcher.servers.running, "the first server")
    up.kill()
    up.communicate()
    down = installed.command("down")
    down.communicate()
    assert down.returncode == 0
    assert installed.leaders() == Counter()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_row_56_started_and_stopped_at_once_twice(machine: Machine) -> None:
    """Whoever comes last decides; nobody meets a half of what another left."""
    for _ in range(2):
        pair = [machine.command("down"), machine.command("up")]
        said = [each.communicate()[0] for each in pair]
        assert [each.returncode for each in pair] == [0, 0], said
        assert any("waiting for" in each for each in said)
        runs = all(row.pid is not None for row in machine.launcher.status())
        assert machine.leaders() == (Counter(NAMES) if runs else Counter())


# ---------------------------------------------------------------- row 57


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_row_57_any_process_is_killed(machine: Machine, name: str) -> None:
    """It comes back by itself, and nobody else with it."""
    before = {row.name: row.pid for row in machine.launcher.status()}
    pid = before[name]
    assert pid is not None
    os.kill(pid, SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    began = time.monotonic()
    until(machine.whole, f"{name} to be back")
    print(f"{name}: back after {time.monotonic() - began:.1f} s")  # noqa: T201 - to be read with -s
    after = {row.name: row.pid for row in machine.launcher.status()}
    assert {each for each in NAMES if before[each] != after[each]} == {name}
    assert machine.upload() == 201
    assert machine.leaders() == Counter(NAMES)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_row_57_all_but_the_watchdog_are_killed(machine: Machine) -> None:
    for row in machine.launcher.status():
        if row.pid is not None and row.name != "watchdog":
            os.kill(row.pid, SIGKILL)
    until(lambda: machine.upload() == 201 and machine.whole(), "everything to be back")
    assert machine.leaders() == Counter(NAMES)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_row_57_a_killed_web_process_leaves_nothing_in_scratch(machine: Machine) -> None:
    """What it was receiving is swept by the next one when it starts."""
    scratch = machine.root / "scratch"
    received = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield bytes(1 << 20)
        received.wait(60)  # until the process is gone

    sender = threading.Thread(
        target=machine.ask, args=("POST", "/uploads"), kwargs={"content": chunks()}
    )
    sender.start()
    until(lambda: list(scratch.glob("upload-*")), "something to be received")
    web = next(row.pid for row in machine.launcher.status() if row.name == "web")
    assert web is not None
    os.kill(web, SIGKILL)
    received.set()
    sender.join()
    assert list(scratch.glob("upload-*")) != []
    until(machine.whole, "the web process to be back")
    until(lambda: not list(scratch.glob("upload-*")), "scratch to be swept")


# ---------------------------------------------------------------- a client of the machine

STUDY = """
name: A study while the web process is restarted
datasets:
  a: {format: phantom, name: Phantoms, site: phantom-a, patients: 120, size_px: 32, seed: 1}
experiment:
  arms:
    - {name: real, stages: [{sources: [{data: a}]}]}
    - {name: half, stages: [{sources: [{data: a, fraction: 0.5}]}]}
  plan: {primary: half, reference: real}
  seeds: [0, 1]
  classifier: {preset: fast, epochs: 2}
  validation: {data: a, split: validation}
  tests: [{name: a, data: a, split: test}]
"""
RESTARTS = 4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_run_outlives_restarts_of_the_web_process(machine: Machine) -> None:
    """From the first import to the report; nothing is ordered twice."""
    file = machine.root / "study.yaml"
    file.write_text(STUDY)
    study = machine.command("study", "run", str(file), "--out", str(machine.root / "out"))
    killed = 0
    while study.poll() is None:
        row = next(row for row in machine.launcher.status() if row.name == "web")
        if row.pid is not None and killed < RESTARTS and machine.ask("GET", "/health") == 200:
            os.kill(row.pid, SIGKILL)
            killed += 1
        time.sleep(3)  # between two restarts the study is to get on
    said = study.communicate()[0]
    assert study.returncode == 0, said
    assert killed >= 2
    assert "Synthorax answers again" in said
    assert (machine.root / "out" / "report.html").stat().st_size > 0
    with psycopg.connect(machine.launcher.servers.postgres.url()) as db:
        made = "SELECT (SELECT count(*) FROM datasets.datasets), count(*) FROM training.experiments"
        assert db.execute(made).fetchone() == (1, 1)
