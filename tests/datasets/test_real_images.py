"""Real images, where they are: counted exactly as their own documentation counts them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api_schemas.findings import FINDINGS
from services.datasets.main import compose
from services.datasets.worker import handlers
from services.kit.adapters import Adapters

SHARED = Path(__file__).parents[3] / "shared" / "cxr"
COUNTS: dict[str, dict[str, Any]] = {
    "kermany": {
        "images": 1077, "patients": 813,
        "sex": {"unknown": 1077}, "view": {"AP": 1077}, "ages": 0,
        "labels": {"No Finding": (289, 788), "Pneumonia": (788, 289)},
    },
    "mini": {
        "images": 62, "patients": 57,
        "sex": {"Male": 30, "Female": 32}, "view": {"AP": 32, "PA": 30}, "ages": 62,
        "labels": {
            "No Finding": (24, 38), "Cardiomegaly": (5, 57), "Lung Opacity": (14, 24),
            "Lung Lesion": (3, 59), "Edema": (15, 47), "Consolidation": (2, 60),
            "Pneumonia": (38, 24), "Atelectasis": (11, 51), "Pneumothorax": (0, 62),
            "Pleural Effusion": (18, 44), "Pleural Other": (2, 24),
        },
    },
    "nih256": {
        "images": 670, "patients": 451,
        "sex": {"Male": 336, "Female": 334}, "view": {"AP": 404, "PA": 266}, "ages": 670,
        "labels": {
            "No Finding": (352, 318), "Cardiomegaly": (13, 657), "Lung Opacity": (109, 352),
            "Lung Lesion": (21, 649), "Edema": (71, 599), "Consolidation": (13, 657),
            "Pneumonia": (318, 352), "Atelectasis": (70, 600), "Pneumothorax": (6, 664),
            "Pleural Effusion": (61, 609), "Pleural Other": (16, 352),
        },
    },
    "nih64": {
        "images": 701, "patients": 182,
        "sex": {"Male": 369, "Female": 332}, "view": {"AP": 267, "PA": 434}, "ages": 701,
        "labels": {
            "No Finding": (361, 340), "Cardiomegaly": (61, 640), "Lung Opacity": (123, 361),
            "Lung Lesion": (46, 655), "Edema": (28, 673), "Consolidation": (21, 680),
            "Pneumonia": (4, 697), "Atelectasis": (65, 636), "Pneumothorax": (29, 672),
            "Pleural Effusion": (96, 605), "Pleural Other": (18, 361),
        },
    },
}  # fmt: skip
"""What the images' own documentation counts: present and absent, the rest blank."""


@pytest.mark.skipif(not SHARED.exists(), reason="no real images beside this tree (../shared/cxr)")
@pytest.mark.parametrize("name", COUNTS)
def test_real_images_are_counted_as_their_sources_count_them(
    adapters: Adapters,
    browse: Callable[..., TestClient],
    work: Callable[..., int],
    ada: Any,
    name: str,
) -> None:
    settings = adapters.settings.model_copy(update={"import_roots": str(SHARED)})
    there = replace(adapters, settings=settings)
    http = browse(compose(there).router, member=ada)
    fields = {"format": "chexpert_csv", "name": name, "path": f"{name}.csv", "site": name}
    made = http.post("/datasets", json=fields | {"size_px": 32}).json()["id"]
    work("datasets", "cpu", handlers(there))
    assert http.get(f"/datasets/{made}").json()["rejected"] == 0
    summary = http.get(f"/datasets/{made}/summary").json()
    counts = COUNTS[name]
    assert (summary["images"], summary["patients"]) == (counts["images"], counts["patients"])
    assert (summary["sex"], summary["view"]) == (counts["sex"], counts["view"])
    assert summary["images"] - summary["age_decades"].get("unknown", 0) == counts["ages"]
    for finding in FINDINGS:
        present, absent = counts["labels"].get(finding, (0, 0))
        assert summary["labels"][finding] == {
            "present": present,
            "absent": absent,
            "uncertain": 0,
            "blank": counts["images"] - present - absent,
        }
    twins = http.get(f"/datasets/{made}/duplicates", params={"limit": 1000}).json()["items"]
    assert not [twin for twin in twins if twin["identical"]]
