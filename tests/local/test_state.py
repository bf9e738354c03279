"""The state folder: private, and the same after a restart."""

import os
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.local import state as module
from services.local.state import PORTS, State


def test_the_folder_is_closed_even_if_it_was_open(tmp_path: Path) -> None:
    root = tmp_path / "state"
    root.mkdir(mode=0o755)
    State(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_secrets_are_private_distinct_and_kept(tmp_path: Path) -> None:
    state = State(tmp_path)
    secret = state.secret("pepper")
    assert len(secret) >= 43  # 256 bits
    assert state.secret("other") != secret
    assert State(tmp_path).secret("pepper") == secret
    assert stat.S_IMODE((state.secrets / "pepper").stat().st_mode) == 0o600


def test_ports_are_kept_and_distinct(tmp_path: Path) -> None:
    state = State(tmp_path)
    ports = [state.port(f"p{n}") for n in range(20)]
    assert len(set(ports)) == 20
    assert all(port in PORTS for port in ports)
    assert [State(tmp_path).port(f"p{n}") for n in range(20)] == ports


def test_a_port_that_a_stranger_holds_is_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.1)
    state = State(tmp_path)
    kept, taken = state.port("kept"), state.port("taken")
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", taken))
        stranger.listen()
        state.settle_ports(["taken"])
    assert state.port("taken") != taken
    assert state.port("kept") == kept


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    state = State(tmp_path)
    file = state.root / "file"
    state.write(file, "old")
    with pytest.raises(UnicodeEncodeError):
        state.write(file, "half \udc00")
    assert file.read_text() == "old"
    assert list(state.root.glob(".file*")) == []


def test_many_at_once_get_the_same_secrets_and_ports(tmp_path: Path) -> None:
    State(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        secrets = set(pool.map(lambda _: State(tmp_path).secret("pepper"), range(16)))
        ports = set(pool.map(lambda _: State(tmp_path).port("web"), range(16)))
    assert len(secrets) == len(ports) == 1


def test_who_waits_for_a_lock_is_told_who_holds_it(tmp_path: Path) -> None:
    holds, may_go, heard = threading.Event(), threading.Event(), list[str]()

    def hold() -> None:
        with State(tmp_path).lock("installation", "up"):
            holds.set()
            may_go.wait(10)

    def report(what: str) -> None:
        heard.append(what)
        may_go.set()

    holder = threading.Thread(target=hold)
    holder.start()
    holds.wait(10)
    with State(tmp_path).lock_if_free("installation") as free:
        assert not free
    with State(tmp_path).lock("installation", "down", report):
        assert heard == [f"waiting for `up` (process {os.getpid()})"]
    holder.join()
    with State(tmp_path).lock_if_free("installation") as free:
        assert free


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from services.local.state import State\n"
        "with State(Path(sys.argv[1])).lock('installation', 'up'): os._exit(1)"
    )
    folder = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=folder, check=False)
    with State(tmp_path).lock_if_free("installation") as free:
        assert free
