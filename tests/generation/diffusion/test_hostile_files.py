"""Files that are no checkpoints, or more than that: refused by type, and nothing of them runs."""

import builtins
import copy
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from services.generation.diffusion.checkpoints import CheckpointDamaged, load_weights
from services.generation.diffusion.mediffusion import import_checkpoint
from services.generation.ports.engine import (
    CheckpointRefused,
    CheckpointUnreadable,
    CheckpointUnsafe,
)
from tests.generation.diffusion.published import CONFIG, Published, lightning


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self._what = function, args

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._what


def archive(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """The layout of `torch.save`, around any pickle."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/byteorder", "little")
        file.writestr("archive/version", "3\n")
    return path


def attacks(marker: Path) -> dict[str, tuple[object, str]]:
    """Objects that leave a file behind when they are unpickled, with what betrays them."""
    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "a shell": (Call(os.system, f"touch {marker}"), "system"),
        "eval": (Call(builtins.eval, code), "eval"),
        "exec": (Call(builtins.exec, code), "exec"),
        "a file": (Call(builtins.open, str(marker), "w"), "open"),
        "getattr": (Call(builtins.getattr, "", "format"), "getattr"),
        "torch itself": (Call(torch.hub.load, "x", "y"), "load"),
        "a harmless type that is not on the list": (Path("/"), "Path"),
    }


NAMES = list(attacks(Path("x")))


@pytest.mark.parametrize("place", ["hyper_parameters", "state_dict", "callbacks"])
@pytest.mark.parametrize("name", NAMES)
def test_an_attack_runs_nothing(tmp_path: Path, name: str, place: str) -> None:
    marker = tmp_path / "marker"
    attack, betrayed = attacks(marker)[name]
    source = lightning(tmp_path / "a.ckpt", CONFIG, {}, **{place: attack})
    with pytest.raises(CheckpointUnsafe, match=betrayed):
        import_checkpoint(source, tmp_path / "w")
    assert not marker.exists()
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_attack_by_a_pickle_of_any_protocol_runs_nothing(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    content = pickle.dumps(Call(os.system, f"touch {marker}"), protocol)
    source = archive(tmp_path / "a.ckpt", content)
    with pytest.raises(CheckpointRefused):
        import_checkpoint(source, tmp_path / "w")
    assert not marker.exists()


def test_a_list_that_others_extended_is_not_used(tmp_path: Path) -> None:
    source = lightning(tmp_path / "a.ckpt", CONFIG, {}, callbacks=Path("/"))
    with (
        torch.serialization.safe_globals([type(Path("/"))]),
        pytest.raises(CheckpointUnsafe, match="Path"),
    ):
        import_checkpoint(source, tmp_path / "w")


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".zip"])
def test_a_bare_pickle_is_not_even_opened(tmp_path: Path, suffix: str) -> None:
    marker = tmp_path / "marker"
    source = (tmp_path / "a").with_suffix(suffix)
    source.write_bytes(pickle.dumps(Call(os.system, f"touch {marker}")))
    with pytest.raises(CheckpointUnreadable):
        import_checkpoint(source, tmp_path / "w")
    with pytest.raises(CheckpointDamaged):
        load_weights(source)
    assert not marker.exists()


def test_a_header_of_200_mb_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.safetensors"
    with source.open("wb") as file:
        file.write(struct.pack("<Q", 200 << 20) + b"{")
        file.truncate((200 << 20) + 8)
    with pytest.raises(CheckpointUnreadable):
        import_checkpoint(source, tmp_path / "w")
    with pytest.raises(CheckpointDamaged):
        load_weights(source)


@pytest.fixture
def sound(tmp_path: Path) -> bytes:
    state = Published(CONFIG["model"]).state_dict()
    return lightning(tmp_path / "sound.ckpt", CONFIG, state).read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 0.9999])
def test_a_file_without_its_end_is_refused(tmp_path: Path, sound: bytes, share: float) -> None:
    source = tmp_path / "a.ckpt"
    source.write_bytes(sound[: int(share * len(sound))])
    with pytest.raises(CheckpointUnreadable):
        import_checkpoint(source, tmp_path / "w")


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    bomb = pickle.dumps({"state_dict": b"\0" * (50 << 20)}, 2)
    source = archive(tmp_path / "a.ckpt", bomb, zipfile.ZIP_DEFLATED)
    assert source.stat().st_size < 1 << 20
    with pytest.raises(CheckpointUnsafe, match="compressed"):
        import_checkpoint(source, tmp_path / "w")


def test_an_archive_whose_entries_overlap_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.ckpt"
    with zipfile.ZipFile(source, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({}, 2))
        file.writestr("archive/data/0", b"\0" * 100_000)
        for n in range(1, 100):
            again = copy.copy(file.infolist()[1])
            again.filename = f"archive/data/{n}"
            file.filelist.append(again)
    with pytest.raises(CheckpointUnsafe, match="more than"):
        import_checkpoint(source, tmp_path / "w")


@pytest.mark.parametrize("content", [[], "words", 7, None])
def test_what_is_no_dictionary_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointUnreadable):
        import_checkpoint(tmp_path / "a.ckpt", tmp_path / "w")


def test_a_configuration_that_contains_itself_is_refused(tmp_path: Path) -> None:
    endless: dict[str, Any] = {"diffusion": {}}
    endless["model"] = endless
    torch.save({"hyper_parameters": endless, "state_dict": {}}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointUnsafe, match="without end"):
        import_checkpoint(tmp_path / "a.ckpt", tmp_path / "w")


def test_a_configuration_that_names_one_thing_a_billion_times_is_refused(tmp_path: Path) -> None:
    laugh: list[Any] = []
    for _ in range(25):
        laugh = [laugh] * 10
    torch.save({"hyper_parameters": {"model": laugh}, "state_dict": {}}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointUnsafe, match="without end"):
        import_checkpoint(tmp_path / "a.ckpt", tmp_path / "w")
