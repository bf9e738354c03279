"""One source in several tables: one dataset, one split a patient, no image mistaken for another."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from api_schemas.imports import CsvImport
from services.datasets.importers.splits import train_or_validation
from tests.datasets import trees
from tests.datasets.test_lookups import look_up
from tests.datasets.test_withdrawal import table


@pytest.fixture
def folder(import_root: Path) -> Path:
    made = import_root / f"tables-{uuid4().hex[:8]}"
    for number, pixels in enumerate(trees.phantoms(12)):
        trees.save(made / "films" / f"{number}.png", pixels)
    return made


def write(path: Path, rows: Sequence[Sequence[object]], header: str = "Path,PID") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


@pytest.fixture
def post(
    http: TestClient, ingest: Callable[..., int], folder: Path
) -> Callable[..., dict[str, Any]]:
    """Import tables of `folder`, each `(name, split)`, and answer the dataset."""

    def make(*tables: tuple[str, str | None], **more: Any) -> dict[str, Any]:
        paths = [{"path": f"{folder.name}/{name}", "split": split} for name, split in tables]
        body = {"format": "chexpert_csv", "name": "own", "site": "us", "size_px": 32}
        answer = http.post("/datasets", json=body | {"paths": paths} | more)
        assert answer.status_code == 202, answer.text
        ingest()
        view = http.get(f"/datasets/{answer.json()['id']}").json()
        assert view["job"]["state"] == "succeeded", view
        return view

    return make


def rejections(http: TestClient, view: dict[str, Any]) -> list[tuple[int, str]]:
    items = http.get(f"/datasets/{view['id']}/rejections").json()["items"]
    return [(each["line"], each["reason"]) for each in items]


def test_train_and_test_in_two_tables_make_one_dataset(
    http: TestClient, post: Callable[..., dict[str, Any]], folder: Path
) -> None:
    write(folder / "train.csv", [(f"films/{n}.png", f"a{n}") for n in range(8)])
    write(folder / "test.csv", [(f"films/{n}.png", f"b{n}") for n in range(8, 12)])
    view = post(("train.csv", None), ("test.csv", "test"))
    splits = table(http, UUID(view["id"]))["split"].to_list()
    expected = [train_or_validation("us", f"a{n}") for n in range(8)]
    assert splits == [*expected, *["test"] * 4]
    assert rejections(http, view) == []
    lines = (
        "lines are counted through all tables: table 1 (train.csv) begins at line 1; "
        "table 2 (test.csv) begins at line 10"
    )
    assert lines in view["notes"]
    names = table(http, UUID(view["id"]))["sample_id"].to_list()
    asked = look_up(http, UUID(view["id"]), rows=[2, 9, 10, 11, 14])
    assert asked["samples"] == [names[0], names[7], None, names[8], names[11]]
    paths = look_up(http, UUID(view["id"]), paths=["films/0.png", f"{folder.name}/films/11.png"])
    assert paths["samples"] == [names[0], names[11]]


def test_an_image_has_the_name_that_its_own_table_alone_would_give_it(
    http: TestClient, post: Callable[..., dict[str, Any]], folder: Path
) -> None:
    write(folder / "train.csv", [("films/0.png", "a")])
    write(folder / "test.csv", [("films/1.png", "b")])
    both = post(("train.csv", "train"), ("test.csv", "test"))
    alone = post(paths=None, path=f"{folder.name}/test.csv")
    columns = ["sample_id", "patient_id", "pixel_sha256"]
    assert table(http, UUID(both["id"])).select(columns).row(1) == table(
        http, UUID(alone["id"])
    ).select(columns).row(0)


def test_a_patient_of_two_tables_stays_in_the_first_and_it_is_said(
    http: TestClient, post: Callable[..., dict[str, Any]], folder: Path
) -> None:
    write(folder / "train.csv", [(f"films/{n}.png", f"p{n}") for n in range(4)])
    write(
        folder / "test.csv", [("films/8.png", "p1"), ("films/9.png", "q"), ("films/10.png", "p3")]
    )
    view = post(("train.csv", "train"), ("test.csv", "test"))
    manifest = table(http, UUID(view["id"]))
    assert manifest["split"].to_list() == [*["train"] * 4, "test"]
    assert manifest.group_by("patient_id").n_unique()["split"].to_list() == [1] * 5
    reason = "split test, but the patient is in train above"
    assert rejections(http, view) == [(7, reason), (9, reason)]
    counted = (
        "rows that were left out, as they put a patient of an earlier row into another split: 2"
    )
    assert counted in view["notes"]


def test_a_patient_whom_the_hash_would_validate_is_not_in_the_test_table_too(
    http: TestClient, post: Callable[..., dict[str, Any]], folder: Path
) -> None:
    """Also where the first table states no split."""
    write(folder / "train.csv", [(f"films/{n}.png", f"p{n}") for n in range(8)])
    write(folder / "test.csv", [(f"films/{n}.png", f"p{n - 8}") for n in range(8, 12)])
    view = post(("train.csv", None), ("test.csv", "test"))
    manifest = table(http, UUID(view["id"]))
    assert "test" not in manifest["split"].to_list()
    assert len(rejections(http, view)) == 4
    assert any("no image of the test split" in warning for warning in view["warnings"])


def test_the_same_picture_in_both_tables_is_left_out_once(
    http: TestClient, post: Callable[..., dict[str, Any]], folder: Path
) -> None:
    write(folder / "train.csv", [("films/0.png", "a"), ("films/1.png", "b")])
    write(folder / "test.csv", [("films/1.png", "c"), ("films/2.png", "d")])
    view = post(("train.csv", "train"), ("test.csv", "test"))
    assert rejections(http, view) == [(5, "the same picture as line 3")]


def test_equal_names_in_two_folders_are_two_images(
    http: TestClient, post: Callable[..., dict[str, Any]], folder: Path
) -> None:
    pixels = trees.phantoms(2)
    for part, picture in zip(("train", "test"), pixels, strict=True):
        trees.save(folder / part / "1.png", picture)
        write(folder / part / "table.csv", [("1.png", "")])
    view = post(("train/table.csv", "train"), ("test/table.csv", "test"), patients="one_per_image")
    manifest = table(http, UUID(view["id"]))
    assert manifest["split"].to_list() == ["train", "test"]
    for column in ("sample_id", "patient_id", "pixel_sha256"):
        assert manifest[column].n_unique() == 2, column
    names = manifest["sample_id"].to_list()
    dataset = UUID(view["id"])
    paths = ["train/1.png", f"{folder.name}/test/1.png", "1.png", "other/1.png"]
    assert look_up(http, dataset, paths=paths)["samples"] == [*names, None, None]  # 1.png is either


def test_a_row_that_states_another_split_than_its_table_is_left_out(
    http: TestClient, post: Callable[..., dict[str, Any]], folder: Path
) -> None:
    rows = [("films/0.png", "a", "train"), ("films/1.png", "b", ""), ("films/2.png", "c", "test")]
    write(folder / "train.csv", rows, "Path,PID,Split")
    write(folder / "test.csv", [("films/3.png", "d")])
    view = post(("train.csv", "train"), ("test.csv", "test"))
    assert table(http, UUID(view["id"]))["split"].to_list() == ["train", "train", "test"]
    told = "the row states split test, but its table was given as train"
    assert rejections(http, view) == [(4, told)]


def test_a_table_without_a_split_keeps_what_its_rows_state(
    http: TestClient, post: Callable[..., dict[str, Any]], folder: Path
) -> None:
    rows = [("films/0.png", "a", "validation"), ("films/1.png", "b", "train")]
    write(folder / "train.csv", rows, "Path,PID,Split")
    write(folder / "test.csv", [("films/3.png", "d")])
    view = post(("train.csv", None), ("test.csv", "test"))
    assert table(http, UUID(view["id"]))["split"].to_list() == ["validation", "train", "test"]


def test_tables_may_have_other_columns_and_encodings(
    http: TestClient, post: Callable[..., dict[str, Any]], folder: Path
) -> None:
    write(folder / "train.csv", [("films/0.png", "a", "1", "yes")], "Path,PID,Edema,Pneumonia")
    (folder / "test.csv").write_bytes(
        "pid;path;sex;note\nb;films/1.png;weird;\u00e4\n".encode("latin-1")
    )
    view = post(("train.csv", "train"), ("test.csv", "test"))
    manifest = table(http, UUID(view["id"]))
    assert manifest["Edema"].to_list() == [1, None]
    notes = " ".join(view["notes"])
    assert "values of Pneumonia that were left blank" in notes
    assert "values of Sex that were left blank" in notes
    assert "test.csv: is not UTF-8 and was read as Latin-1" in notes


def test_a_mapping_reads_all_tables(
    http: TestClient, post: Callable[..., dict[str, Any]], folder: Path
) -> None:
    (folder / "m.yaml").write_text(
        "columns:\n  Path: {from: file, folder: films, suffix: .png}\n  PID: {from: case}\n"
    )
    write(folder / "train.csv", [(0, "a"), (1, "b")], "file,case")
    write(folder / "test.csv", [(2, "c"), (3, "a")], "file,case")
    view = post(
        *(("train.csv", "train"), ("test.csv", "test")),
        format="mapped_csv",
        mapping=f"{folder.name}/m.yaml",
    )
    assert table(http, UUID(view["id"]))["split"].to_list() == ["train", "train", "test"]
    assert [line for line, _ in rejections(http, view)] == [6]


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("gone.csv", None, "paths.1.path"),
        ("../x.csv", None, "paths.1.path"),
        ("t.csv", "a,b\n1,2\n", "paths.1.path"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(
    http: TestClient, folder: Path, name: str, content: str | None, field: str
) -> None:
    write(folder / "train.csv", [("films/0.png", "a")])
    if content is not None:
        (folder / name).write_text(content)
    paths = [{"path": f"{folder.name}/{each}"} for each in ("train.csv", name)]
    body = {"format": "chexpert_csv", "name": "own", "site": "us", "paths": paths}
    answer = http.post("/datasets", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "path: give either path"),
        ({"path": "a.csv", "paths": [{"path": "a.csv"}, {"path": "b.csv"}]}, "path: give either"),
        ({"paths": [{"path": "a.csv"}]}, "at least 2"),
        ({"paths": [{"path": "a.csv"}, {"path": "a.csv"}]}, "listed twice"),
        (
            {"paths": [{"path": "a.csv"}, {"path": "b.csv", "split": "val"}]},
            "'train', 'validation'",
        ),
    ],
)
def test_what_names_no_tables_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        CsvImport.model_validate({"format": "chexpert_csv", "name": "x", "site": "s", **given})
