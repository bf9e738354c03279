"""Which disks are said to be full."""

from pathlib import Path

import pytest

from services.kit import disks
from services.local.disks import describe_full_disks


def test_a_disk_with_space_is_not_mentioned(tmp_path: Path) -> None:
    assert describe_full_disks({"database": tmp_path, "logs": tmp_path / "not yet"}) == []


def test_what_lies_on_one_full_disk_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "FULL_BYTES", 1 << 60)
    folders = {name: tmp_path / name for name in ("database", "object store")}
    for folder in folders.values():
        folder.mkdir()
    (said,) = describe_full_disks(folders)
    assert said.startswith(f"The disk of database, object store is full ({tmp_path}/database): ")
