"""An export that is imported again: its patients are who they are, and nobody who was withdrawn
comes back by it, whatever their images are called.
"""

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import polars as pl
import pytest
from PIL import Image

from services.datasets.main import compose as compose_datasets
from services.datasets.worker import handlers as dataset_handlers
from tests.evaluation.test_exports import fetch, order

IMPORT = {"format": "chexpert_csv", "name": "again", "site": "phantom-a", "size_px": 64}


@pytest.fixture
def rows(adapters, ada) -> Callable[..., pl.DataFrame]:
    provider = compose_datasets(adapters).provider

    def read(dataset: UUID | str, member: Any = ada) -> pl.DataFrame:
        table = provider.dataset_manifest(member.caller, UUID(str(dataset)))
        return pl.DataFrame(pl.from_arrow(table))

    return read


@pytest.fixture
def archive(desk, look, hospital, import_root: Path) -> tuple[UUID, Path]:
    """A dataset, and the folder in which its export was unpacked."""
    made = hospital(patients=15)
    folder = import_root / f"again-{uuid4().hex[:8]}"
    content = fetch(desk, look, order(desk, made, "png_csv"))["export.zip"]
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        packed.extractall(folder)
    return made, folder


def again(registry, folder: Path, table: str = "labels.csv", **more: Any) -> str:
    body = IMPORT | {"path": f"{folder.name}/{table}"} | more
    answer = registry.post("/datasets", json=body)
    assert answer.status_code == 202, answer.text
    registry.work()
    return answer.json()["id"]


def withdraw(registry, **whom: Any) -> dict[str, Any]:
    where = registry.post("/withdrawals", json=whom).headers["Location"]
    registry.work()
    return registry.get(where).json()


@pytest.mark.parametrize("site", ["phantom-a", "elsewhere"])
def test_the_patients_of_an_export_are_themselves(registry, archive, rows, site: str) -> None:
    made, folder = archive
    back = rows(again(registry, folder, site=site))
    for column in ("patient_id", "split", "pixel_sha256"):
        assert back[column].equals(rows(made)[column]), column


def test_they_are_so_in_another_project_too(
    registry, archive, rows, adapters, browse, stranger, work
) -> None:
    made, folder = archive
    other = browse(compose_datasets(adapters).router, member=stranger)
    body = IMPORT | {"path": f"{folder.name}/labels.csv"}
    copied = other.post("/datasets", json=body).json()["id"]
    work("datasets", "cpu", dataset_handlers(adapters))
    assert rows(copied, stranger)["patient_id"].equals(rows(made)["patient_id"])
    told = withdraw(registry, patients=[rows(made)["patient_id"][0]])
    assert (told["found"], told["elsewhere"]) == (1, 1)


def test_an_id_that_only_looks_like_a_pseudonym_is_replaced(registry, archive, rows) -> None:
    """Such as the digest of a name, or a pseudonym of another installation."""
    made, folder = archive
    patient = rows(made)["patient_id"][0]
    strange = f"phantom-a:{7:032x}"
    words = (folder / "labels.csv").read_text().replace(patient, strange)
    (folder / "strange.csv").write_text(words)
    back = rows(again(registry, folder, "strange.csv"))["patient_id"]
    assert strange not in back.to_list()
    assert back.n_unique() == rows(made)["patient_id"].n_unique()


def test_a_withdrawn_patient_does_not_come_back_by_an_export(registry, archive, rows) -> None:
    made, folder = archive
    before = rows(made)
    patient = before["patient_id"][0]
    withdraw(registry, patients=[patient])
    stay = before.filter(pl.col("patient_id") != patient)

    renamed = folder / "renamed"
    (renamed / "x").mkdir(parents=True)
    words = (folder / "labels.csv").read_text()
    for number, sample in enumerate(before["sample_id"]):
        (renamed / "x" / f"{number}.png").write_bytes(
            (folder / "images" / f"{sample}.png").read_bytes()
        )
        words = words.replace(f"images/{sample}.png", f"x/{number}.png")
    numbers = {name: f"p{n}" for n, name in enumerate(before["patient_id"].unique())}
    words = re.sub(r"phantom-a:[0-9a-f]{32}", lambda found: numbers[found[0]], words)
    (renamed / "labels.csv").write_text(words)

    for dataset in (
        again(registry, folder),
        again(registry, folder, site="elsewhere"),
        again(registry, folder, size_px=32),
        again(registry, folder, "renamed/labels.csv"),
        again(registry, folder, "renamed/labels.csv", site="elsewhere"),
    ):
        back = rows(dataset)
        assert back.height == stay.height
        reasons = registry.get(f"/datasets/{dataset}/rejections").json()["items"]
        assert [each["code"] for each in reasons] == ["withdrawn"] * (before.height - stay.height)
    assert rows(again(registry, folder))["pixel_sha256"].equals(stay["pixel_sha256"])


def test_a_copy_that_was_there_before_goes_with_the_patient(registry, archive, rows) -> None:
    """Imported as another patient of another hospital: the pixels are the same."""
    made, folder = archive
    patient = rows(made)["patient_id"][0]
    words = (folder / "labels.csv").read_text().replace(patient, "somebody")
    (folder / "somebody.csv").write_text(words)
    copied = again(registry, folder, "somebody.csv", site="elsewhere")
    images = rows(made).filter(pl.col("patient_id") == patient).height
    told = withdraw(registry, patients=[patient])
    assert {(each["dataset"], each["images"]) for each in told["datasets"]} == {
        (str(made), images),
        (copied, images),
    }
    assert rows(copied)["pixel_sha256"].equals(rows(made)["pixel_sha256"])


def test_a_withdrawn_image_comes_back_in_no_size(registry, archive, rows) -> None:
    made, folder = archive
    before = rows(made)
    sample, height = before["sample_id"][3], before.height
    withdraw(registry, samples=[sample])
    for more in ({}, {"size_px": 32}, {"site": "elsewhere"}):
        assert rows(again(registry, folder, **more)).height == height - 1


def test_of_two_equal_images_the_one_that_was_kept_can_be_imported_again(
    registry, archive, rows
) -> None:
    """Who takes out one of a pair of duplicates has not taken back the picture."""
    _, folder = archive
    pixels = Image.effect_noise((64, 64), 80)
    for name in ("one", "two"):
        pixels.save(folder / f"{name}.png")
    (folder / "pair.csv").write_text("Path,PID\none.png,p1\ntwo.png,p2\n")
    pair = again(registry, folder, "pair.csv", site="pair")
    withdraw(registry, samples=[rows(pair)["sample_id"][1]])
    assert rows(pair).height == 1
    assert rows(again(registry, folder, "pair.csv", site="pair")).height == 1
    withdraw(registry, samples=[rows(pair)["sample_id"][0]])
    (folder / "other.csv").write_text("Path,PID\none.png,p3\n")
    refused = again(registry, folder, "other.csv", site="other")
    assert registry.get(f"/datasets/{refused}").json()["job"]["state"] == "failed"
