"""Exports over HTTP: what comes out, what the terms forbid, and what is no longer there."""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from api_schemas.findings import FINDINGS
from api_schemas.terms import Licence
from services.datasets.main import compose as compose_datasets
from services.evaluation.service import exports
from tests.datasets import trees
from tests.evaluation.opened import content_of

FORBIDDEN = Licence(name="Agreement", may_export=False, may_share_derived=False, notes="Lab only.")


@pytest.fixture
def table(adapters, ada) -> Callable[[UUID], pa.Table]:
    provider = compose_datasets(adapters).provider
    return lambda dataset: provider.dataset_manifest(ada.caller, dataset)


def order(desk, dataset: UUID, form: str, **more: Any) -> dict[str, Any]:
    body = {"set": {"data": {"dataset": str(dataset)}}, "format": form} | more
    answer = desk.post("/exports", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/exports/{answer.json()['id']}"
    return answer.json()


def fetch(desk, look, asked: dict[str, Any]) -> dict[str, bytes]:
    """The files of a finished export, by name."""
    look()
    view = desk.get(f"/exports/{asked['id']}").json()
    assert view["job"]["state"] == "succeeded", view
    got = {}
    for file in view["files"]:
        answer = desk.get(file["url"])
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].split(";")[0] == file["media_type"]
        assert "no-store" in answer.headers["Cache-Control"]
        got[file["name"]] = answer.content
    return got


def test_a_zip_holds_the_images_and_can_be_imported_again(
    desk, look, hospital, registry, table, import_root: Path
) -> None:
    made = hospital(patients=15)
    asked = order(desk, made, "png_csv")
    assert asked["files"] == []
    early = desk.get(f"/exports/{asked['id']}/files/export.zip")
    assert (early.status_code, early.json()["type"].split(":")[-1]) == (409, "export-not-ready")
    folder = import_root / f"again-{uuid4().hex[:8]}"
    with zipfile.ZipFile(io.BytesIO(fetch(desk, look, asked)["export.zip"])) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(archive.read(name))
    rows = table(made)
    images = {f"images/{s}.png" for s in rows["sample_id"].to_pylist()}
    assert names == images | {"labels.csv", "croissant.json", "TERMS.txt"}
    assert "Images may be passed on: yes" in (folder / "TERMS.txt").read_text()

    body = {"format": "chexpert_csv", "name": "again", "site": "phantom-a", "size_px": 64}
    body["path"] = f"{folder.name}/labels.csv"
    again = registry.post("/datasets", json=body).json()["id"]
    registry.work()
    back = table(UUID(again))
    for column in ("pixel_sha256", "age", "sex", "race", "view", "split", *FINDINGS):
        assert back[column] == rows[column], column
    assert registry.get(f"/datasets/{again}").json()["kind"] == "phantom"
    alone = registry.post("/datasets", json=body | {"size_px": 256, "images": False}).json()["id"]
    registry.work()
    assert registry.get(f"/datasets/{alone}").json()["kind"] == "phantom"


def as_trained(content: bytes) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the published script trains on, and what it validates with."""
    table = pd.read_csv(io.BytesIO(content))
    return table[table["Fold"] != 0], table[table["Fold"] == 0]


def test_the_papers_table_is_one_file_without_those_who_test(desk, look, hospital, table) -> None:
    made = hospital(patients=40)
    asked = order(desk, made, "seeded_csv")
    trains, validates = as_trained(fetch(desk, look, asked)["seeded.csv"])
    rows = table(made).to_pandas()
    assert set(rows["split"]) == {"train", "validation", "test"}
    for read, split in ((trains, "train"), (validates, "validation")):
        assert read["PID"].tolist() == rows[rows["split"] == split]["patient_id"].tolist()
    assert asked["images"] == len(trains) + len(validates)
    assert "Seed" not in trains
    assert not trains[list(map(str, FINDINGS))].isna().any(axis=None)


def test_blank_labels_are_written_as_asked(desk, look, registry, import_root: Path) -> None:
    folder = import_root / f"table-{uuid4().hex[:8]}"
    folder.mkdir()
    rows = "".join(f"{n}.png,p{n},1,{'test' if n == 9 else 'train'}\n" for n in range(10))
    (folder / "t.csv").write_text("Path,PID,Edema,Split\n" + rows)
    body = {"format": "chexpert_csv", "name": "t", "site": "here", "images": False}
    made = registry.post("/datasets", json=body | {"path": f"{folder.name}/t.csv"}).json()["id"]
    registry.work()
    for asked, blanks in (({}, 0), ({"blank": "0"}, 0), ({"blank": "empty"}, 9 * 13)):
        content = fetch(desk, look, order(desk, made, "seeded_csv", **asked))["seeded.csv"]
        trains, _ = as_trained(content)
        assert trains[list(map(str, FINDINGS))].isna().sum().sum() == blanks
        assert len(trains) == 9
    only = {"set": {"data": {"dataset": made}, "split": "validation"}, "format": "seeded_csv"}
    assert desk.post("/exports", json=only).status_code == 422


@pytest.mark.parametrize(
    ("form", "more", "field"),
    [
        ("png_csv", {"shard": 10}, "shard"),
        ("croissant", {"shard": 5000}, "shard"),
        ("webdataset", {"blank": "0"}, "blank"),
        ("seeded_csv", {"set": {"split": "test"}}, "set.split"),
    ],
)
def test_an_option_that_a_format_has_no_use_for_is_refused(desk, form, more, field) -> None:
    wanted = {"data": {"dataset": str(uuid4())}} | more.pop("set", {})
    answer = desk.post("/exports", json={"set": wanted, "format": form, **more})
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_a_cohort_says_how_its_images_were_made(desk, look, shelf, ada) -> None:
    cohort = shelf.add_cohort(ada.caller, ["real-3", None])
    body = {"set": {"data": {"generation": str(cohort)}}, "format": "seeded_csv"}
    content = fetch(desk, look, desk.post("/exports", json=body).json())["seeded.csv"]
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [r["Path"] for r in rows] == ["real-3", "synthetic-1"]
    assert [r["Save Path"] for r in rows] == ["synthetic-0", "synthetic-1"]
    assert [r["Seed"] for r in rows] == ["0", "1"]


def test_shards_are_of_the_asked_size_and_hold_every_image(desk, look, hospital, table) -> None:
    made = hospital(patients=15)
    files = fetch(desk, look, order(desk, made, "webdataset", shard=10))
    rows = table(made).to_pylist()
    shards = sorted(name for name in files if name.endswith(".tar"))
    assert len(shards) == -(-len(rows) // 10)
    assert "TERMS.txt" in files
    place = 0
    for shard in shards:
        with tarfile.open(fileobj=io.BytesIO(files[shard])) as archive:
            members = archive.getmembers()
            for told, image in zip(members[::2], members[1::2], strict=True):
                key = f"{place:08d}"
                assert (told.name, image.name) == (f"{key}.json", f"{key}.png")
                said = json.loads(content_of(archive, told))
                assert said["sample_id"] == rows[place]["sample_id"]
                assert said["labels"]["Edema"] == rows[place]["Edema"]
                pixels = np.asarray(Image.open(io.BytesIO(content_of(archive, image))))
                assert pixels.shape == (64, 64)
                place += 1
    assert place == len(rows)


def test_a_split_can_be_exported_alone(desk, look, hospital, table) -> None:
    made = hospital()
    body = {"set": {"data": {"dataset": str(made)}, "split": "test"}, "format": "croissant"}
    asked = desk.post("/exports", json=body).json()
    assert asked["images"] == table(made)["split"].to_pylist().count("test")
    told = json.loads(fetch(desk, look, asked)["croissant.json"])
    assert told["description"].startswith(f"{asked['images']} drawn phantoms of chest X-rays")


def test_the_terms_are_kept_when_it_is_ordered_and_when_it_is_fetched(
    desk, look, hospital, registry
) -> None:
    made = hospital(patients=12)
    asked = order(desk, made, "png_csv")
    look()
    registry.put(f"/datasets/{made}/licence", json=FORBIDDEN.model_dump(mode="json"))
    body = {"set": {"data": {"dataset": str(made)}}, "format": "png_csv"}
    for answer in (
        desk.post("/exports", json=body),
        desk.get(f"/exports/{asked['id']}/files/export.zip"),
    ):
        assert (answer.status_code, answer.json()["type"].split(":")[-1]) == (
            403,
            "export-forbidden",
        )
        assert "'Agreement' does not allow exporting its images" in answer.json()["detail"]
        assert "Lab only." in answer.json()["detail"]


def test_a_cohort_inherits_what_may_be_shared(desk, shelf, ada) -> None:
    cohort = shelf.add_cohort(ada.caller, [None])
    caller, view, rows = shelf.cohorts[cohort]
    shelf.cohorts[cohort] = (caller, view.model_copy(update={"licence": FORBIDDEN}), rows)
    body = {"set": {"data": {"generation": str(cohort)}}, "format": "png_csv"}
    answer = desk.post("/exports", json=body)
    assert answer.status_code == 403
    assert "sharing what was made of the data" in answer.json()["detail"]


def test_an_export_of_before_a_withdrawal_gives_nothing_any_more(
    desk, look, hospital, registry, table
) -> None:
    made = hospital(patients=12)
    asked = order(desk, made, "png_csv")
    look()
    registry.post("/withdrawals", json={"patients": [table(made)["patient_id"][0].as_py()]})
    registry.work()
    answer = desk.get(f"/exports/{asked['id']}/files/export.zip")
    assert (answer.status_code, answer.json()["type"].split(":")[-1]) == (409, "data-changed")
    assert fetch(desk, look, order(desk, made, "png_csv"))


def test_a_damaged_image_fails_the_export_and_is_named(
    desk, look, hospital, table, adapters, monkeypatch
) -> None:
    monkeypatch.setattr(exports, "VERIFIED_AT_ONCE", 7)  # more than one slice
    made = hospital(patients=12)
    asked = order(desk, made, "png_csv")
    last = table(made).to_pylist()[-1]
    adapters.store.put(last["image_key"], b"something else")
    assert look() == -(-asked["images"] // 7)
    view = desk.get(f"/exports/{asked['id']}").json()
    assert view["job"]["problem"]["type"].endswith("image-damaged")
    assert last["sample_id"] in view["job"]["problem"]["detail"]
    assert desk.get(f"/exports/{asked['id']}/files/export.zip").status_code == 409


def test_exports_belong_to_their_project_and_name_their_files(
    desk, look, hospital, part, browse, stranger
) -> None:
    asked = order(desk, hospital(patients=12), "seeded_csv")
    look()
    wrong = desk.get(f"/exports/{asked['id']}/files/..%2Fsecret")
    assert wrong.status_code == 404
    other = desk.get(f"/exports/{asked['id']}/files/export.zip")
    assert (other.status_code, other.json()["accepted"]) == (404, ["seeded.csv"])
    elsewhere = browse(part.router, member=stranger)
    assert elsewhere.get(f"/exports/{asked['id']}").status_code == 404
    assert elsewhere.get(f"/exports/{asked['id']}/files/seeded.csv").status_code == 404
    assert elsewhere.get("/exports").json()["items"] == []
    unknown = {"set": {"data": {"dataset": str(uuid4())}}, "format": "png_csv"}
    answer = desk.post("/exports", json=unknown)
    assert (answer.status_code, answer.json()["field"]) == (404, "set")


def test_a_table_without_images_is_exported_as_a_table_alone(
    desk, look, registry, import_root: Path
) -> None:
    folder = import_root / f"table-{uuid4().hex[:8]}"
    folder.mkdir()
    rows = "".join(f"{n}.png,p{n},{40 + n}\n" for n in range(20))
    (folder / "table.csv").write_text("Path,PID,Age\n" + rows)
    body = {"format": "chexpert_csv", "name": "table", "site": "here", "images": False}
    made = registry.post("/datasets", json=body | {"path": f"{folder.name}/table.csv"}).json()["id"]
    registry.work()
    refused = desk.post("/exports", json={"set": {"data": {"dataset": made}}, "format": "png_csv"})
    assert (refused.status_code, refused.json()["type"].split(":")[-1]) == (
        422,
        "data-without-images",
    )
    asked = order(desk, UUID(made), "seeded_csv")
    content = fetch(desk, look, asked)["seeded.csv"]
    tests = registry.get(f"/datasets/{made}/summary").json()["splits"]["test"]
    assert len(content.splitlines()) - 1 == asked["images"] == 20 - tests
    sheet = registry.get(f"/datasets/{made}/sheet.png")
    assert (sheet.status_code, sheet.json()["type"].split(":")[-1]) == (422, "nothing-chosen")
    view = registry.post(f"/datasets/{made}/views", json={"name": "old", "where": {"age_from": 50}})
    registry.work()
    made_view = registry.get(f"/datasets/{view.json()['id']}").json()
    assert (made_view["manifest"]["images"], made_view["has_images"]) == (10, False)


def test_ethnicity_goes_out_and_in_again(desk, look, registry, table, import_root: Path) -> None:
    folder = import_root / f"ethnicity-{uuid4().hex[:8]}"
    words = ("Hispanic or Latino", "Not Hispanic or Latino", "")
    lines = [f"{n}.png,{n},{words[n % 3]}" for n in range(6)]
    for n, pixels in enumerate(trees.phantoms(6)):
        trees.save(folder / f"{n}.png", pixels)
    (folder / "t.csv").write_text("\n".join(["Path,PID,Ethnicity", *lines]) + "\n")
    body = {"format": "chexpert_csv", "name": "x", "site": "s", "size_px": 32}
    body["licence"] = {"name": "own", "may_export": True}

    def imported(path: str) -> UUID:
        made = registry.post("/datasets", json=body | {"path": path}).json()["id"]
        registry.work()
        return UUID(made)

    first = imported(f"{folder.name}/t.csv")
    said = table(first)["ethnicity"].to_pylist()
    assert said == [word or None for word in words] * 2
    packed = fetch(desk, look, order(desk, first, "png_csv"))["export.zip"]
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        archive.extractall(folder / "out")  # noqa: S202 - our own archive
        fields = json.loads(archive.read("croissant.json"))["recordSet"][0]["field"]
    assert "Ethnicity" in {field["name"] for field in fields}
    assert table(imported(f"{folder.name}/out/labels.csv"))["ethnicity"].to_pylist() == said
    shard = fetch(desk, look, order(desk, first, "webdataset"))["shard-000000.tar"]
    with tarfile.open(fileobj=io.BytesIO(shard)) as archive:
        told = [json.loads(content_of(archive, m)) for m in archive if m.name.endswith(".json")]
    assert [each["ethnicity"] for each in told] == said
    shift = desk.get(
        "/shifts", params={"first": f"dataset/{first}", "second": f"dataset/{first}"}
    ).json()
    rows = {r["value"]: r["first"]["value"] for r in shift["rows"] if r["attribute"] == "ethnicity"}
    assert rows == {words[0]: pytest.approx(0.5), words[1]: pytest.approx(0.5)}
