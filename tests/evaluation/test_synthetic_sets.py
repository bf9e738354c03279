"""Synthetic images that were imported as a dataset: no number of theirs passes for patients'."""

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import polars as pl
import pytest
from PIL import Image, PngImagePlugin

from services.datasets.main import compose as compose_datasets
from tests.evaluation.test_exports import fetch, order

GENERATOR = str(UUID(int=5))
CHUNK = f'{{"synthetic": true, "generator": "{GENERATOR}", "terms": "Theirs."}}'
COUNT = 60


@pytest.fixture
def bring(registry, import_root: Path) -> Callable[..., UUID]:
    """A dataset of PNGs, of which so many say that they are synthetic: `bring(synthetic=60)`."""

    def make(synthetic: int, site: str = "there") -> UUID:
        folder = import_root / uuid4().hex[:8]
        folder.mkdir()
        rng = np.random.default_rng(synthetic)
        lines = ["Path,PID,Edema,Split"]
        for n in range(COUNT):
            info = PngImagePlugin.PngInfo()
            if n < synthetic:
                info.add_itxt("synthorax", CHUNK)
            pixels = rng.integers(0, 256, (64, 64), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{n}.png", pnginfo=info)
            lines.append(f"{n}.png,p{n},{n % 2},{'test' if n % 3 else 'train'}")
        (folder / "t.csv").write_text("\n".join(lines))
        body = {"format": "chexpert_csv", "name": "theirs", "site": site, "size_px": 64}
        made = registry.post("/datasets", json=body | {"path": f"{folder.name}/t.csv"}).json()
        registry.work()
        return UUID(made["id"])

    return make


@pytest.mark.parametrize(("synthetic", "flagged"), [(COUNT, True), (1, True), (0, False)])
def test_an_evaluation_of_synthetic_images_says_so_in_every_line(
    desk, look, bring, adapters, ada, synthetic: int, flagged: bool
) -> None:
    made = bring(synthetic)
    table = pl.from_arrow(compose_datasets(adapters).provider.dataset_manifest(ada.caller, made))
    frame = pl.DataFrame({"sample_id": table["sample_id"], "score_Edema": np.arange(COUNT) / COUNT})
    form = {"name": "ours", "data": f"dataset/{made}"}
    files = {"file": ("scores.csv", frame.write_csv().encode())}
    answer = desk.post("/evaluations", data=form, files=files)
    assert answer.status_code == 202, answer.text
    look()
    result = desk.get(f"/evaluations/{answer.json()['id']}").json()["result"]
    kinds = {COUNT: "synthetic", 1: "mixed", 0: "real"}
    assert result["data"]["kind"] == kinds[synthetic]
    assert all(("synthetic" in row["flags"]) is flagged for row in result["rows"])


def test_a_comparison_says_what_its_sets_are(desk, bring) -> None:
    first, second = bring(0, "a"), bring(COUNT, "b")
    query = {"first": f"dataset/{first}", "second": f"dataset/{second}"}
    told = desk.get("/shifts", params=query)
    assert told.status_code == 200, told.text
    assert (told.json()["first"]["kind"], told.json()["second"]["kind"]) == ("real", "synthetic")


@pytest.mark.parametrize("synthetic", [COUNT, 1])
def test_a_cohort_is_not_measured_beside_synthetic_images(
    desk, bring, shelf, ada, synthetic: int
) -> None:
    cohort = shelf.add_cohort(ada.caller, [None] * COUNT)
    body = {
        "cohort": {"generation": str(cohort)},
        "reference": {"data": {"dataset": str(bring(synthetic))}},
    }
    answer = desk.post("/qualities", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "reference")
    assert answer.json()["type"].endswith("reference-not-real")


def test_an_export_says_which_images_are_synthetic(desk, look, bring) -> None:
    def table(files: dict[str, bytes]) -> list[dict[str, Any]]:
        with zipfile.ZipFile(io.BytesIO(files["export.zip"])) as archive:
            terms.append(archive.read("TERMS.txt").decode())
            return list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode())))

    terms: list[str] = []
    mixed = bring(2)
    rows = table(fetch(desk, look, order(desk, mixed, "png_csv")))
    assert [row["Synthetic"] for row in rows].count("1") == 2
    assert {row["Phantom"] for row in rows} == {"0"}
    assert "Real and synthetic images" in terms[0]
    refused = desk.post(
        "/exports", json={"set": {"data": {"dataset": str(mixed)}}, "format": "seeded_csv"}
    )
    assert (refused.status_code, refused.json()["field"]) == (422, "format")


def test_the_papers_files_keep_real_and_synthetic_images_apart(bring, registry) -> None:
    mixed = bring(30)
    real = registry.get(f"/datasets/{mixed}/paper/sample_train_data.csv").text
    synthetic = registry.get(f"/datasets/{mixed}/paper/sample_seeded_data.csv").text
    assert (len(real.splitlines()), len(synthetic.splitlines())) == (1 + 10, 1 + 10)
    lists = [
        registry.get(f"/datasets/{mixed}/paper/{n}").text for n in ("cxp_tr.csv", "cxp_ts.csv")
    ]
    assert sum(len(text.splitlines()) - 1 for text in lists) == 30
    none = registry.get(f"/datasets/{bring(0)}/paper/sample_seeded_data.csv")
    assert (none.status_code, none.json()["field"]) == (422, "name")
    asked = registry.get(f"/datasets/{mixed}/paper/cxp_tr.csv", params={"blank": "0"})
    assert (asked.status_code, asked.json()["field"]) == (422, "blank")
    blank = registry.get(
        f"/datasets/{mixed}/paper/sample_train_data.csv", params={"blank": "empty"}
    ).text
    first, other = (next(csv.DictReader(io.StringIO(text))) for text in (real, blank))
    assert (first["Fracture"], other["Fracture"]) == ("0", "")
