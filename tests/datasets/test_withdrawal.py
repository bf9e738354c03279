"""A withdrawn patient leaves every manifest and the store, and no import brings them back."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import polars as pl
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import text

from api_schemas.accounts import InstallationRole, KeyRequest, Scope
from api_schemas.datasets import DatasetView
from api_schemas.imports import PhantomSite
from api_schemas.manifest import MANIFEST, from_parquet
from services.datasets.importers.phantom import draw, population
from services.datasets.main import compose
from services.datasets.service import WITHDRAW, Manifests, Withdraw
from services.datasets.worker import handlers
from services.kit.adapters import Adapters
from services.kit.erasure import Erasure
from services.kit.jobs import Lease
from services.kit.jobs.pairing import NAMEPLATE, Nameplate, Pairing
from tests.conftest import Member

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
    assert (told["job"]["done"], told["job"]["total"], told["job"]["message"]) == (2, 2, "")
    assert (told["patients"], told["samples"]) == (1, 0)
    assert (told["found"], told["elsewhere"]) == (1, 0)
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
    told = strange_http.get(where).json()
    assert (told["datasets"], told["found"], told["elsewhere"]) == ([], 0, 1)
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
    seen = http.get(where).json()["job"]
    assert seen["state"] == "queued"
    assert "do not belong together" in seen["message"]
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


WORDS = (
    *("patient00042", "Mustermann Erika 1950", "", " ", "a:b", "4711", "*", "%", "synthetic/1/2"),
    *("chexpert:patient00042", "chexpert", "chexpert:", f":{0:032x}", f"chexpert:{0:031x}"),
    *(f"chexpert:{0:033x}", f"chexpert:{0:032x} ", f"chexpert:{0:032x}\n", f" chexpert:{0:032x}"),
    *(f"chexpert:{10**38:032X}", f"chexpert-{0:032x}", f"Mustermann Erika:{0:032x}"),
    *(f"{'a' * 41}:{0:032x}", f"-x:{0:032x}", f"chexpert:{0:032x}\x00", "x" * 120),
)


@pytest.mark.parametrize("word", WORDS)
def test_what_is_no_pseudonym_is_neither_stored_nor_repeated(
    http: TestClient, adapters: Adapters, word: str
) -> None:
    for body in (
        {"patients": [f"chexpert:{1:032x}", word]},
        {"samples": [f"chexpert-{1:032x}", word.replace("-0", ":0")]},
    ):
        (field,) = body
        answer = http.post("/withdrawals", json=body, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 422
        problem = answer.json()
        assert problem["field"] == f"{field}.1"
        if len(word) > 8:
            assert word not in answer.text
    with adapters.db.transaction() as tx:
        kept = "SELECT 1 FROM datasets.withdrawals UNION SELECT 1 FROM jobs.idempotency_keys"
        assert tx.session.execute(text(kept)).all() == []


def test_who_is_named_and_not_there_is_said(
    http: TestClient,
    strange_http: TestClient,
    ingest: Callable[..., int],
    phantoms: Callable[..., DatasetView],
) -> None:
    rows = table(http, phantoms().id)
    phantoms()  # the same once more: nobody is counted twice
    here = rows["patient_id"].unique(maintain_order=True)[:2].to_list()
    nobody = [f"phantom-a:{n:032x}" for n in range(3)]
    made = http.post("/withdrawals", json={"patients": nobody, "samples": [f"a-{0:032x}"]}).json()
    assert (made["patients"], made["samples"], made["found"], made["elsewhere"]) == (3, 1, 0, 0)
    body = {"patients": [*here, *nobody], "samples": rows["sample_id"][-2:].to_list()}
    assert strange_http.post("/withdrawals", json=body).json()["elsewhere"] == 2
    where = withdraw(http, **body)
    ingest()
    assert http.get(where).json()["found"] == 4
    again = http.get(withdraw(http, **body)).json()
    assert again["found"] == 0  # they have gone


@pytest.fixture
def administrator(adapters: Adapters, browse: Callable[..., TestClient], accounts: Any) -> Any:
    request = KeyRequest(name="test", scopes=list(Scope))
    key = accounts.mint("root", "office", request, InstallationRole.ADMIN).key
    member = Member(key, adapters.auth.caller(f"Bearer {key}"))
    return browse(compose(adapters).router, member=member)


def test_an_administrator_withdraws_from_all_projects(
    http: TestClient,
    strange_http: TestClient,
    administrator: TestClient,
    ingest: Callable[..., int],
    phantoms: Callable[..., DatasetView],
    adapters: Adapters,
) -> None:
    base = phantoms()
    view = a_view(http, base.id)
    other = UUID(strange_http.post("/datasets", json=PHANTOM).json()["id"])
    ingest()
    rows = table(http, base.id)
    patient = rows["patient_id"][0]
    gone = [
        *rows.filter(pl.col("patient_id") == patient)["image_key"],
        *table(strange_http, other).filter(pl.col("patient_id") == patient)["image_key"],
    ]

    here = http.get(withdraw(http, patients=[f"phantom-a:{0:032x}"])).json()
    assert (here["everywhere"], here["found"]) == (False, 0)
    where = withdraw(administrator, patients=[patient], everywhere=True)
    ingest()
    told = administrator.get(where).json()
    assert told["job"]["state"] == "succeeded"
    assert (told["everywhere"], told["found"], told["elsewhere"]) == (True, 1, 2)
    assert told["datasets"] == []  # those of other projects are not the administrator's to see
    for client, dataset in ((http, base.id), (http, view), (strange_http, other)):
        left = table(client, dataset)
        assert left.height == rows.filter(pl.col("patient_id") != patient).height
        assert patient not in left["patient_id"].to_list()
    assert not any(adapters.store.exists(key) for key in gone)
    again = strange_http.post("/datasets", json=PHANTOM).json()["id"]
    ingest()
    assert patient not in table(strange_http, UUID(again))["patient_id"].to_list()
    for client in (http, strange_http):
        assert client.get(where).status_code == 404
        assert patient not in client.get("/withdrawals").text


def test_nobody_else_withdraws_from_all_projects(
    http: TestClient, strange_http: TestClient, phantoms: Callable[..., DatasetView]
) -> None:
    patient = table(http, phantoms().id)["patient_id"][0]
    for client in (http, strange_http):
        answer = client.post("/withdrawals", json={"patients": [patient], "everywhere": True})
        assert (answer.status_code, answer.json()["field"]) == (403, "everywhere")
        assert client.get("/withdrawals").json()["items"] == []


def test_more_names_than_a_statement_has_parameters(
    http: TestClient, ingest: Callable[..., int], phantoms: Callable[..., DatasetView]
) -> None:
    for part in range(7):
        first = part * 10_000
        patients = [f"phantom-a:{n:032x}" for n in range(first, first + 10_000)]
        withdraw(http, patients=patients)
    ingest()
    assert phantoms().job.state == "succeeded"
