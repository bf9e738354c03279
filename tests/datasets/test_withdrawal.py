"""A withdrawn patient leaves every manifest and the store, and no import brings them back."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import polars as pl
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import text

from api_schemas.datasets import DatasetView
from api_schemas.imports import PhantomSite
from api_schemas.manifest import MANIFEST, from_parquet
from services.datasets.importers.phantom import draw, population
from services.datasets.service import WITHDRAW, Manifests, Withdraw
from services.datasets.worker import handlers
from services.kit.adapters import Adapters
from services.kit.erasure import Erasure
from services.kit.jobs import Lease
from services.kit.jobs.pairing import NAMEPLATE, Nameplate, Pairing

PHANTOM = {
    "format": "phantom",
    "name": "Phantoms",
    "site": "phantom-a",
    "patients": 30,
    "size_px": 16,
    "seed": 4,
}


def table(http: TestClient, dataset: UUID) -> pl.DataFrame:
    content = http.get(f"/datasets/{dataset}/manifest").content
    return pl.DataFrame(pl.from_arrow(from_parquet(content, MANIFEST)))


def look(http: TestClient, dataset: UUID) -> DatasetView:
    return DatasetView.model_validate(http.get(f"/datasets/{dataset}").json())


def withdraw(http: TestClient, **whom: Any) -> str:
    answer = http.post("/withdrawals", json=whom)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/withdrawals/{answer.json()['id']}"
    return answer.headers["Location"]


def a_view(http: TestClient, base: UUID, **body: Any) -> UUID:
    return UUID(http.post(f"/datasets/{base}/views", json={"name": "v", **body}).json()["id"])


def test_a_withdrawn_patient_is_gone_from_the_dataset_its_views_and_the_store(
    http: TestClient,
    ingest: Callable[..., int],
    phantoms: Callable[..., DatasetView],
    adapters: Adapters,
) -> None:
    base, other = phantoms(), phantoms(seed=9)
    view = a_view(http, base.id)
    ingest()
    without = a_view(http, base.id, where={"split": ["test"]})
    ingest()
    rows = table(http, base.id)
    several = rows.filter(pl.col("patient_id").is_duplicated(), pl.col("split") == "train")
    patient = several["patient_id"][0]
    gone = rows.filter(pl.col("patient_id") == patient)
    before = {d: look(http, d).manifest for d in (base.id, other.id, view, without)}
    assert gone.height > 1

    where = withdraw(http, patients=[patient])
    ingest()
    told = http.get(where).json()
    assert told["job"]["state"] == "succeeded"
    assert (told["patients"], told["samples"]) == (1, 0)
    assert {d["dataset"] for d in told["datasets"]} == {str(base.id), str(view)}
    for entry in told["datasets"]:
        old, new = before[UUID(entry["dataset"])], look(http, UUID(entry["dataset"])).manifest
        assert old is not None
        assert new is not None
        assert (entry["manifest_before"], entry["manifest_after"]) == (str(old.id), str(new.id))
        assert (entry["images"], entry["patients"]) == (gone.height, 1)
        assert (new.images, new.patients) == (old.images - gone.height, old.patients - 1)
        assert not adapters.store.exists(old.key)

    expected = rows.filter(pl.col("patient_id") != patient)
    assert table(http, base.id).equals(expected)
    assert table(http, view).equals(expected)
    for d in (other.id, without):
        assert look(http, d).manifest == before[d]
    for d in (base.id, view):
        assert http.get(f"/datasets/{d}/samples/{gone['sample_id'][0]}.png").status_code == 404
    assert not any(adapters.store.exists(key) for key in gone["image_key"])
    assert all(adapters.store.exists(key) for key in expected["image_key"])
    with adapters.db.transaction() as tx:
        left = tx.session.connection().exec_driver_sql(
            "SELECT count(*) FROM datasets.samples WHERE patient_id = %s", (patient,)
        )
        assert left.scalar_one() == 0


def test_a_single_image_can_be_withdrawn(
    http: TestClient, ingest: Callable[..., int], phantoms: Callable[..., DatasetView]
) -> None:
    base = phantoms()
    rows = table(http, base.id)
    withdraw(http, samples=[rows["sample_id"][3]], note="wrong image")
    ingest()
    assert table(http, base.id).equals(rows.filter(pl.col("sample_id") != rows["sample_id"][3]))


def test_no_later_import_brings_a_withdrawn_patient_back(
    http: TestClient,
    ingest: Callable[..., int],
    phantoms: Callable[..., DatasetView],
    adapters: Adapters,
) -> None:
    rows = table(http, phantoms().id)
    patient = rows["patient_id"][0]
    withdraw(http, patients=[patient])
    ingest()
    again = phantoms()
    assert table(http, again.id)["sample_id"].equals(
        rows.filter(pl.col("patient_id") != patient)["sample_id"]
    )
    reasons = http.get(f"/datasets/{again.id}/rejections").json()["items"]
    assert {(r["code"], r["reason"]) for r in reasons} == {
        ("withdrawn", "withdrawn from this project")
    }
    assert len(reasons) == again.rejected == rows.filter(pl.col("patient_id") == patient).height
    assert again.manifest is not None
    folder = again.manifest.key.rsplit("/", 1)[0]
    stored = set(adapters.store.keys(f"{folder}/images/"))
    assert stored == set(table(http, again.id)["image_key"])


def test_who_is_withdrawn_while_an_import_runs_is_left_out_of_it(
    http: TestClient,
    work: Callable[..., int],
    ingest: Callable[..., int],
    phantoms: Callable[..., DatasetView],
    adapters: Adapters,
) -> None:
    patient = table(http, phantoms().id)["patient_id"][0]
    second = DatasetView.model_validate(http.post("/datasets", json=PHANTOM).json())
    once: list[str] = []

    def withdrawing(lease: Lease) -> None:
        finish = lease.finishing

        def withdraw_first(*args: Any, **kwargs: Any) -> Any:
            if lease.payload["step"] == "manifest" and not once:
                once.append(withdraw(http, patients=[patient]))
            return finish(*args, **kwargs)

        lease.finishing = withdraw_first
        handlers(adapters)["ingest"](lease)

    work("datasets", "cpu", handlers(adapters) | {"ingest": withdrawing})
    assert look(http, second.id).job.state == "succeeded"
    assert patient not in table(http, second.id)["patient_id"].to_list()
    assert http.get(once[0]).json()["job"]["state"] == "succeeded"


def test_a_view_made_while_a_patient_is_withdrawn_does_not_hold_them(
    http: TestClient,
    work: Callable[..., int],
    phantoms: Callable[..., DatasetView],
    adapters: Adapters,
) -> None:
    base = phantoms()
    patient = table(http, base.id)["patient_id"][0]
    withdraw(http, patients=[patient])
    made: list[UUID] = []

    def interrupted(lease: Lease) -> None:
        finish = lease.finishing

        def view_first(*args: Any, **kwargs: Any) -> Any:
            if lease.payload["step"] == "family" and not made:
                made.append(a_view(http, base.id))
                work("datasets", "cpu", {"view": handlers(adapters)["view"]}, 1)
            return finish(*args, **kwargs)

        lease.finishing = view_first
        handlers(adapters)["withdraw"](lease)

    work("datasets", "cpu", handlers(adapters) | {"withdraw": interrupted})
    assert look(http, made[0]).job.state == "succeeded"
    for dataset in (base.id, made[0]):
        assert patient not in table(http, dataset)["patient_id"].to_list()


def test_a_removal_that_was_interrupted_is_finished(
    http: TestClient,
    work: Callable[..., int],
    ingest: Callable[..., int],
    phantoms: Callable[..., DatasetView],
    adapters: Adapters,
) -> None:
    base = phantoms()
    a_view(http, base.id)
    ingest()
    rows = table(http, base.id)
    patient = rows["patient_id"][0]
    where = withdraw(http, patients=[patient])
    crashed: list[Lease] = []

    def crashing(lease: Lease) -> None:
        if lease.payload["step"] == "remove" and not crashed:
            crashed.append(lease)
            lease.finishing = _crash  # pyright: ignore[reportAttributeAccessIssue]
        handlers(adapters)["withdraw"](lease)

    work("datasets", "cpu", {"withdraw": crashing})
    assert crashed
    with adapters.db.transaction() as tx:
        tx.session.connection().exec_driver_sql(
            "UPDATE jobs.slices SET not_before = now() WHERE state = 'queued'"
        )
    ingest()
    assert http.get(where).json()["job"]["state"] == "succeeded"
    gone = rows.filter(pl.col("patient_id") == patient)
    assert not any(adapters.store.exists(key) for key in gone["image_key"])


def _crash(more: object = ()) -> None:
    raise RuntimeError(more)


def test_a_cursor_from_before_a_withdrawal_says_to_begin_again(
    http: TestClient, ingest: Callable[..., int], phantoms: Callable[..., DatasetView]
) -> None:
    base = phantoms()
    part = http.get(f"/datasets/{base.id}/samples", params={"limit": 5}).json()
    withdraw(http, samples=[part["items"][0]["sample_id"]])
    ingest()
    query = {"limit": 5, "cursor": part["next"]}
    answer = http.get(f"/datasets/{base.id}/samples", params=query)
    assert (answer.status_code, answer.json()["type"].split(":")[-1]) == (422, "bad-cursor")


def test_a_withdrawal_reaches_no_other_project_and_names_nobody(
    http: TestClient,
    strange_http: TestClient,
    ingest: Callable[..., int],
    phantoms: Callable[..., DatasetView],
) -> None:
    base = phantoms()
    patient = table(http, base.id)["patient_id"][0]
    where = withdraw(strange_http, patients=[patient])
    ingest()
    assert strange_http.get(where).json()["datasets"] == []
    assert http.get(where).status_code == 404
    assert http.get(f"/withdrawals/{uuid4()}").json() == http.get(where).json()
    assert patient in table(http, base.id)["patient_id"].to_list()
    assert http.get("/withdrawals").json()["items"] == []
    listed = strange_http.get("/withdrawals")
    assert patient not in listed.text
    assert len(listed.json()["items"]) == 1
    empty = http.post("/withdrawals", json={"note": "nobody"})
    assert empty.status_code == 422
    assert "patients" in empty.json()["detail"]


def test_pairs_of_duplicates_forget_a_withdrawn_sample(
    http: TestClient, ingest: Callable[..., int], import_root: Path
) -> None:
    folder = import_root / f"twins-{uuid4().hex[:8]}"
    folder.mkdir()
    samples = population(PhantomSite.A, 3, seed=1)[:3]
    for n, pixels in enumerate(draw(samples, 64)):
        Image.fromarray(pixels).save(folder / f"{n}.png")
    (folder / "3.png").write_bytes((folder / "0.png").read_bytes())
    rows = "".join(f"{n}.png,p{n}\n" for n in range(4))
    (folder / "table.csv").write_text("Path,PID\n" + rows)
    body = {"format": "chexpert_csv", "name": "twins", "site": "here", "size_px": 64}
    made = http.post("/datasets", json=body | {"path": f"{folder.name}/table.csv"}).json()["id"]
    ingest()
    pairs = http.get(f"/datasets/{made}/duplicates").json()["items"]
    twin = next(pair for pair in pairs if pair["identical"])
    withdraw(http, samples=[twin["other_sample_id"]])
    ingest()
    left = http.get(f"/datasets/{made}/duplicates")
    assert twin["other_sample_id"] not in left.text


def test_a_withdrawal_waits_for_a_store_that_is_ours_and_ends_by_compacting_it(
    http: TestClient,
    phantoms: Callable[..., DatasetView],
    adapters: Adapters,
    work: Callable[..., int],
    tmp_path: Path,
) -> None:
    """Rows 58 and 60; that compacting frees the bytes is shown where the store's files are."""
    base = phantoms()
    rows = table(http, base.id)
    patient = rows["patient_id"][0]
    keys = rows.filter(pl.col("patient_id") == patient)["image_key"].to_list()
    pairing = Pairing(adapters.db, adapters.store)
    compacted = tmp_path / "compacted"
    note = f"open({str(compacted)!r}, 'a').write('x')"
    erasure = Erasure(adapters.store, pairing, shlex.join((sys.executable, "-c", note)))
    manifests = Manifests(adapters.store, tmp_path)
    withdrawing = {WITHDRAW: Withdraw(adapters.db, adapters.store, manifests, erasure)}

    where = withdraw(http, patients=[patient])
    ours = adapters.store.get(NAMEPLATE)
    adapters.store.put(NAMEPLATE, Nameplate(uuid4(), 0).encode())
    work("datasets", "cpu", withdrawing, 1)
    assert http.get(where).json()["job"]["state"] == "running"
    assert all(adapters.store.exists(key) for key in keys)
    refused = http.post("/withdrawals", json={"patients": [patient]})
    assert (refused.status_code, refused.json()["type"]) == (
        503,
        "urn:synthorax:problem:store-mismatch",
    )

    adapters.store.put(NAMEPLATE, ours)
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE jobs.slices SET not_before = now() WHERE state = 'queued'"))
    work("datasets", "cpu", withdrawing)
    assert http.get(where).json()["job"]["state"] == "succeeded"
    assert not any(adapters.store.exists(key) for key in keys)
    assert compacted.read_text() == "x"
