"""Looking at a dataset: lists by filter, its summary, its contact sheet."""

import io
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from api_schemas.datasets import DatasetView
from api_schemas.findings import FINDINGS
from api_schemas.manifest import MANIFEST, from_parquet
from services.datasets.main import compose
from services.datasets.models import Manifest
from services.datasets.reports.sheet import CELL_PX, GAP_PX, LINE_PX, LINES, sheet
from services.datasets.service import Manifests
from services.datasets.service.manifests import KEPT
from services.datasets.statistics.summary import summary
from services.kit.adapters import Adapters
from tests.datasets.tables import manifest


def table(http: TestClient, dataset: UUID) -> pl.DataFrame:
    content = http.get(f"/datasets/{dataset}/manifest").content
    return pl.DataFrame(pl.from_arrow(from_parquet(content, MANIFEST)))


def pages(http: TestClient, dataset: UUID, **query: Any) -> Iterator[dict[str, Any]]:
    cursor = None
    while True:
        asked = query | ({"cursor": cursor} if cursor else {})
        answer = http.get(f"/datasets/{dataset}/samples", params=asked)
        assert answer.status_code == 200, answer.text
        yield from answer.json()["items"]
        cursor = answer.json()["next"]
        if cursor is None:
            return


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_samples_are_filtered_and_paged_in_order(
    http: TestClient, phantoms: Callable[..., DatasetView], limit: int
) -> None:
    made = phantoms()
    query = {"sex": "Male", "age_from": 40, "split": ["train", "test"], "limit": limit}
    listed = [s["sample_id"] for s in pages(http, made.id, **query)]
    rows = table(http, made.id)
    old_men = rows.filter(
        (pl.col("sex") == "Male") & (pl.col("age") >= 40) & (pl.col("split") != "validation")
    )
    assert listed == old_men["sample_id"].to_list() != rows["sample_id"].to_list()
    assert listed


def test_a_finding_is_asked_for_as_it_is_spelt(
    http: TestClient, phantoms: Callable[..., DatasetView]
) -> None:
    made = phantoms()
    listed = list(pages(http, made.id, present=["Pleural Effusion"]))
    assert {s["labels"]["Pleural Effusion"] for s in listed} == {1}
    wrong = http.get(f"/datasets/{made.id}/samples", params={"present": "Effusion"})
    assert wrong.status_code == 422
    assert "Pleural Effusion" in wrong.json()["accepted"]
    assert http.get(f"/datasets/{made.id}/samples", params={"colour": "x"}).status_code == 422


def test_a_cursor_is_of_one_manifest(
    http: TestClient, phantoms: Callable[..., DatasetView]
) -> None:
    one, other = phantoms(seed=1), phantoms(seed=2)
    cursor = http.get(f"/datasets/{one.id}/samples", params={"limit": 2}).json()["next"]
    answer = http.get(f"/datasets/{other.id}/samples", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["type"].split(":")[-1]) == (422, "bad-cursor")
    assert http.get(f"/datasets/{one.id}/samples", params={"cursor": "x"}).status_code == 422


def test_a_summary_knows_pairs_and_what_is_missing() -> None:
    effusion, edema = "Pleural Effusion", "Edema"
    told = summary(
        manifest(
            [
                {"patient_id": "a", effusion: 1, edema: 1, "sex": "Male", "age": 30, "fold": 0},
                {"patient_id": "a", effusion: 1, edema: 0, "age": 39},
                {"patient_id": "b", effusion: -1, edema: 1, "view": "PA", "site": "there"},
            ]
        ).lazy()
    )
    assert (told.images, told.patients, told.images_a_patient) == (3, 2, 1.5)
    assert told.pairs[effusion] == {f: {effusion: 2, edema: 1}.get(f, 0) for f in FINDINGS}
    assert told.pairs[edema][edema] == 2
    assert told.labels[effusion].model_dump() == {
        "present": 2,
        "absent": 0,
        "uncertain": 1,
        "blank": 0,
    }
    assert (told.missing["sex"].images, told.missing["age"].share) == (2, pytest.approx(1 / 3))
    assert (told.missing["fold"].images, told.missing["Fracture"].share) == (2, 1.0)
    assert told.age_decades == {"30": 2, "unknown": 1}
    assert told.site == {"here": 2, "there": 1}


def test_a_contact_sheet_is_drawn_by_the_seed_for_the_owner_alone(
    http: TestClient,
    enrol: Callable[..., Any],
    browse: Callable[..., TestClient],
    adapters: Adapters,
    phantoms: Callable[..., DatasetView],
) -> None:
    made = phantoms()
    where = f"/datasets/{made.id}/sheet.png"
    first, again = (http.get(where, params={"images": 9, "seed": 1}) for _ in range(2))
    assert first.headers["Content-Type"] == "image/png"
    assert "no-store" in first.headers["Cache-Control"]
    assert first.content == again.content
    assert first.content != http.get(where, params={"images": 9, "seed": 2}).content
    with Image.open(io.BytesIO(first.content)) as image:
        assert image.width == GAP_PX + 6 * (CELL_PX + GAP_PX)
        pixels = np.asarray(image)
    top = 2 * GAP_PX + LINE_PX
    drawn = pixels[top : top + CELL_PX, GAP_PX : GAP_PX + CELL_PX]
    assert drawn.std() > 20  # a picture, not paper
    nobody = http.get(where, params={"age_from": 119})
    assert (nobody.status_code, nobody.json()["type"].split(":")[-1]) == (422, "nothing-chosen")
    colleague = browse(compose(adapters).router, member=enrol("grace", "lab"))
    assert colleague.get(f"/datasets/{made.id}/summary").status_code == 200
    assert colleague.get(where).status_code == 403
    assert browse(compose(adapters).router, member=enrol("m", "x")).get(where).status_code == 404


def test_a_sheet_shows_each_picture_where_its_caption_is() -> None:
    pictures = [np.full((8, 8), 40 * n, np.uint8) for n in range(1, 6)]
    content = sheet("title", [(p, ["a" * 300, "b"]) for p in pictures], columns=3)
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    height = CELL_PX + LINES * LINE_PX + GAP_PX
    assert pixels.shape == (2 * GAP_PX + LINE_PX + 2 * height, GAP_PX + 3 * (CELL_PX + GAP_PX))
    for place in range(5):
        row, column = divmod(place, 3)
        y, x = 2 * GAP_PX + LINE_PX + row * height, GAP_PX + column * (CELL_PX + GAP_PX)
        assert set(pixels[y : y + CELL_PX, x : x + CELL_PX].ravel()) == {40 * (place + 1)}
        below = pixels[y + CELL_PX : y + CELL_PX + LINE_PX, x - GAP_PX // 2 : x + CELL_PX]
        assert below.min() < 100  # the caption
        assert (pixels[y : y + height, x + CELL_PX : x + CELL_PX + GAP_PX] == 255).all()


def test_tables_on_disk_are_bounded_and_the_oldest_goes(
    http: TestClient, adapters: Adapters, phantoms: Callable[..., DatasetView], tmp_path: Any
) -> None:
    made = phantoms(patients=10)
    assert made.manifest is not None
    with adapters.db.transaction() as tx:
        row = tx.session.get_one(Manifest, made.manifest.id)
    manifests = Manifests(adapters.store, tmp_path)
    for n in range(KEPT + 3):
        (tmp_path / f"{n:02d}.arrow").touch()
    frame = manifests.frame(row)
    assert frame.equals(table(http, made.id))
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == KEPT
    assert sum(name.startswith(row.parquet_sha256) for name in left) == 1
    adapters.store.remove([row.key])
    assert manifests.frame(row).equals(frame)  # fetched once
