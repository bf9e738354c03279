"""Views of several datasets: one patient in one split, and the terms of all of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from api_schemas.datasets import DatasetView
from tests.datasets import trees
from tests.datasets.test_lookups import look_up
from tests.datasets.test_views import look, table
from tests.datasets.test_withdrawal import withdraw


@pytest.fixture
def post(http: TestClient, ingest: Callable[..., int], import_root: Path) -> Callable[..., UUID]:
    """Import a table of `(image, patient, split)` whose images lie in one folder for all."""
    folder = import_root / f"joins-{uuid4().hex[:8]}"
    for number, pixels in enumerate(trees.phantoms(8)):
        trees.save(folder / "films" / f"{number}.png", pixels)
    numbers = iter(range(100))

    def make(*rows: tuple[int, str, str], edema: int = 0, run: bool = True, **more: Any) -> UUID:
        name = f"{next(numbers)}.csv"
        lines = [f"films/{n}.png,{patient},{split},{edema}" for n, patient, split in rows]
        (folder / name).write_text("\n".join(["Path,PID,Split,Edema", *lines]) + "\n")
        body = {"format": "chexpert_csv", "name": "own", "site": "us", "size_px": 32}
        answer = http.post("/datasets", json=body | {"path": f"{folder.name}/{name}"} | more)
        assert answer.status_code == 202, answer.text
        if run:
            ingest()
        return UUID(answer.json()["id"])

    return make


def order(http: TestClient, base: UUID, *others: UUID, **more: Any) -> Any:
    body = {"name": "all", "join": [{"dataset": str(each)} for each in others]} | more
    return http.post(f"/datasets/{base}/views", json=body)


def joined(
    http: TestClient, ingest: Callable[..., int], base: UUID, *others: UUID, **more: Any
) -> DatasetView:
    answer = order(http, base, *others, **more)
    assert answer.status_code == 202, answer.text
    ingest()
    view = look(http, UUID(answer.json()["id"]))
    assert view.job.state == "succeeded", view
    return view


def refusal(answer: Any) -> tuple[int, str, str | None]:
    problem = answer.json()
    return answer.status_code, problem["type"].rpartition(":")[2], problem.get("field")


def test_train_and_test_that_were_imported_apart_are_one_dataset(
    http: TestClient, ingest: Callable[..., int], post: Callable[..., UUID]
) -> None:
    train = post((0, "a", "train"), (1, "b", "validation"))
    test = post((2, "c", "test"), (3, "d", "test"), site="them", terms="theirs")
    view = joined(http, ingest, train, test)
    manifest = table(http, view.id)
    assert manifest["split"].to_list() == ["train", "validation", "test", "test"]
    assert manifest["site"].to_list() == ["us", "us", "them", "them"]
    assert (view.site, view.terms, view.size_px) == ("us+them", "theirs", 32)
    assert view.warnings == []
    for row in manifest.iter_rows(named=True):
        image = http.get(f"/datasets/{view.id}/samples/{row['sample_id']}.png")
        assert image.status_code == 200
    names = manifest["sample_id"].to_list()
    assert look_up(http, view.id, paths=["films/3.png", "films/0.png"])["samples"] == [
        names[3],
        names[0],
    ]
    answer = http.post(f"/datasets/{view.id}/lookups", json={"rows": [2]})
    assert refusal(answer) == (422, "several-tables", "rows")
    assert look(http, view.id).view.request.join[0].dataset == test  # type: ignore[union-attr]


def test_the_licence_is_the_strictest_of_all(
    http: TestClient, ingest: Callable[..., int], post: Callable[..., UUID]
) -> None:
    free = {"name": "free", "may_export": True, "may_share_derived": True}
    strict = {"name": "strict", "may_export": False, "may_share_derived": False}
    first = post((0, "a", "train"), licence=free)
    second = post((1, "b", "test"), licence=strict)
    view = joined(http, ingest, first, second)
    assert (view.licence.may_export, view.licence.may_share_derived) == (False, False)
    inner = joined(http, ingest, view.id, where={"split": ["train"]})
    assert not inner.licence.may_export  # a view of a view has the terms of all that is below it


def test_a_patient_of_two_splits_is_refused_unless_all_are_split_anew(
    http: TestClient, ingest: Callable[..., int], post: Callable[..., UUID]
) -> None:
    """Equal names of one site are one patient."""
    train = post((0, "a", "train"), (1, "b", "train"), (2, "e", "train"))
    test = post((3, "a", "test"), (4, "c", "test"))
    answer = order(http, train, test)
    assert refusal(answer) == (422, "patients-of-two-splits", "splits")
    assert "1 of 4 patients" in answer.json()["detail"]
    view = joined(http, ingest, train, test, splits={"kind": "new", "test": 0.3})
    manifest = table(http, view.id)
    assert manifest.height == 5
    assert manifest.group_by("patient_id").n_unique()["split"].to_list() == [1] * 4
    narrow = joined(http, ingest, train, test, where={"split": ["train"]})
    assert table(http, narrow.id).height == 3


def test_a_patient_of_two_splits_fails_the_view_of_what_was_still_in_the_making(
    http: TestClient, ingest: Callable[..., int], post: Callable[..., UUID]
) -> None:
    train = post((0, "a", "train"))
    test = post((3, "a", "test"), run=False)
    answer = order(http, train, test)
    assert (answer.status_code, answer.json()["job"]["state"]) == (202, "blocked")
    ingest()
    job = http.get(f"/datasets/{answer.json()['id']}").json()["job"]
    assert (job["state"], job["problem"]["type"].rpartition(":")[2]) == (
        "failed",
        "patients-of-two-splits",
    )


def test_the_same_picture_in_two_splits_is_told(
    http: TestClient, ingest: Callable[..., int], post: Callable[..., UUID]
) -> None:
    """Of two sites, where nobody can know that it is one patient."""
    first = post((0, "a", "train"), (1, "b", "train"))
    second = post((0, "x", "test"), (2, "y", "test"), site="them")
    view = joined(http, ingest, first, second)
    told = "pictures that stand in more than one split, under different patients: 1"
    assert view.warnings == [told]


def test_a_sample_of_both_is_taken_once_if_they_agree_on_it(
    http: TestClient, ingest: Callable[..., int], post: Callable[..., UUID]
) -> None:
    first = post((0, "a", "train"), (1, "b", "train"))
    second = post((1, "b", "train"), (2, "c", "train"))
    assert table(http, joined(http, ingest, first, second).id).height == 3
    other = post((1, "b", "train"), edema=1)
    assert refusal(order(http, first, other)) == (422, "join-differs", "join")


def test_what_cannot_be_one_dataset_is_refused(
    http: TestClient, post: Callable[..., UUID], phantoms: Callable[..., DatasetView]
) -> None:
    base = post((0, "a", "train"))
    for other, accepted in (
        (post((1, "b", "test"), size_px=64), 32),
        (post((1, "b", "test"), resize="antialiased"), "paper"),
        (phantoms().id, 32),
        (base, None),
    ):
        answer = order(http, base, other)
        assert refusal(answer) == (422, "join-differs", "join.0.dataset")
        assert answer.json().get("accepted") == accepted
    answer = order(http, base, post((2, "c", "test")), uuid4())
    assert refusal(answer)[::2] == (404, "join.1.dataset")


def test_drawn_phantoms_stay_phantoms(
    http: TestClient, ingest: Callable[..., int], phantoms: Callable[..., DatasetView]
) -> None:
    first, second = phantoms(), phantoms(site="phantom-b")
    view = joined(http, ingest, first.id, second.id)
    assert view.phantom
    assert view.site == "phantom-a+phantom-b"
    assert view.manifest is not None
    assert first.manifest is not None
    assert second.manifest is not None
    assert view.manifest.images == first.manifest.images + second.manifest.images


@pytest.mark.parametrize("which", [0, 1])
def test_a_withdrawn_patient_leaves_the_joined_view(
    http: TestClient, ingest: Callable[..., int], post: Callable[..., UUID], which: int
) -> None:
    parts = post((0, "a", "train"), (1, "b", "train")), post((2, "c", "test"), (3, "d", "test"))
    view = joined(http, ingest, *parts)
    patient = table(http, parts[which])["patient_id"][0]
    withdraw(http, patients=[patient])
    ingest()
    left = table(http, view.id)
    assert (left.height, patient in left["patient_id"].to_list()) == (3, False)


@pytest.mark.parametrize("which", [0, 1])
def test_a_joined_view_is_deleted_with_any_of_its_datasets(
    http: TestClient, ingest: Callable[..., int], post: Callable[..., UUID], which: int
) -> None:
    parts = post((0, "a", "train")), post((2, "c", "test"))
    view = joined(http, ingest, *parts)
    refused = http.delete(f"/datasets/{parts[which]}")
    assert refused.status_code == 409
    assert http.delete(f"/datasets/{parts[which]}?derived=true").status_code == 202
    ingest()
    gone = [http.get(f"/datasets/{each}").status_code for each in (parts[which], view.id)]
    assert gone == [404, 404]
    assert http.get(f"/datasets/{parts[1 - which]}").status_code == 200
