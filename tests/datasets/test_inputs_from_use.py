"""Published tables with odd values, imported as a colleague would."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.datasets.main import compose
from services.datasets.worker import handlers
from services.kit.adapters import Adapters

FIELD = Path(__file__).parents[3] / "shared" / "field"
MIMIC = "06_mimic_tables/mimic"


@pytest.mark.skipif(not FIELD.exists(), reason="no inputs from use (../shared/field)")
@pytest.mark.parametrize(
    ("request_", "images", "summary", "note"),
    [
        (
            {"format": "padchest", "path": "04_padchest_terms/table.csv"},
            12,
            {"labels": {"Support Devices": 3, "Pleural Effusion": 3, "Lung Opacity": 3}},
            None,
        ),
        (
            {"format": "padchest", "path": "10_padchest_birth/table.csv"},
            5,
            {"age_decades": {"60": 2, "80": 1, "unknown": 2}},
            "values of the age at the study that were left blank",
        ),
        (
            {"format": "nih", "path": "07_nih_lists/nih_only_train"},
            12,
            {"labels": {"Pleural Effusion": 6}},
            "test_list.txt is missing",
        ),
        (
            {"format": "nih", "path": "12_one_word_loses_image/nih_ages"},
            15,
            {"labels": {"No Finding": 15}},
            "values of Patient Age that were left blank",
        ),
        (
            {"format": "vindr", "path": "09_vindr_two_words/1.0.0"},
            10,
            {"labels": {"Lung Opacity": 2, "Fracture": 1, "Lung Lesion": 1}},
            "readings by somebody who had read the image before",
        ),
        (
            {
                "format": "mimic_cxr_jpg",
                "path": MIMIC,
                "patients": f"{MIMIC}/patients_float.csv.gz",
                "admissions": f"{MIMIC}/RACE_upper.csv.gz",
            },
            28,
            {"age_decades": {"20": 10, "30": 10, "40": 8}},
            "words for race that are not known",
        ),
    ],
    ids=["terms", "births", "lists", "ages", "readers", "tables"],
)
def test_odd_values_are_read_or_told(
    adapters: Adapters,
    browse: Callable[..., TestClient],
    work: Callable[..., int],
    ada: Any,
    request_: dict[str, str],
    images: int,
    summary: dict[str, dict[str, int]],
    note: str | None,
) -> None:
    settings = adapters.settings.model_copy(update={"import_roots": str(FIELD)})
    there = replace(adapters, settings=settings)
    http = browse(compose(there).router, member=ada)
    fields = {"name": "from use", "images": False}
    made = http.post("/datasets", json=fields | request_).json()["id"]
    work("datasets", "cpu", handlers(there))
    dataset = http.get(f"/datasets/{made}").json()
    assert dataset["rejected"] == 0
    assert note is None or any(told.startswith(note) for told in dataset["notes"])
    found = http.get(f"/datasets/{made}/summary").json()
    assert found["images"] == images
    for finding, count in summary.get("labels", {}).items():
        assert found["labels"][finding]["present"] == count
    for decade, count in summary.get("age_decades", {}).items():
        assert found["age_decades"][decade] == count
