"""Read-ahead: decoders go on while a worker stores, commits and claims."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from api_schemas.datasets import DatasetView
from services.datasets.importers.decoders import DecoderPool
from services.datasets.importers.source import Picture, Preparation, Unreadable
from services.datasets.service import INGEST
from services.datasets.service import ingest as module
from services.datasets.service.ahead import ReadAhead, Shard
from services.datasets.worker import handlers
from services.kit.adapters import Adapters
from tests.datasets import trees

ONE, OTHER = UUID(int=1), UUID(int=2)


def claim(ahead: ReadAhead, dataset: UUID, *firsts: int) -> None:
    for first in firsts:
        ahead.take(Shard(dataset, first, []), lambda: iter(()))


@pytest.mark.parametrize(
    ("firsts", "following"),
    [
        ((0,), None),
        ((0, 8), None),
        ((0, 8, 16), 24),
        ((0, 16, 32), 48),
        ((0, 8, 24), None),
        ((0, 8, 24, 40), 56),
        ((16, 8, 0), None),
        ((8, 8, 8), None),
    ],
)
def test_it_guesses_once_two_steps_were_alike(firsts: tuple[int, ...], following: Any) -> None:
    ahead = ReadAhead()
    claim(ahead, ONE, *firsts)
    assert ahead.next_first() == following


def test_another_dataset_is_another_walk() -> None:
    ahead = ReadAhead()
    claim(ahead, ONE, 0, 8)
    claim(ahead, OTHER, 16)
    assert ahead.next_first() is None


def test_what_was_begun_is_taken_for_the_same_pictures_alone() -> None:
    ahead = ReadAhead()
    begun, anew = iter(()), iter(())
    for other in (Shard(OTHER, 8, ["a"]), Shard(ONE, 9, ["a"]), Shard(ONE, 8, ["b"])):
        ahead.begin(Shard(ONE, 8, ["a"]), begun)
        assert ahead.take(other, lambda: anew) is anew
        assert ahead.take(Shard(ONE, 8, ["a"]), lambda: anew) is anew  # given up
    ahead.begin(Shard(ONE, 8, ["a"]), begun)
    assert ahead.take(Shard(ONE, 8, ["a"]), lambda: anew) is begun


class Recording:
    """The real decoders, and what they were asked."""

    def __init__(self) -> None:
        self.pool = DecoderPool(2)
        self.asked: list[list[str]] = []

    def pictures(
        self, paths: Sequence[Path | Unreadable], how: Preparation
    ) -> Iterator[Picture | Unreadable]:
        self.asked.append([path.name for path in paths if isinstance(path, Path)])
        return self.pool.pictures(paths, how)


def test_a_worker_begins_the_next_shard_before_it_claims_it_and_none_twice(
    http: TestClient,
    ingest: Callable[..., int],
    work: Callable[..., int],
    adapters: Adapters,
    import_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SHARD", 4)
    monkeypatch.setattr(module, "BURST", 2)
    folder = import_root / uuid4().hex
    for n, pixels in enumerate(trees.phantoms(26)):
        trees.save(folder / f"{n:02d}.png", pixels)
    rows = [{"Path": f"{n:02d}.png", "PID": n} for n in range(26)]
    trees.write(folder / "t.csv", ("Path", "PID"), rows)
    body = {"format": "chexpert_csv", "name": "x", "site": "s", "size_px": 32}
    body |= {"path": f"{folder.name}/t.csv"}

    def imported(run: Callable[[int], int]) -> DatasetView:
        made = http.post("/datasets", json=body).json()["id"]
        while run(1):
            pass
        return DatasetView.model_validate(http.get(f"/datasets/{made}").json())

    recording = Recording()
    own = handlers(adapters)
    handler = own[INGEST]
    assert isinstance(handler, module.Ingest)
    monkeypatch.setattr(handler, "_decoders", recording)
    begun: list[int] = []

    def one(most: int) -> int:
        ran = work("datasets", "cpu", own, most)
        begun.append(len(recording.asked))
        return ran

    ahead = imported(one)
    recording.pool.close()
    shards = [
        [f"{n:02d}.png" for n in range(first, min(26, first + 4))] for first in range(0, 26, 4)
    ]
    assert recording.asked == shards
    # after the plan and each of seven shards, after the manifest and the call that finds nothing
    assert begun == [0, 1, 2, 4, 5, 6, 7, 7, 7, 7]
    alone = imported(ingest)
    assert ahead.manifest is not None
    assert alone.manifest is not None
    assert ahead.manifest.digest == alone.manifest.digest
