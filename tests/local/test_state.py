"""The state folder: private, and the same after a restart."""

import socket
import stat
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
