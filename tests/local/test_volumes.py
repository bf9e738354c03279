"""Volumes of the real server, cut as a power cut leaves them, and opened by it again."""

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL

import pytest

from services.kit.objects import ObjectStore
from services.local.seaweed import BUCKET
from services.local.servers import Servers
from services.local.volumes import ENTRY, SUPERBLOCK, mend_volumes

OBJECTS = {f"o/{n}": random.Random(n).randbytes(n * 37 + 1) for n in range(60)}
LAST_REMOVED = 42
REMOVED = {f"o/{n}" for n in range(0, LAST_REMOVED + 1, 7)}


class Store:
    """SeaweedFS alone on a folder of its own, and the one volume that holds the objects."""

    def __init__(self, root: Path) -> None:
        self.servers = Servers(root)
        self.folder = self.servers.seaweed.folder
        self.start()
        self.objects.ensure_bucket()
        for n, (key, content) in enumerate(OBJECTS.items()):
            self.objects.put(key, content)
            if n == LAST_REMOVED:
                self.objects.remove(REMOVED)
        self.stop()

    @property
    def index(self) -> Path:
        """That of the largest volume."""
        return max(self.folder.glob("*.idx"), key=lambda index: index.stat().st_size)

    @property
    def content(self) -> Path:
        return self.index.with_suffix(".dat")

    def start(self) -> None:
        ends = self.servers.start()
        self.objects = ObjectStore(
            ends.s3_endpoint, ends.s3_access_key, ends.s3_secret_key, BUCKET, folder=ends.s3_folder
        )

    def stop(self) -> None:
        os.kill(self.servers.running()["seaweed"], SIGKILL)  # no sync, no last words
        self.servers.stop()

    def readable(self) -> set[str]:
        """The objects that are there, each with its own bytes; the rest must be plainly absent."""
        found = sorted(self.objects.keys("o/"))
        with ThreadPoolExecutor(8) as pool:  # SeaweedFS looks long for what is not there
            return {
                key for key, whole in zip(found, pool.map(self._whole, found), strict=True) if whole
            }

    def _whole(self, key: str) -> bool:
        try:
            return self.objects.get(key) == OBJECTS[key]
        except Exception:  # noqa: BLE001 - however the server says that it is not there
            return False


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(tmp_path_factory.mktemp("volumes"))
    yield store
    store.servers.stop()


@pytest.fixture
def store(written: Store) -> Iterator[Store]:
    """The store, stopped; afterwards its volume is as it was."""
    kept = {path: path.read_bytes() for path in (written.index, written.content)}
    yield written
    if written.servers.running():
        written.stop()
    for path, content in kept.items():
        path.write_bytes(content)


def test_a_sound_volume_is_left_alone(store: Store) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.folder.glob("*.[di]*")}
    assert mend_volumes(store.folder) == []
    assert {path: path.stat().st_mtime_ns for path in store.folder.glob("*.[di]*")} == before


def test_an_index_ahead_of_its_content_is_cut_back_and_the_volume_stays_writable(
    store: Store,
) -> None:
    content, index = store.content, store.index
    os.truncate(content, content.stat().st_size - 3000)  # more than one object, less than two
    derived = index.with_suffix(".sdx")
    derived.touch()  # as SeaweedFS leaves it, never synced
    store.start()  # mends on the way
    assert not derived.exists()
    kept = store.readable()
    assert kept == set(OBJECTS) - REMOVED - {"o/58", "o/59"}
    store.objects.put("again", b"again")
    log = (store.servers.state.logs / "seaweed.log").read_text()
    assert "marking readonly" not in log
    assert store.objects.get("again") == b"again"


@pytest.mark.parametrize("left", [0, 1, ENTRY.size * 10, ENTRY.size * 30 + 5])
def test_what_an_index_lost_is_read_from_the_content(store: Store, left: int) -> None:
    os.truncate(store.index, left)
    assert mend_volumes(store.folder) == [store.index]
    assert store.index.stat().st_size > ENTRY.size * len(OBJECTS)
    store.start()
    assert store.readable() == set(OBJECTS) - REMOVED


def test_pages_that_never_came_are_cut_off(store: Store) -> None:
    size = store.content.stat().st_size
    with store.content.open("ab") as file:
        file.write(bytes(5000))
    assert mend_volumes(store.folder) == [store.index]
    assert store.content.stat().st_size == size


def test_a_compaction_under_way_is_left_to_the_server(store: Store) -> None:
    os.truncate(store.index, ENTRY.size * 10)
    marker = store.index.with_suffix(".cpc")
    marker.touch()
    assert mend_volumes(store.folder) == []
    marker.unlink()
    assert mend_volumes(store.folder) == [store.index]


@pytest.mark.parametrize("seed", range(20))
def test_any_cut_of_both_files_mends_to_whole_records(store: Store, seed: int) -> None:
    """Whatever is left, the two fit together afterwards, and mending again changes nothing."""
    chance = random.Random(seed)
    for path in (store.content, store.index):
        os.truncate(path, chance.randrange(SUPERBLOCK, path.stat().st_size + 1))
    mend_volumes(store.folder)
    sizes = [path.stat().st_size for path in (store.content, store.index)]
    assert sizes[1] % ENTRY.size == 0
    assert mend_volumes(store.folder) == []
    assert [path.stat().st_size for path in (store.content, store.index)] == sizes
