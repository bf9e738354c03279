"""The ingest as a job: the same folder gives the same dataset, whatever happens on the way."""

import csv
import io
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api_schemas.datasets import DatasetView
from api_schemas.findings import FINDINGS
from api_schemas.manifest import MANIFEST, content_digest, from_parquet
from services.datasets.main import compose
from services.datasets.service import NAMED
from services.datasets.worker import handlers
from services.kit.adapters import Adapters
from tests.datasets import dicoms, trees

ROOT = Path(__file__).parents[2]


@pytest.fixture
def http(adapters: Adapters, browse: Callable[..., TestClient], ada: Any) -> TestClient:
    return browse(compose(adapters).router, member=ada)


@pytest.fixture
def ingest(adapters: Adapters, work: Callable[..., int]) -> Callable[..., int]:
    return lambda most=1000: work("datasets", "cpu", handlers(adapters), most)


@pytest.fixture
def folder(import_root: Path) -> Path:
    path = import_root / uuid4().hex
    path.mkdir()
    return path


def post(http: TestClient, **body: Any) -> DatasetView:
    size = {"size_px": 32} if body.get("images", True) else {}
    answer = http.post("/datasets", json={"name": "x"} | size | body)
    assert answer.status_code == 202, answer.text
    return DatasetView.model_validate(answer.json())


def look(http: TestClient, dataset: DatasetView) -> DatasetView:
    return DatasetView.model_validate(http.get(f"/datasets/{dataset.id}").json())


def many(folder: Path, count: int = 600) -> dict[str, Any]:
    """A table of more images than one shard holds, a few of them unusable."""
    pictures = trees.phantoms(20, 32)
    rows = []
    for n in range(count):
        pixels = pictures[n % 20].copy()
        pixels[0, :8] = np.unpackbits(np.array([n % 256], np.uint8)) * 255
        pixels[1, :8] = np.unpackbits(np.array([n // 256], np.uint8)) * 255
        trees.save(folder / "images" / f"{n}.png", pixels)
        rows.append({"Path": f"images/{n}.png", "PID": n // 3, "Edema": (1, 0, -1, "")[n % 4]})
    (folder / "images" / "17.png").write_bytes(b"broken")
    (folder / "images" / "400.png").unlink()
    trees.write(folder / "t.csv", ("Path", "PID", *FINDINGS), rows)
    return {"format": "chexpert_csv", "path": f"{folder.name}/t.csv", "site": "here"}


# ---------------------------------------------------------------- the same every time


def test_the_same_folder_gives_the_same_manifest(
    http: TestClient, ingest: Callable[..., int], folder: Path
) -> None:
    body = many(folder)
    made = [post(http, **body), post(http, **body)]
    assert ingest() == 2 * 5  # the plan, three shards, the manifest
    first, second = (look(http, each) for each in made)
    assert first.manifest
    assert second.manifest
    assert first.manifest.digest == second.manifest.digest
    assert (first.manifest.images, first.rejected) == (598, 2)
    manifest = from_parquet(http.get(f"/datasets/{first.id}/manifest").content, MANIFEST)
    assert content_digest(manifest) == first.manifest.digest
    assert first.job.done == first.job.total == 598


def test_shards_of_one_dataset_are_ingested_side_by_side(
    http: TestClient,
    ingest: Callable[..., int],
    work: Callable[..., int],
    adapters: Adapters,
    folder: Path,
) -> None:
    body = many(folder)
    alone, together = post(http, **body), post(http, **body)
    ingest()
    assert ingest(1) == 0
    together = post(http, **body)
    assert ingest(1) == 1  # the plan
    with ThreadPoolExecutor(3) as pool:
        ran = list(pool.map(lambda _: work("datasets", "cpu", handlers(adapters)), range(3)))
    assert sum(ran) == 4
    one, other = look(http, alone).manifest, look(http, together).manifest
    assert one
    assert other
    assert one.digest == other.digest


def _environment(adapters: Adapters) -> dict[str, str]:
    shown = adapters.settings.model_dump(exclude_none=True)
    secret = {n for n, v in shown.items() if hasattr(v, "get_secret_value")}
    values = {n: v.get_secret_value() if n in secret else str(v) for n, v in shown.items()}
    named = {f"SYNTHORAX_{name.upper()}": value for name, value in values.items()}
    return os.environ | named | {"PYTHONPATH": str(ROOT)}


def test_an_import_killed_again_and_again_ends_with_the_same_manifest(
    http: TestClient, ingest: Callable[..., int], adapters: Adapters, folder: Path
) -> None:
    body = many(folder)
    undisturbed = post(http, **body)
    ingest()
    disturbed = post(http, **body)
    chance = random.Random(11)
    kills = 0
    while not look(http, disturbed).job.state.terminal:
        lives = chance.randrange(3, 400)
        with subprocess.Popen(
            [sys.executable, "-m", "tests.datasets.killed_worker"],
            env=_environment(adapters),
            stdout=subprocess.PIPE,
            text=True,
        ) as worker:
            assert worker.stdout
            for said, _ in enumerate(worker.stdout):
                if said == lives:
                    worker.kill()
                    kills += 1
                    break
        with adapters.db.transaction() as tx:  # what the sweeper does when the lease is over
            tx.session.execute(
                text(
                    "UPDATE jobs.slices SET state = 'queued', lease = NULL WHERE state = 'running'"
                )
            )
    assert kills >= 3
    one, other = look(http, undisturbed), look(http, disturbed)
    assert one.manifest
    assert other.manifest
    assert one.manifest.digest == other.manifest.digest
    assert (one.rejected, one.notes) == (other.rejected, other.notes)


# ---------------------------------------------------------------- what is left out, and why


def test_a_folder_of_dicom_files_leaves_no_name_behind(
    http: TestClient,
    ingest: Callable[..., int],
    adapters: Adapters,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    ada: Any,
) -> None:
    pixels = trees.phantoms(8)
    for n in range(6):
        tags = {"PatientID": f"CANARY-{n // 2}", "PatientName": f"CANARY^{n // 2}"}
        dicoms.save(dicoms.dicom(pixels[n], **tags), folder / f"CANARY^{n // 2}" / f"{n}.dcm")
    flagged = dicoms.dicom(pixels[6], BurnedInAnnotation="YES")
    dicoms.save(flagged, folder / "CANARY^9" / "a.dcm")
    damaged = dicoms.dicom(pixels[7], PixelData=b"CANARY")
    dicoms.save(damaged, folder / "CANARY^9" / "b.dcm")
    made = post(http, format="dicom", path=folder.name, site="pacs")
    ingest()
    made = look(http, made)
    assert made.manifest
    assert (made.manifest.images, made.manifest.patients, made.rejected) == (6, 3, 2)
    for_a_person = http.get(f"/datasets/{made.id}/rejections", params={"code": "burned-in"}).json()
    assert [r["line"] for r in for_a_person["items"]] == [7]
    paths = ("", "/samples", "/rejections", "/summary", "/duplicates")
    everything = [http.get(f"/datasets/{made.id}{path}").text for path in paths]
    everything += capfd.readouterr()
    with adapters.db.transaction() as tx:
        tables = tx.session.execute(
            text(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
                "WHERE schemaname IN ('datasets', 'jobs')"
            )
        ).scalars()
        for table in tables:
            rows = tx.session.execute(text(f"SELECT to_jsonb(t)::text FROM {table} t")).scalars()  # noqa: S608 - the catalogue's names
            everything += rows
    for key in adapters.store.keys(f"projects/{ada.caller.project}/"):
        everything += [key, adapters.store.get(key).decode("latin-1")]
    assert not [each for each in everything if "CANARY" in each]


def test_odd_pictures_are_counted_in_the_notes_over_all_shards(
    adapters: Adapters, http: TestClient, ingest: Callable[..., int], folder: Path
) -> None:
    pixels = trees.phantoms(4, 32)
    for n in range(300):
        odd = {"WindowWidth": 0, "WindowCenter": 0} if n % 3 == 0 else {}
        film = dicoms.dicom(pixels[n % 4], PatientID=f"p{n}", **odd)
        if n == 7:
            film.PhotometricInterpretation = "MONOCHROME"
        dicoms.save(film, folder / f"{n:03}.dcm")
    made = post(http, format="dicom", path=folder.name, site="pacs")
    ingest()
    made = look(http, made)
    assert made.manifest
    assert made.manifest.images == 299
    assert "WindowWidth could not be used and was ignored: 100 images" in made.notes
    (rejected,) = http.get(f"/datasets/{made.id}/rejections").json()["items"]
    assert "PhotometricInterpretation is 'MONOCHROME'" in rejected["reason"]
    with adapters.db.transaction() as tx:
        left = "SELECT count(*) FROM datasets.samples WHERE picture_notes <> '[]'"
        assert tx.session.execute(text(left)).scalar() == 0


def test_pictures_that_occur_twice_are_told(
    http: TestClient, ingest: Callable[..., int], folder: Path
) -> None:
    pixels = trees.phantoms(2, 64)
    rows = []
    for n, (which, patient) in enumerate([(0, "a"), (1, "b"), (0, "a"), (0, "c")]):
        trees.save(folder / f"{n}.png", pixels[which])
        rows.append({"Path": f"{n}.png", "PID": patient})
    trees.write(folder / "t.csv", ("Path", "PID"), rows)
    made = post(http, format="chexpert_csv", path=f"{folder.name}/t.csv", site="here")
    assert http.get(f"/datasets/{made.id}/duplicates").status_code == 409
    ingest()
    names = [s["sample_id"] for s in http.get(f"/datasets/{made.id}/samples").json()["items"]]
    found = http.get(f"/datasets/{made.id}/duplicates").json()["items"]
    assert found == [
        {
            "sample_id": names[0],
            "other_sample_id": names[other],
            "identical": True,
            "distance": 0,
            "same_patient": same,
        }
        for other, same in ((2, True), (3, False))
    ]
    *_, note = look(http, made).notes
    assert "identical images: 2" in note
    assert "different patients: 1" in note


# ---------------------------------------------------------------- tables without images


def test_a_table_is_imported_without_its_images(
    http: TestClient, ingest: Callable[..., int], folder: Path
) -> None:
    tree = trees.chexpert(folder)
    for picture in tree.rglob("*.jpg"):
        picture.unlink()
    made = post(http, format="chexpert", path=f"{folder.name}/{tree.name}", images=False)
    assert ingest() == 2
    made = look(http, made)
    assert made.manifest
    assert (made.has_images, made.manifest.images, made.rejected) == (False, 4, 1)
    manifest = from_parquet(http.get(f"/datasets/{made.id}/manifest").content, MANIFEST)
    assert manifest["image_key"].null_count == manifest["pixel_sha256"].null_count == 4
    assert manifest["Edema"].to_pylist() == [None, -1, 1, 0]
    (sample, *_) = http.get(f"/datasets/{made.id}/samples").json()["items"]
    assert sample["image_sha256"] is None
    assert http.get(f"/datasets/{made.id}/samples/{sample['sample_id']}.png").status_code == 404
    summary = http.get(f"/datasets/{made.id}/summary").json()
    assert summary["labels"]["Edema"] == {"present": 1, "absent": 1, "uncertain": 1, "blank": 1}


def test_the_papers_cohort_knows_the_samples_it_copies(
    http: TestClient, ingest: Callable[..., int], folder: Path
) -> None:
    tree = trees.chexpert(folder)
    real = post(http, format="chexpert", path=f"{folder.name}/{tree.name}")
    path = "CheXpert-v1.0/train/patient00003/study1/view1_frontal.jpg"
    row = {"Path": path, "Seed": 1000, "ReplicaID": 0, "Save Path": "p3-1000", "Edema": 1}
    trees.write(folder / "seeded.csv", trees.SEEDED, [row])
    trees.save(folder / "p3-1000.png", trees.phantoms(1)[0])
    cohort = post(http, format="paper_seeded", path=f"{folder.name}/seeded.csv", site="chexpert")
    ingest()
    assert look(http, cohort).kind == "synthetic"
    tables = [
        from_parquet(http.get(f"/datasets/{d.id}/manifest").content, MANIFEST).to_pylist()
        for d in (real, cohort)
    ]
    (copy,) = tables[1]
    original = next(r for r in tables[0] if r["sample_id"] == copy["parent_sample_id"])
    assert original["patient_id"] == copy["patient_id"]
    assert (copy["seed"], copy["replica"], copy["Edema"]) == (1000, 0, 1)


def test_a_dataset_leaves_as_the_papers_files_and_comes_back(
    http: TestClient, ingest: Callable[..., int], folder: Path
) -> None:
    path = "CheXpert-v1.0/train/patient0000{}/study1/view1_frontal.jpg"
    rows = [
        {"Path": path.format(n), "Sex": "Male", "Age": 41, "AP/PA": "AP", "Edema": n % 2}
        | {"Race": "White", "Fold": n, "Seed": 1000 + n, "ReplicaID": n, "Save Path": f"p{n}"}
        for n in range(3)
    ]
    trees.write(folder / "seeded.csv", trees.SEEDED, rows)
    for n, pixels in enumerate(trees.phantoms(3)):
        trees.save(folder / f"p{n}.png", pixels)
    made = post(http, format="paper_seeded", path=f"{folder.name}/seeded.csv", site="chexpert")
    ingest()
    left = http.get(f"/datasets/{made.id}/paper/sample_seeded_data.csv")
    assert left.headers["Content-Type"].startswith("text/csv")
    header, *lines = csv.reader(left.text.splitlines())
    assert tuple(header) == trees.SEEDED
    manifest = from_parquet(http.get(f"/datasets/{made.id}/manifest").content, MANIFEST).to_pylist()
    for row, line in zip(manifest, lines, strict=True):
        told = dict(zip(header, line, strict=True))
        assert (told["Path"], told["Save Path"]) == (row["parent_sample_id"], row["sample_id"])
        assert (told["Seed"], told["ReplicaID"]) == (str(row["seed"]), str(row["replica"]))
        assert (told["Edema"], told["Race"], told["Fold"]) == (
            str(row["Edema"]),
            "White",
            str(row["fold"]),
        )
    for real in ("cxp_tr.csv", "cxp_ts.csv", "sample_train_data.csv"):
        assert http.get(f"/datasets/{made.id}/paper/{real}").status_code == 422  # nothing is real
    (folder / "again.csv").write_text(left.text)
    again = post(
        http,
        format="paper_seeded",
        path=f"{folder.name}/again.csv",
        site="b",
        images=False,
    )
    ingest()
    summaries = [http.get(f"/datasets/{d.id}/summary").json() for d in (made, again)]
    for name in ("sex", "race", "view", "splits", "age_decades"):
        assert summaries[0][name] == summaries[1][name]
    for finding, counts in summaries[0]["labels"].items():
        assert summaries[1]["labels"][finding]["present"] == counts["present"]
        assert summaries[1]["labels"][finding]["blank"] == 0  # blank labels leave as 0


# ---------------------------------------------------------------- uploads


def archive(folder: Path) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder))
    return sink.getvalue()


def send(http: TestClient, content: bytes) -> str:
    answer = http.post("/uploads", content=content)
    assert answer.status_code == 201, answer.text
    assert answer.json()["bytes"] == len(content)
    return answer.json()["id"]


def test_an_uploaded_archive_is_imported_and_used_up(
    http: TestClient, ingest: Callable[..., int], adapters: Adapters, folder: Path, ada: Any
) -> None:
    tree = trees.chexpert(folder)
    here = post(http, format="chexpert", path=f"{folder.name}/{tree.name}")
    upload = send(http, archive(folder))
    there = post(http, format="chexpert", path=tree.name, upload=upload)
    ingest()
    one, other = look(http, here).manifest, look(http, there).manifest
    assert one
    assert other
    assert one.digest == other.digest
    assert not list(adapters.store.keys(f"projects/{ada.caller.project}/uploads/"))
    assert not list((adapters.settings.scratch / "uploads").iterdir())
    gone = http.post(
        "/datasets",
        json={"format": "chexpert", "name": "x", "path": tree.name, "upload": upload},
    )
    assert (gone.status_code, gone.json()["field"]) == (422, "upload")


def test_an_archive_that_cannot_be_used_fails_the_job_and_stays_for_another_try(
    http: TestClient, ingest: Callable[..., int], folder: Path, import_root: Path
) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("../../evil", b"x")
    bad, good = send(http, sink.getvalue()), send(http, archive(trees.chexpert(folder)))
    refused = post(http, format="chexpert", path=".", upload=bad)
    misplaced = post(http, format="chexpert", path="nowhere", upload=good)
    ingest()
    problems = [look(http, each).job.problem for each in (refused, misplaced)]
    assert [p and p.type.split(":")[-1] for p in problems] == [
        "archive-refused",
        "import-file-missing",
    ]
    assert not list(import_root.rglob("evil"))
    again = post(http, format="chexpert", path=".", upload=good)
    ingest()
    assert look(http, again).manifest
    assert http.delete(f"/uploads/{bad}").status_code == 204
    assert http.delete(f"/uploads/{bad}").status_code == 404


def test_an_upload_has_a_limit_and_an_owner(
    adapters: Adapters, browse: Callable[..., TestClient], ada: Any, stranger: Any
) -> None:
    small = adapters.settings.model_copy(update={"upload_limit_bytes": 100_000})
    router = compose(replace(adapters, settings=small)).router
    http, strange = browse(router, member=ada), browse(router, member=stranger)
    answer = http.post("/uploads", content=bytes(100_001))
    assert (answer.status_code, answer.headers["Content-Type"]) == (413, "application/problem+json")
    assert "100000" in str(answer.json()["accepted"])
    upload = send(http, bytes(100_000))
    assert strange.delete(f"/uploads/{upload}").status_code == 404
    theirs = {"format": "chexpert", "name": "x", "path": "x", "upload": upload}
    assert strange.post("/datasets", json=theirs).status_code == 422
    left = [p for p in adapters.settings.scratch.iterdir() if p.name.startswith("upload-")]
    assert not left


def test_rows_name_an_upload_until_it_is_gone(
    http: TestClient, adapters: Adapters, ada: Any
) -> None:
    upload = send(http, b"content")
    prefix = f"projects/{ada.caller.project}/uploads/{upload}/"
    (key,) = adapters.store.keys(prefix)
    with adapters.db.transaction() as tx:
        assert NAMED["uploads"](tx, UUID(upload), [key]) == {key}
    http.delete(f"/uploads/{upload}")
    with adapters.db.transaction() as tx:
        assert NAMED["uploads"](tx, UUID(upload), [key]) == set()
    assert not list(adapters.store.keys(prefix))
