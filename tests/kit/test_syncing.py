"""What is forced to the disk, and when: the real `fsync` is counted, never replaced."""

import os
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from services.kit.adapters import Adapters
from services.kit.syncing import SyncedFolder


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files and folders that were synced, in order."""
    names: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux' /proc")


def test_only_what_was_written_since_is_synced_and_content_first(
    tmp_path: Path, synced: list[str]
) -> None:
    (tmp_path / "old.dat").write_bytes(b"old")
    folder = SyncedFolder(tmp_path)
    folder.sync()
    assert synced == []  # nothing was noted
    (tmp_path / "names").mkdir()
    for name in ("b.idx", "names/log", "a.dat"):
        (tmp_path / name).write_bytes(b"new")
    folder.note()
    folder.sync()
    assert synced == ["a.dat", "b.idx", "log", "names", tmp_path.name]
    synced.clear()
    folder.sync()
    assert synced == []
    with (tmp_path / "a.dat").open("ab") as file:
        file.write(b"more")
    folder.note()
    folder.sync()
    assert synced == ["a.dat"]
    synced.clear()
    (tmp_path / "fresh").write_bytes(b"newmore")  # as a compacted volume takes the other's place
    (tmp_path / "fresh").replace(tmp_path / "a.dat")
    folder.note()
    folder.sync()
    assert synced == ["a.dat", tmp_path.name]


def test_a_folder_that_is_not_made_yet_is_synced_once_it_is(
    tmp_path: Path, synced: list[str]
) -> None:
    folder = SyncedFolder(tmp_path / "later")
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "1.dat").write_bytes(b"x")
    folder.note()
    folder.sync()
    assert synced == ["1.dat", "later"]


def test_threads_share_a_round_and_none_leaves_before_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads write, note and sync: each finds its own bytes synced when it goes on."""
    on_disk: dict[str, int] = {}
    rounds = 0
    counting = threading.Lock()

    def fsync(descriptor: int) -> None:
        nonlocal rounds
        size = os.fstat(descriptor).st_size  # what is there before the sync begins is synced by it
        time.sleep(0.002)
        with counting:
            rounds += 1
            on_disk[Path(f"/proc/self/fd/{descriptor}").readlink().name] = size

    monkeypatch.setattr(os, "fsync", fsync)
    folder = SyncedFolder(tmp_path)
    broken: list[str] = []

    def write(number: int) -> None:
        path = tmp_path / f"{number}.dat"
        for size in range(1, 21):
            with path.open("ab") as file:
                file.write(b"x")
            folder.note()
            folder.sync()
            if on_disk.get(path.name, 0) < size:
                broken.append(f"{path.name} at {size}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []
    assert 20 <= rounds < 8 * 20 * 4


def test_an_object_is_on_the_disk_before_a_row_commits(
    adapters: Adapters, synced: list[str]
) -> None:
    with adapters.db.transaction() as tx:
        tx.session.execute(text("SELECT 1"))
    synced.clear()  # what earlier tests had put
    with adapters.db.transaction() as tx:
        adapters.store.put("a/1", b"x" * 1000)
        assert synced == []
        tx.session.execute(text("SELECT 1"))
    kinds = {Path(name).suffix for name in synced}
    assert {".dat", ".idx", ".log"} <= kinds  # the content, its index, the name of the object
    synced.clear()
    with adapters.db.transaction() as tx:
        tx.session.execute(text("SELECT 1"))
    assert synced == []
    adapters.store.remove(["a/1"])
    with adapters.db.transaction() as tx:
        tx.session.execute(text("SELECT 1"))
    assert synced != []  # what was removed does not come back


def test_a_large_file_is_synced_with_its_put(
    adapters: Adapters, synced: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(bytes(6 << 20))
    adapters.store.put_file("a/file", tmp_path / "file")
    assert any(name.endswith(".dat") for name in synced)
    synced.clear()
    with adapters.db.transaction() as tx:
        tx.session.execute(text("SELECT 1"))
    assert synced == []


def test_nothing_is_committed_when_the_disk_fails(
    adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "the disk has failed")

    adapters.store.put("a/2", b"x")
    monkeypatch.setattr(os, "fsync", fail)
    with (
        pytest.raises(OSError, match="the disk has failed"),
        adapters.db.transaction() as tx,
    ):
        tx.session.execute(text("CREATE TABLE public.lost (x int)"))
    monkeypatch.undo()
    with adapters.db.transaction() as tx:
        assert tx.session.scalar(text("SELECT to_regclass('public.lost')")) is None
