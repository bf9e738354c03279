"""What leaves the suite: tables, archives, a description, each read by somebody else's reader."""

import csv
import io
import json
import tarfile
import zipfile
from datetime import UTC, datetime

import pytest

from api_schemas.datasets import DatasetKind
from api_schemas.findings import FINDINGS
from api_schemas.paper import LABELS
from api_schemas.terms import Licence
from services.evaluation.reports.export.archives import tarred, zipped
from services.evaluation.reports.export.croissant import About, croissant
from services.evaluation.reports.export.tables import chexpert_csv, image_path
from tests.datasets.tables import manifest
from tests.evaluation.opened import content_of

ROWS = [
    {
        "sample_id": "s-1",
        "patient_id": "=cmd|' /C calc'!A0",
        "sex": "Female",
        "age": 61,
        "race": "White",
        "ethnicity": "Hispanic or Latino",
        "view": "AP",
        "split": "test",
        "fold": 3,
        "Edema": 1,
        "Fracture": -1,
        "No Finding": 0,
    },
    {"sample_id": "s-2", "patient_id": "+1", "site": "@here"},
    {"sample_id": "s-3", "patient_id": 'quote " and, comma\nand line', "view": "LATERAL"},
]


def read(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_chexperts_columns_come_first_and_in_its_order() -> None:
    first, second, third = read(chexpert_csv(manifest(ROWS)))
    findings = list(LABELS)
    assert sorted(findings) == sorted(map(str, FINDINGS))
    assert list(first) == [
        *("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"),
        *findings,
        *("PID", "Race", "Ethnicity", "Split", "Fold", "Synthetic", "Phantom"),
    ]
    assert (first["Path"], first["Sex"], first["Age"]) == ("images/s-1.png", "Female", "61")
    assert (first["Edema"], first["Fracture"], first["No Finding"]) == ("1.0", "-1.0", "0.0")
    assert (first["Split"], first["Fold"], second["Fold"], second["Sex"]) == ("test", "3", "", "")
    assert second["Edema"] == ""
    assert (first["Ethnicity"], second["Ethnicity"]) == ("Hispanic or Latino", "")
    assert (first["Frontal/Lateral"], first["AP/PA"]) == ("Frontal", "AP")
    assert (third["Frontal/Lateral"], third["AP/PA"]) == ("Lateral", "")
    assert third["PID"] == 'quote " and, comma\nand line'


def test_a_cell_that_a_spreadsheet_would_compute_is_a_text() -> None:
    first, second, _ = read(chexpert_csv(manifest(ROWS)))
    assert first["PID"].startswith("'=cmd")
    assert second["PID"] == "'+1"
    assert first["Fracture"] == "-1.0"  # a number stays one


def test_a_zip_streams_and_every_reader_opens_it() -> None:
    members = [(f"images/{n}.png", bytes([n]) * n) for n in range(50)]
    parts = list(zipped(members))
    assert len(parts) == len(members) + 1
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        assert archive.testzip() is None
        assert [(n, archive.read(n)) for n in archive.namelist()] == members
    assert b"".join(zipped(members)) == b"".join(parts)


def test_a_tar_streams_and_every_reader_opens_it() -> None:
    members = [(f"{n:08d}.png", bytes([n]) * 700 * n) for n in range(20)]
    content = b"".join(tarred(members))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        read_back = [(m.name, content_of(archive, m)) for m in archive]
    assert read_back == members
    assert b"".join(tarred(members)) == content


def test_nothing_is_read_ahead_of_the_reader() -> None:
    taken: list[int] = []

    def members():
        for n in range(5):
            taken.append(n)
            yield f"{n}", b"x"

    stream = zipped(members())
    next(stream)
    assert taken == [0]


@pytest.fixture
def about() -> About:
    return About(
        name="Phantoms, site A",
        manifest="a" * 64,
        images=3,
        patients=3,
        kind=DatasetKind.REAL,
        licence=Licence(name="Agreement", url="https://example.org/terms"),
        terms="",
        created_at=datetime(2026, 11, 24, tzinfo=UTC),
    )


@pytest.mark.filterwarnings("ignore")
def test_the_description_is_croissant_that_its_own_library_reads(about: About, tmp_path) -> None:
    from mlcroissant import Dataset  # noqa: PLC0415 - slow to import, and it warns

    rows = manifest([{"patient_id": f"p{n}", "age": 40 + n, "Edema": n % 2} for n in range(3)])
    table = chexpert_csv(rows)
    (tmp_path / "labels.csv").write_bytes(table)
    (tmp_path / "images").mkdir()
    for sample in rows["sample_id"]:
        (tmp_path / image_path(sample)).write_bytes(b"a picture")
    (tmp_path / "croissant.json").write_bytes(croissant(about, table))
    dataset = Dataset(str(tmp_path / "croissant.json"))
    assert not dataset.metadata.issues.errors
    assert dataset.metadata.name == "Phantoms, site A"
    records = list(dataset.records("samples"))
    assert [r["samples/Age"] for r in records] == [40, 41, 42]
    assert [r["samples/Edema"] for r in records] == [0.0, 1.0, 0.0]
    assert records[0]["samples/Path"] == b"images/s0.png"


def test_the_description_says_what_may_be_done(about: About) -> None:
    told = json.loads(croissant(about, b"table"))
    assert told["license"] == "https://example.org/terms"
    assert "pseudonyms" in told["description"]
    columns = read(chexpert_csv(manifest(ROWS)))[0]
    assert {f["name"] for f in told["recordSet"][0]["field"]} == set(columns)
