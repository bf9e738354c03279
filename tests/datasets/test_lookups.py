"""Which of my images is this sample: own files and rows give sample ids, and nothing is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import polars as pl
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api_schemas.datasets import DatasetView
from services.kit.adapters import Adapters
from tests.datasets import trees
from tests.datasets.test_withdrawal import a_view, table, withdraw


@pytest.fixture
def folder(import_root: Path) -> Path:
    made = import_root / f"own-{uuid4().hex[:8]}"
    made.mkdir()
    return made


@pytest.fixture
def own(http: TestClient, ingest: Callable[..., int], folder: Path) -> UUID:
    """Six images of four patients; the third row names no file that is there."""
    for number, pixels in enumerate(trees.phantoms(6)):
        trees.save(folder / "films" / f"{number}.png", pixels)
    rows = [(0, "p0"), (1, "p0"), (99, "p1"), (2, "p1"), (3, "p2"), (4, "p2"), (5, "p3")]
    lines = [f"films/{n}.png,{patient}" for n, patient in rows]
    (folder / "table.csv").write_text("\n".join(["Path,PID", *lines]) + "\n")
    return imported(http, ingest, format="chexpert_csv", site="us", path=f"{folder.name}/table.csv")


def imported(http: TestClient, ingest: Callable[..., int], **body: Any) -> UUID:
    answer = http.post("/datasets", json={"name": "own", "size_px": 32} | body)
    assert answer.status_code == 202, answer.text
    ingest()
    view = http.get(f"/datasets/{answer.json()['id']}").json()
    assert view["job"]["state"] == "succeeded", view
    return UUID(view["id"])


def look_up(http: TestClient, dataset: UUID, **asked: Any) -> dict[str, Any]:
    answer = http.post(f"/datasets/{dataset}/lookups", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_own_files_and_rows_give_sample_ids(http: TestClient, own: UUID) -> None:
    ids = table(http, own)["sample_id"].to_list()
    assert len(ids) == 6
    paths = [f"films/{n}.png" for n in (5, 0, 99, 3)]
    told = look_up(http, own, paths=paths)
    assert told == {"samples": [ids[5], ids[0], None, ids[3]], "missing": 1}
    told = look_up(http, own, rows=[2, 3, 4, 5, 8, 9, 1, 2])
    expected = [ids[0], ids[1], None, ids[2], ids[5], None, None, ids[0]]
    assert told == {"samples": expected, "missing": 3}


def test_a_path_may_begin_where_imports_do(
    http: TestClient, own: UUID, folder: Path, import_root: Path
) -> None:
    first = table(http, own)["sample_id"][0]
    for path in (
        *("films/0.png", "./films/0.png", "films//0.png", " films/0.png", "films/x/../0.png"),
        f"{folder.name}/films/0.png",
        str(import_root.resolve() / folder.name / "films" / "0.png"),
    ):
        assert look_up(http, own, paths=[path])["samples"] == [first], path
    for path in ("0.png", "films/0.PNG", "films/0", "other/films/0.png", "../films/0.png", "/0"):
        assert look_up(http, own, paths=[path])["samples"] == [None], path


def test_where_two_images_could_be_meant_none_is_told(
    http: TestClient, ingest: Callable[..., int], folder: Path
) -> None:
    inner = folder / folder.name
    first, second = trees.phantoms(2)
    trees.save(folder / "a.png", first)
    trees.save(inner / "a.png", second)
    (folder / "t.csv").write_text(f"Path,PID\na.png,p0\n{folder.name}/a.png,p1\n")
    made = imported(http, ingest, format="chexpert_csv", site="us", path=f"{folder.name}/t.csv")
    asked = look_up(http, made, paths=["a.png", f"{folder.name}/a.png"])
    assert asked == {"samples": [table(http, made)["sample_id"][0], None], "missing": 1}


def test_of_the_known_datasets_a_file_is_known_as_people_write_it(
    http: TestClient, ingest: Callable[..., int], folder: Path
) -> None:
    trees.nih(folder)
    trees.chexpert(folder)
    trees.mimic(folder)
    nih = imported(http, ingest, format="nih", path=f"{folder.name}/nih")
    chexpert = imported(http, ingest, format="chexpert", path=f"{folder.name}/CheXpert-v1.0-small")
    mimic = imported(http, ingest, format="mimic_cxr_jpg", path=f"{folder.name}/mimic-cxr-jpg")
    for dataset, source, form in (
        (nih, folder / "nih", "{name}"),
        (nih, folder / "nih", "{path}"),
        (chexpert, folder / "CheXpert-v1.0-small", "CheXpert-v1.0-small/{path}"),
        (chexpert, folder / "CheXpert-v1.0-small", "CheXpert-v1.0/{path}"),
        (chexpert, folder / "CheXpert-v1.0-small", "{path}"),
        (mimic, folder / "mimic-cxr-jpg", "{path}"),
    ):
        files = [path for pattern in ("*.png", "*.jpg") for path in source.rglob(pattern)]
        asked = [form.format(name=f.name, path=f.relative_to(source)) for f in sorted(files)]
        told = look_up(http, dataset, paths=asked)["samples"]
        found = [each for each in told if each is not None]
        assert sorted(found) == sorted(table(http, dataset)["sample_id"]), (form, asked)


def test_a_view_knows_its_own_images_and_nobody_who_was_withdrawn(
    http: TestClient, ingest: Callable[..., int], own: UUID
) -> None:
    rows = table(http, own)
    paths = [f"films/{n}.png" for n in range(6)]
    view = a_view(http, own, where={"split": [rows["split"][0]]})
    ingest()
    here = set(table(http, view)["sample_id"])
    ids = rows["sample_id"].to_list()
    for asked in ({"paths": paths}, {"rows": [2, 3, 5, 6, 7, 8]}):
        assert look_up(http, view, **asked)["samples"] == [
            each if each in here else None for each in ids
        ]
    withdraw(http, patients=[rows["patient_id"][0]])
    ingest()
    left = rows.filter(pl.col("patient_id") != rows["patient_id"][0])["sample_id"].to_list()
    for asked in ({"paths": paths}, {"rows": [2, 3, 5, 6, 7, 8]}):
        assert look_up(http, own, **asked)["samples"] == [None, None, *left]


def test_nothing_of_what_was_asked_is_kept(
    http: TestClient, own: UUID, adapters: Adapters, capfd: pytest.CaptureFixture[str]
) -> None:
    look_up(http, own, paths=["films/0.png", "Mustermann/Erika-1950.png"])
    with adapters.db.transaction() as tx:
        tables = tx.session.execute(
            text(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
                "WHERE schemaname NOT LIKE 'pg_%' AND schemaname <> 'information_schema'"
            )
        ).scalars()
        for name in tables.all():
            held = tx.session.execute(
                text(f"SELECT count(*) FROM {name} t WHERE t::text LIKE '%Mustermann%'")  # noqa: S608 - our tables
            )
            assert held.scalar_one() == 0, name
    assert "Mustermann" not in "".join(capfd.readouterr())


def test_what_cannot_be_looked_up_is_refused(
    http: TestClient, strange_http: TestClient, own: UUID
) -> None:
    for body, field in (
        ({}, "paths"),
        ({"paths": ["a"], "rows": [1]}, "paths"),
        ({"paths": []}, "paths"),
        ({"rows": []}, "rows"),
        ({"rows": [0]}, "rows.0"),
        ({"rows": [2**31]}, "rows.0"),
        ({"rows": ["two"]}, "rows.0"),
        ({"paths": [""]}, "paths.0"),
        ({"paths": ["a" * 1001]}, "paths.0"),
        ({"paths": ["a"] * 10_001}, "paths"),
    ):
        answer = http.post(f"/datasets/{own}/lookups", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field), body
    for client, dataset in ((strange_http, own), (http, uuid4())):
        answer = client.post(f"/datasets/{dataset}/lookups", json={"rows": [2]})
        assert answer.status_code == 404


def test_a_dataset_of_phantoms_has_rows_too(
    http: TestClient, phantoms: Callable[..., DatasetView]
) -> None:
    base = phantoms()
    ids = table(http, base.id)["sample_id"].to_list()
    assert set(look_up(http, base.id, rows=list(range(1, len(ids) + 2)))["samples"]) >= set(ids)


def test_ten_thousand_files_can_be_asked_for_at_once(http: TestClient, own: UUID) -> None:
    told = look_up(http, own, paths=[f"some/rather/long/folder/{n:08d}.png" for n in range(10_000)])
    assert told["missing"] == 10_000
