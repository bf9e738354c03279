"""Temporary folders in scratch, and the sweep of what killed processes left behind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.kit.scratch import FORGOTTEN_S, PREFIXES, sweep, temporary_folder

HOLDER = """
import sys
from pathlib import Path
from services.kit.scratch import temporary_folder
with temporary_folder(Path(sys.argv[1]), sys.argv[2]) as folder:
    (folder / "half").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[list[tuple[subprocess.Popen[str], Path]]]:
    """For each kind a living process with a folder of its own; some directly in scratch."""
    found: list[tuple[subprocess.Popen[str], Path]] = []
    for number, prefix in enumerate(PREFIXES):
        place = tmp_path / "training" if number % 2 else tmp_path
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(place), prefix],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        found.append((process, Path(process.stdout.readline().strip())))
    yield found
    for process, _ in found:
        process.kill()
        process.communicate()


def test_what_a_killed_process_left_is_swept_at_once_and_a_living_ones_stays(
    tmp_path: Path, holders: list[tuple[subprocess.Popen[str], Path]]
) -> None:
    assert sweep(tmp_path) == []
    victim, left = holders[0]
    victim.kill()
    victim.wait()
    assert left.exists()
    assert sweep(tmp_path) == [left]
    assert not left.exists()
    assert all((folder / "half").exists() for _, folder in holders[1:])
    for process, _ in holders:
        process.kill()
        process.wait()
    assert len(sweep(tmp_path)) == len(PREFIXES) - 1
    assert list(tmp_path.rglob("*-*")) == []


def test_a_file_that_was_left_is_swept_too(tmp_path: Path) -> None:
    (tmp_path / "upload-old").write_bytes(b"half")
    assert sweep(tmp_path) == [tmp_path / "upload-old"]


def test_nothing_else_is_swept(tmp_path: Path) -> None:
    for name in ("uploads", "packed", "generators"):
        (tmp_path / name / "0190").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "upload-link").symlink_to(tmp_path / "elsewhere")
    assert sweep(tmp_path) == []
    assert (tmp_path / "elsewhere").exists()


def test_parts_go_by_their_age(tmp_path: Path) -> None:
    old, young = (tmp_path / "packed" / f"{name}.part" for name in ("old", "young"))
    for path in (old, young):
        path.mkdir(parents=True)
    os.utime(old, (1, 1))
    assert FORGOTTEN_S > 3600
    assert sweep(tmp_path) == [old]
    assert young.exists()


def test_a_temporary_folder_ends_with_its_block_even_by_an_error(tmp_path: Path) -> None:
    def receive() -> None:
        with temporary_folder(tmp_path / "new", "upload-") as folder:
            (folder / "half").write_bytes(b"x")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        receive()
    assert list(tmp_path.rglob("upload-*")) == []


def test_a_prefix_that_nobody_would_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nobody would sweep"), temporary_folder(tmp_path, "x-"):
        pass
