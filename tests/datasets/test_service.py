"""Datasets over HTTP, on the real servers: imported, looked at, cancelled, deleted."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from api_schemas.datasets import DatasetView
from api_schemas.findings import FINDINGS
from api_schemas.imports import PhantomSite
from api_schemas.manifest import MANIFEST, content_digest, from_parquet
from services.datasets.importers.phantom import draw, population
from services.datasets.main import compose
from services.datasets.worker import handlers
from services.kit.adapters import Adapters
from services.kit.errors import Conflict, NotFound
from services.kit.jobs import Lease
from services.kit.objects import sha256

PHANTOM = {
    "format": "phantom",
    "name": "Phantoms",
    "site": "phantom-a",
    "patients": 20,
    "size_px": 16,
    "seed": 4,
}


@pytest.fixture
def table(import_root: Path) -> Path:
    """A CSV of six phantoms of three patients, three rows of which cannot be used."""
    folder = import_root / f"mini-{uuid4().hex[:8]}"
    folder.mkdir()
    rows = []
    samples = population(PhantomSite.A, 6, seed=1)[:6]
    for n, (sample, pixels) in enumerate(zip(samples, draw(samples, 40), strict=True)):
        Image.fromarray(pixels[:, :30]).save(folder / f"{n}.png")
        labels = {str(f): "" if v is None else v for f, v in sample.labels.items()}
        rows.append(
            {"Path": f"{n}.png", "PID": f"p{n // 2}", "Sex": sample.sex, "Age": 50, **labels}
        )
    rows[0]["Age"] = 130
    rows[1]["Path"] = "../1.png"
    rows[3]["Path"] = "missing.png"
    (folder / "5.png").write_bytes(b"not a picture")
    path = folder / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def import_csv(path: Path, **more: Any) -> dict[str, Any]:
    where = f"{path.parent.name}/{path.name}"
    return {
        "format": "chexpert_csv",
        "name": "Mini",
        "path": where,
        "site": "here",
        "size_px": 32,
    } | more


def post(http: TestClient, body: dict[str, Any], **headers: str) -> DatasetView:
    answer = http.post("/datasets", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/datasets/{answer.json()['id']}"
    return DatasetView.model_validate(answer.json())


def look(http: TestClient, dataset: DatasetView) -> DatasetView:
    return DatasetView.model_validate(http.get(f"/datasets/{dataset.id}").json())


def test_phantoms_become_a_dataset(
    http: TestClient, ingest: Callable[..., int], adapters: Adapters
) -> None:
    asked = post(http, PHANTOM)
    assert asked.job.state == "queued"
    assert asked.manifest is None
    assert http.get(f"/datasets/{asked.id}/manifest").status_code == 409
    assert ingest() == 3  # the plan, one shard, the manifest
    made = look(http, asked)
    samples = population(PhantomSite.A, 20, seed=4)
    assert (made.kind, made.rejected, made.job.state) == ("phantom", 0, "succeeded")
    assert (made.job.done, made.job.unit) == (len(samples), "images")
    assert made.manifest is not None
    assert (made.manifest.images, made.manifest.patients) == (len(samples), 20)

    manifest = from_parquet(http.get(f"/datasets/{asked.id}/manifest").content, MANIFEST)
    assert content_digest(manifest) == made.manifest.digest
    pixels = draw(samples, 16)
    for row, sample, drawn in zip(manifest.to_pylist(), samples, pixels, strict=True):
        assert sha256(drawn.tobytes()) == row["pixel_sha256"]
        assert [row[f] for f in FINDINGS] == [sample.labels[f] for f in FINDINGS]
        assert (row["age"], row["sex"], row["race"]) == (sample.age, sample.sex, sample.race)
        assert sample.patient_id not in row["patient_id"]
    assert set(manifest["split"].to_pylist()) == {"train", "validation", "test"}
    by_patient = manifest.group_by("patient_id").aggregate([("split", "count_distinct")])
    assert set(by_patient["split_count_distinct"].to_pylist()) == {1}
    png = adapters.store.get(manifest["image_key"][0].as_py(), manifest["image_sha256"][0].as_py())
    assert b'"phantom": true' in png


def test_a_summary_counts_the_manifest(http: TestClient, ingest: Callable[..., int]) -> None:
    made = post(http, PHANTOM)
    ingest()
    summary = http.get(f"/datasets/{made.id}/summary").json()
    samples = population(PhantomSite.A, 20, seed=4)
    assert (summary["images"], summary["patients"]) == (len(samples), 20)
    for counts in summary["labels"].values():
        assert sum(counts.values()) == len(samples)
    edema = [s.labels[FINDINGS[8]] for s in samples]
    assert summary["labels"]["Edema"]["present"] == edema.count(1)
    assert summary["labels"]["Edema"]["blank"] == edema.count(None)
    for name in ("splits", "sex", "race", "view", "site", "age_decades"):
        assert sum(summary[name].values()) == len(samples)


def test_samples_are_paged_in_order_and_shown(http: TestClient, ingest: Callable[..., int]) -> None:
    made = post(http, PHANTOM)
    assert http.get(f"/datasets/{made.id}/samples").status_code == 409
    ingest()
    seen, cursor = [], None
    while True:
        query = {"limit": 7} | ({"cursor": cursor} if cursor else {})
        part = http.get(f"/datasets/{made.id}/samples", params=query).json()
        seen += part["items"]
        cursor = part["next"]
        if cursor is None:
            break
    manifest = from_parquet(http.get(f"/datasets/{made.id}/manifest").content, MANIFEST)
    assert [s["sample_id"] for s in seen] == manifest["sample_id"].to_pylist()
    png = http.get(f"/datasets/{made.id}/samples/{seen[3]['sample_id']}.png")
    assert png.headers["Content-Type"] == "image/png"
    assert sha256(png.content) == seen[3]["image_sha256"]
    assert http.get(f"/datasets/{made.id}/samples/nobody.png").status_code == 404


def test_rows_that_cannot_be_used_are_reported_and_the_rest_imported(
    http: TestClient, ingest: Callable[..., int], table: Path, adapters: Adapters
) -> None:
    made = post(http, import_csv(table))
    ingest()
    made = look(http, made)
    assert made.manifest is not None
    assert (made.manifest.images, made.rejected) == (3, 3)
    rejections = http.get(f"/datasets/{made.id}/rejections").json()["items"]
    assert [r["line"] for r in rejections] == [3, 5, 7]
    for rejection, word in zip(rejections, ("below", "missing", "decode"), strict=True):
        assert word in rejection["reason"]
    assert any(note.startswith("values of Age that were left blank") for note in made.notes)
    manifest = from_parquet(http.get(f"/datasets/{made.id}/manifest").content, MANIFEST)
    told = str(manifest.to_pydict())
    assert "p0" not in manifest["patient_id"].to_pylist()
    assert ".png'" not in told.replace(str(manifest["image_key"].to_pylist()), "")
    with adapters.db.transaction() as tx:
        places = tx.session.connection().exec_driver_sql(
            "SELECT count(*) FROM datasets.samples WHERE place IS NOT NULL OR bucket IS NOT NULL"
        )
        assert places.scalar_one() == 0


def test_an_import_that_leaves_out_most_rows_succeeds_with_warnings(
    http: TestClient, ingest: Callable[..., int], table: Path
) -> None:
    rows = ["0.png,a,train", "2.png,b,validation"]
    rows += [f"gone-{n}.png,t{n},test" for n in range(2)] + ["../4.png,c,test"]
    table.write_text("\n".join(["Path,PID,Split", *rows, ""]))
    asked = post(http, import_csv(table))
    ingest()
    made = look(http, asked)
    assert (made.job.state, made.job.message) == ("succeeded", "succeeded with warnings")
    most, split = made.warnings
    assert most.startswith("more than half of the rows were left out: 3 of 5")
    assert "the image is missing or lies outside the import folders (2)" in most
    assert split == ("no image of the test split was imported; rows of it that were left out: 3")


@pytest.mark.parametrize("lost", [1, 3])
def test_an_import_that_leaves_out_half_of_the_rows_or_less_succeeds(
    http: TestClient, ingest: Callable[..., int], table: Path, lost: int
) -> None:
    rows = ["0.png,a", "2.png,b", "4.png,b", *(f"gone-{n}.png,a" for n in range(lost))]
    table.write_text("\n".join(["Path,PID", *rows, ""]))
    asked = post(http, import_csv(table, images=True))
    ingest()
    made = look(http, asked)
    assert made.rejected == lost
    assert (made.job.state, made.job.message, made.warnings) == ("succeeded", "", [])


def test_the_same_patient_and_picture_have_the_same_names_in_every_import(
    http: TestClient, ingest: Callable[..., int], table: Path
) -> None:
    manifests = []
    for size_px in (32, 64):
        made = post(http, import_csv(table, size_px=size_px))
        ingest()
        manifests.append(from_parquet(http.get(f"/datasets/{made.id}/manifest").content, MANIFEST))
    for name in ("sample_id", "patient_id", "split"):
        assert manifests[0][name] == manifests[1][name]
    assert manifests[0]["pixel_sha256"] != manifests[1]["pixel_sha256"]


@pytest.mark.parametrize(
    ("change", "field", "slug"),
    [
        ({"path": "../../etc/passwd"}, "path", "import-path-refused"),
        ({"path": "/etc/passwd"}, "path", "import-path-refused"),
        ({"path": "no/such.csv"}, "path", "import-file-missing"),
        ({"image_root": "/etc"}, "image_root", "import-path-refused"),
        ({"image_root": "nowhere"}, "image_root", "import-file-missing"),
        ({"size_px": 33}, "size_px", "invalid"),
        ({"site": "a site"}, "site", "invalid"),
        ({"format": "xlsx"}, "format", "invalid"),
    ],
)
def test_what_the_request_shows_is_refused_at_once(
    http: TestClient, table: Path, change: dict[str, Any], field: str, slug: str
) -> None:
    answer = http.post("/datasets", json=import_csv(table) | change)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.json()["field"], answer.json()["type"].split(":")[-1]) == (field, slug)
    assert http.get("/datasets").json()["items"] == []


def test_a_csv_without_path_is_refused_at_once(http: TestClient, table: Path) -> None:
    table.write_text("Picture of,Sex\n1.png,Male\n")
    answer = http.post("/datasets", json=import_csv(table))
    assert answer.status_code == 422
    assert answer.json()["field"] == "path"
    assert "'Path'" in answer.json()["detail"]


def test_what_will_not_be_read_is_said_in_the_answer(
    http: TestClient, ingest: Callable[..., int], table: Path
) -> None:
    table.write_text("path,patient_id,Edema,Weight\n0.png,a,1,71\n")
    asked = post(http, import_csv(table))
    assert any("were not read: 'Weight'" in note for note in asked.notes)
    ingest()
    made = look(http, asked)
    assert made.manifest is not None
    assert set(asked.notes) <= set(made.notes)


def test_a_table_that_names_no_patient_or_label_is_refused_before_it_begins(
    http: TestClient, ingest: Callable[..., int], table: Path
) -> None:
    table.write_text("Path,Age\n0.png,40\n1.png,41\n")
    answer = http.post("/datasets", json=import_csv(table))
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (422, "patients")
    assert (problem["type"].split(":")[-1], problem["accepted"]) == (
        "import-patients-unknown",
        ["one_per_image"],
    )
    table.write_text("Path,PID,label_Edema\n0.png,a,1\n")
    answer = http.post("/datasets", json=import_csv(table))
    assert answer.json()["type"].split(":")[-1] == "import-labels-unread"
    assert http.get("/datasets").json()["items"] == []
    table.write_text("Path,Age\n0.png,40\n1.png,41\n")
    asked = post(http, import_csv(table, patients="one_per_image"))
    ingest()
    made = look(http, asked)
    assert made.manifest is not None
    assert made.manifest.patients == 2


def test_a_line_without_end_is_refused_before_it_is_read(http: TestClient, table: Path) -> None:
    with table.open("wb") as file:
        file.truncate(1 << 30)
    answer = http.post("/datasets", json=import_csv(table))
    assert (answer.status_code, answer.json()["field"]) == (413, "path")
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_no_usable_row_fails_the_job_and_leaves_only_the_reasons(
    http: TestClient, ingest: Callable[..., int], table: Path, adapters: Adapters, ada: Any
) -> None:
    table.write_text("Path,PID\ngone.png,a\n../0.png,b\n")
    made = post(http, import_csv(table))
    ingest()
    made = look(http, made)
    assert made.job.state == "failed"
    assert made.job.problem is not None
    assert made.job.problem.type.endswith("no-usable-row")
    assert made.rejected == 2
    assert http.get(f"/datasets/{made.id}/manifest").status_code == 409
    assert not list(adapters.store.keys(f"projects/{ada.caller.project}/"))


def test_a_table_without_rows_says_so(
    http: TestClient, ingest: Callable[..., int], table: Path
) -> None:
    table.write_text("Path,Age\n")
    made = post(http, import_csv(table))
    ingest()
    problem = look(http, made).job.problem
    assert problem is not None
    assert problem.detail == "the source has no rows at all"


def test_a_csv_that_breaks_half_way_fails_with_its_problem(
    http: TestClient, ingest: Callable[..., int], table: Path, adapters: Adapters
) -> None:
    rows = b"".join(b"%d.png\n" % n for n in range(6000))
    table.write_bytes(b"Path\n" + rows + b'"never closed\n')
    made = post(http, import_csv(table, patients="one_per_image"))
    ingest()
    with adapters.db.transaction() as tx:
        left = tx.session.connection().exec_driver_sql("SELECT count(*) FROM datasets.samples")
        assert left.scalar_one() == 0
    problem = look(http, made).job.problem
    assert problem is not None
    assert problem.type.endswith("import-not-csv")


def test_nobody_else_sees_a_dataset(
    http: TestClient, strange_http: TestClient, ingest: Callable[..., int]
) -> None:
    made = post(http, PHANTOM)
    ingest()
    for path in ("", "/summary", "/samples", "/rejections", "/manifest", "/events"):
        theirs = strange_http.get(f"/datasets/{made.id}{path}")
        unknown = strange_http.get(f"/datasets/{uuid4()}{path}")
        assert (theirs.status_code, theirs.json()) == (404, unknown.json())
    assert strange_http.post(f"/datasets/{made.id}/cancel").status_code == 404
    assert strange_http.delete(f"/datasets/{made.id}").status_code == 404
    assert strange_http.get("/datasets").json()["items"] == []
    assert http.get(f"/datasets/{made.id}").status_code == 200


def test_an_idempotency_key_makes_one_dataset(http: TestClient) -> None:
    key = {"Idempotency-Key": "once"}
    first, second = post(http, PHANTOM, **key), post(http, PHANTOM, **key)
    assert first.id == second.id
    other = http.post("/datasets", json=PHANTOM | {"seed": 5}, headers=key)
    assert other.status_code == 422
    assert len(http.get("/datasets").json()["items"]) == 1


def test_a_cancelled_import_leaves_nothing_behind(
    http: TestClient, ingest: Callable[..., int], adapters: Adapters, ada: Any
) -> None:
    made = post(http, PHANTOM)
    assert ingest(2) == 2
    prefix = f"projects/{ada.caller.project}/datasets/{made.id}/"
    assert list(adapters.store.keys(prefix))
    assert http.post(f"/datasets/{made.id}/cancel").json()["job"]["state"] == "cancelled"
    assert http.post(f"/datasets/{made.id}/cancel").status_code == 200
    assert ingest() == 0
    assert not list(adapters.store.keys(prefix))
    assert http.get(f"/datasets/{made.id}/samples").status_code == 409
    finished = post(http, PHANTOM)
    ingest()
    assert http.post(f"/datasets/{finished.id}/cancel").status_code == 409


def test_events_tell_the_import_from_start_to_end(
    http: TestClient, ingest: Callable[..., int]
) -> None:
    made = post(http, PHANTOM)
    ingest()
    with http.stream("GET", f"/datasets/{made.id}/events") as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line.startswith("event:")]
    assert lines[0] == "event: state"
    assert "event: progress" in lines
    assert lines[-1] == "event: state"


def test_other_services_consume_the_manifest_through_the_provider(
    http: TestClient, ingest: Callable[..., int], adapters: Adapters, ada: Any, stranger: Any
) -> None:
    provider = compose(adapters).provider
    made = post(http, PHANTOM)
    with pytest.raises(Conflict):
        provider.dataset_manifest(ada.caller, made.id)
    ingest()
    view = provider.dataset(ada.caller, made.id)
    assert view.manifest is not None
    assert content_digest(provider.dataset_manifest(ada.caller, made.id)) == view.manifest.digest
    with pytest.raises(NotFound):
        provider.dataset_manifest(stranger.caller, made.id)


def test_a_slice_that_crashed_is_repeated_to_the_same_end(
    http: TestClient, work: Callable[..., int], adapters: Adapters
) -> None:
    crashed: set[str] = set()
    ingest = handlers(adapters)["ingest"]

    def crashing(lease: Lease) -> None:
        step = lease.payload["step"]
        if step not in crashed:
            crashed.add(step)
            lease.finishing = _crash  # pyright: ignore[reportAttributeAccessIssue]
        ingest(lease)

    made, undisturbed = post(http, PHANTOM), post(http, PHANTOM)
    for _ in range(6):
        work("datasets", "cpu", {"ingest": crashing})
        with adapters.db.transaction() as tx:
            tx.session.connection().exec_driver_sql(
                "UPDATE jobs.slices SET not_before = now() WHERE state = 'queued'"
            )
    assert crashed == {"plan", "images", "manifest"}
    tables = [
        from_parquet(http.get(f"/datasets/{d.id}/manifest").content, MANIFEST).drop("image_key")
        for d in (made, undisturbed)
    ]
    assert tables[0] == tables[1]


def _crash(more: object = ()) -> None:
    raise RuntimeError(more)


def test_a_worker_that_is_cancelled_at_work_takes_its_objects_back(
    http: TestClient, work: Callable[..., int], adapters: Adapters, ada: Any
) -> None:
    ingest = handlers(adapters)["ingest"]
    made = post(http, PHANTOM)

    def cancelled(lease: Lease) -> None:
        finish = lease.finishing

        def cancel_first(*args: Any, **kwargs: Any) -> Any:
            if lease.payload["step"] == "images":
                key = f"projects/{ada.caller.project}/datasets/{made.id}/images/late"
                assert http.post(f"/datasets/{made.id}/cancel").status_code == 200
                adapters.store.put(key, b"put after the cancel had cleaned up")
            return finish(*args, **kwargs)

        lease.finishing = cancel_first
        ingest(lease)

    work("datasets", "cpu", {"ingest": cancelled})
    assert look(http, made).job.state == "cancelled"
    assert not list(adapters.store.keys(f"projects/{ada.caller.project}/datasets/{made.id}/"))
