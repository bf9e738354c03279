"""Patients with names that are easily found go through every process of an installation; then
everything that was written is searched for them, for the key, and for the secrets.
"""

import csv
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import psycopg
import pyarrow.parquet as pq
import pytest
from PIL import Image
from psycopg.sql import SQL, Identifier

from api_schemas.findings import FINDINGS
from migrations.sections import sections
from services.kit.objects import ObjectStore
from services.local.launcher import Access, Launcher
from services.local.seaweed import BUCKET
from tests.kit.test_worker import until

PATIENT, PERSON = "QZPATIENT", "QZMILLER"
"""In every id and path of a patient, and in every name of one."""
PATIENTS = 48
DAMAGED = 3


@dataclass(frozen=True)
class Lab:
    launcher: Launcher
    access: Access
    http: httpx2.Client

    def post(self, path: str, **request: Any) -> dict[str, Any]:
        answer = self.http.post(path, **request)
        assert answer.status_code in {201, 202}, (path, answer.text)
        return answer.json()

    def done(self, path: str) -> dict[str, Any]:
        """What is there, once its job has ended."""
        until(lambda: self.http.get(path).json()["job"]["finished_at"] is not None, limit_s=300)
        return self.http.get(path).json()


def hospital(root: Path) -> None:
    """A table and pictures, as a hospital would name them; some cannot be used."""
    rng = np.random.default_rng(1)
    lines: list[dict[str, object]] = []
    for n in range(PATIENTS):
        place = f"{PATIENT}{n:04d}/{PERSON}-{n}.png"
        picture = root / place
        picture.parent.mkdir()
        Image.fromarray(rng.integers(0, 255, (40, 40), np.uint8)).save(picture)
        labels = {str(finding): int(rng.integers(2)) for finding in FINDINGS[1:6]}
        split = ("train", "train", "validation", "test")[n % 4]
        who = {"PID": f"{PATIENT}{n:04d}", "Sex": "FM"[n % 2], "Age": 40, "AP/PA": "PA"}
        name = f"{PERSON}, Mary {n}"
        lines.append({"Path": place, **who, "Split": split, "Name": name, **labels})
    for n in range(DAMAGED):
        (root / str(lines[n]["Path"])).write_bytes(f"no picture of {PERSON}".encode())
    lines[DAMAGED]["Path"] = f"{PATIENT}9999/gone.png"
    lines[DAMAGED + 1]["Age"] = "many"
    with (root / "table.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, lines[0])
        table.writeheader()
        table.writerows(lines)


def archive() -> bytes:
    """One that cannot be used: it names a file twice."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as file:
        for _ in range(2):
            member = tarfile.TarInfo(f"{PATIENT}0001/{PERSON}.png")
            file.addfile(member)
    return sink.getvalue()


def predictions(*faulty: str) -> bytes:
    rows = [
        f"{PATIENT}-image-{n},{PATIENT}{n},{n % 2},{n / 50 + n % 2 / 4},{'ab'[n % 2]}"
        for n in range(40)
    ]
    head = "image_id,patient_id,truth_Edema,score_Edema,group_scanner"
    return "\n".join([head, *rows, *faulty]).encode()


def order_everything(lab: Lab) -> None:
    """What a lab does with its patients, and what can go wrong with them."""
    file = {"format": "chexpert_csv", "name": "ours", "site": "here", "size_px": 32}
    dataset = lab.post("/datasets", json=file | {"path": "table.csv"})["id"]
    made = lab.done(f"/datasets/{dataset}")
    assert made["job"]["state"] == "succeeded", made
    assert made["manifest"]["images"] == PATIENTS - DAMAGED - 1
    upload = lab.post("/uploads", content=archive())["id"]
    twice = lab.post("/datasets", json=file | {"path": "t.csv", "upload": upload})["id"]
    assert lab.done(f"/datasets/{twice}")["job"]["state"] == "failed"
    assert lab.http.delete(f"/uploads/{upload}").status_code == 204  # until then it is kept
    lost = lab.http.post("/datasets", json=file | {"path": f"{PATIENT}0001/{PERSON}.csv"})
    assert lost.status_code == 422
    generator = {"name": "g", "dataset": dataset, "preset": "tiny-32", "steps": 4}
    generator = lab.post("/generators", json=generator)["id"]
    order = {"generator": generator, "mirror": {"dataset": dataset}, "sampler": {"steps": 2}}
    cohort = lab.post("/generate", json=order)["id"]
    data = {"dataset": dataset}
    stages = [{"sources": [{"data": data}]}]
    study = {
        "name": "x",
        "arms": [{"name": name, "stages": stages} for name in ("a", "b")],
        "seeds": [0, 1],
        "classifier": {"epochs": 0.5},
        "validation": {"data": data, "split": "validation"},
        "tests": [{"name": "t", "data": data}],
        "plan": {"reference": "a", "primary": "b"},
    }
    experiment = lab.post("/experiments", json=study)["id"]
    sent = {"data": {"name": "theirs"}, "files": {"file": predictions()}}
    evaluation = lab.post("/evaluations", **sent)["id"]
    wrong = predictions(f"{PATIENT}-image-0,{PATIENT}99,1,0.5,a")
    refused = lab.http.post("/evaluations", data={"name": "e"}, files={"file": wrong})
    assert refused.status_code == 422
    assert PATIENT not in refused.text
    for path in (f"/generations/{cohort}", f"/experiments/{experiment}"):
        assert lab.done(path)["job"]["state"] == "succeeded"
    assert lab.done(f"/evaluations/{evaluation}")["job"]["state"] == "succeeded"
    until(lambda: lab.http.get(f"/reports/{experiment}").status_code == 200, limit_s=120)
    for lost in (f"/datasets/{dataset}/samples/{PATIENT}0001.png", f"/jobs/{PATIENT}"):
        assert lab.http.get(lost).status_code in {404, 422}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("hospital")
    hospital(root)
    launcher = Launcher(tmp_path_factory.mktemp("lab") / "state")
    access = launcher.up([root])
    headers = {"Authorization": f"Bearer {access.key}"}
    try:
        with httpx2.Client(base_url=access.url, headers=headers, timeout=120) as http:
            made = Lab(launcher, access, http)
            order_everything(made)
            yield made
    finally:
        launcher.down()


def files(lab: Lab) -> Iterator[tuple[Path, bytes]]:
    """Every file of the installation but those of Postgres and the store, which are asked below:
    the logs of all processes, the records, what the broker was sent, the scratch disks.
    """
    state = lab.launcher.state
    for path in state.root.rglob("*"):
        inside = path.relative_to(state.root).parts[0]
        if path.is_file() and inside not in {"postgres", "seaweed"}:
            yield path, path.read_bytes()


def rows(lab: Lab) -> Iterator[tuple[str, str]]:
    """Every row of every table, as text."""
    with psycopg.connect(lab.launcher.servers.postgres.url()) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s)",
            [list(sections())],
        ).fetchall()
        assert len(tables) > 30
        for schema, table in tables:
            query = SQL("SELECT t::text FROM {} t").format(Identifier(schema, table))
            for (row,) in connection.execute(query):
                yield f"{schema}.{table}", row


def objects(lab: Lab) -> Iterator[tuple[str, bytes]]:
    """Every object of the store under its key; of tables what is in them."""
    ends = lab.launcher.servers.endpoints()
    store = ObjectStore(ends.s3_endpoint, ends.s3_access_key, ends.s3_secret_key, BUCKET)
    for key in store.keys(""):
        content = store.get(key)
        if key.endswith(".parquet"):
            content = str(pq.read_table(io.BytesIO(content)).to_pylist()).encode()
        yield key, content


@pytest.mark.timeout(900)
def test_no_patient_is_in_what_was_written(lab: Lab) -> None:
    """Neither an id, a name nor a path: only the pseudonyms of those that were imported."""
    names = [PATIENT.encode(), PERSON.encode()]
    found = [str(path) for path, content in files(lab) if any(n in content for n in names)]
    stored = list(objects(lab))
    for key, content in stored:
        found += [key for n in names if n in content or n in key.encode()]
    told = list(rows(lab))
    found += [f"{table}: {row}" for table, row in told if PATIENT in row or PERSON in row]
    assert not found, "\n".join(found)
    everything = b"".join(content for _, content in stored)
    assert b"here:" in everything  # the pseudonyms, so the search sees what it should
    assert len(stored) > PATIENTS
    logs = {path.name for path, _ in files(lab)}
    assert {"web.log", "cpu.log", "generation.log", "training.log", "evaluation.log"} <= logs


def test_no_answer_names_a_patient(lab: Lab) -> None:
    """Not even those of the owner, nor the reasons why a row could not be used."""
    (dataset, *_) = [d["id"] for d in lab.http.get("/datasets").json()["items"]][::-1]
    told = {p: lab.http.get(f"/datasets/{dataset}/{p}").text for p in ("rejections", "samples")}
    told |= {path: lab.http.get(path).text for path in ("/datasets", "/experiments", "/queue")}
    assert told["rejections"].count('"line"') == DAMAGED + 1  # and an age costs no row
    assert [path for path, text in told.items() if PATIENT in text or PERSON in text] == []


def test_no_secret_is_in_a_log_a_row_an_object_or_a_command_line(lab: Lab) -> None:
    """The key stands in the file of whoever may use it, and in no other; a secret in its own and
    in the settings of the server it belongs to.
    """
    state = lab.launcher.state
    secrets = {path.name: path.read_bytes() for path in state.secrets.iterdir()}
    assert len(secrets) > 8
    needles = {**secrets, "key": lab.access.key.encode(), "signed": b"X-Amz-Signature"}
    at_home = {state.root / name for name in ("client.env", "valkey.conf", "identities.json")}
    assert [path for path in at_home if path.stat().st_mode & 0o077] == []
    places = [(str(path), content) for path, content in files(lab) if path not in at_home]
    places = [(place, content) for place, content in places if "/secrets/" not in place]
    places += [(table, row.encode()) for table, row in rows(lab)]
    places += list(objects(lab))
    for row in lab.launcher.status():
        if row.pid is not None:
            process = psutil.Process(row.pid)
            for each in (process, *process.children(recursive=True)):
                places.append((each.name(), " ".join(each.cmdline()).encode()))
    found = [
        (name, place) for place, content in places for name, n in needles.items() if n in content
    ]
    assert found == []


def test_nobody_else_of_the_machine_can_look(lab: Lab) -> None:
    root = lab.launcher.state.root
    assert root.stat().st_mode & 0o077 == 0
    private = [*(root / "secrets").iterdir(), *(root / "logs").iterdir(), root / "client.env"]
    assert [path for path in private if path.stat().st_mode & 0o077] == []
