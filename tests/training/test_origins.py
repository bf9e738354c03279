"""What an experiment shares with its data: pictures, terms, and patients withdrawn since."""

from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import text

from api_schemas.base import DatasetRef
from api_schemas.terms import Licence
from services.kit.errors import NotFound, Unavailable
from tests.training.conftest import HELD, SIZE_PX
from tests.training.standins import Shelf

STRICT = Licence(name="Agreement", may_export=False, may_share_derived=False)


def with_pixels(table: pa.Table, pixels: list[str]) -> pa.Table:
    place = table.column_names.index("pixel_sha256")
    return table.set_column(place, table.schema.field(place), pa.array(pixels))


@pytest.fixture
def twins(shelf: Shelf, real_table: pa.Table) -> DatasetRef:
    """Other patients, but two of the pictures are those of training images."""
    table = real_table.slice(real_table.num_rows - HELD)
    pixels = real_table["pixel_sha256"].to_pylist()[:2] + table["pixel_sha256"].to_pylist()[2:]
    names = pa.array([f"elsewhere-{i}" for i in range(HELD)])
    place = table.column_names.index("patient_id")
    table = table.set_column(place, table.schema.field(place), names)
    return shelf.add_dataset(with_pixels(table, pixels), size_px=SIZE_PX)


def test_a_picture_is_not_trained_on_and_tested_under_another_name(
    http, body: dict[str, Any], twins: DatasetRef, verdicts
) -> None:
    body["tests"] = [{"name": "twins", "data": twins.model_dump(mode="json")}]
    answer = http.post("/experiments", json=body)
    assert (answer.status_code, answer.json()["field"]) == (409, "tests.0")
    assert f"2 of the {HELD} pictures are in preset.real" in answer.json()["detail"]
    allowed = http.post("/experiments", json={**body, "allow_leakage": True}).json()
    assert allowed["waived"] == verdicts.plans[0].waived
    assert "2 of the" in allowed["waived"][0]


def test_a_generator_must_not_have_seen_the_pictures_either(
    http, body: dict[str, Any], shelf: Shelf, real_table: pa.Table, cohort
) -> None:
    seen = shelf.generator_seen
    last = real_table["pixel_sha256"].to_pylist()[-3:]
    shelf.generator_seen = lambda caller, generator: seen(caller, generator).model_copy(  # type: ignore[method-assign]
        update={"images": last}
    )
    answer = http.post("/experiments", json=body)
    assert answer.status_code == 409
    assert f"saw 3 of the {HELD} pictures" in answer.json()["detail"]


def change(shelf: Shelf, real: DatasetRef, **update: Any) -> None:
    """The datasets service says something else of the data by now."""
    view = shelf.views[real.dataset]()
    shelf.views[real.dataset] = lambda: view.model_copy(update=update)


def a_classifier(adapters, ada, experiment: str) -> str:
    with adapters.db.transaction() as tx:
        made = tx.session.execute(
            text(
                "INSERT INTO training.classifiers (id, project, owner, experiment, arm, seed, "
                "labels, size_px, best_step, digest, files) VALUES (gen_random_uuid(), :project, "
                ":owner, :experiment, 'real', 0, '{Edema}', 16, 1, :digest, '[]') RETURNING id"
            ),
            {
                "project": ada.caller.project,
                "owner": ada.caller.person,
                "experiment": experiment,
                "digest": "0" * 64,
            },
        )
        return str(made.scalar_one())


def test_a_withdrawn_patient_flags_experiment_and_classifier(
    http, body: dict[str, Any], shelf: Shelf, real: DatasetRef, adapters, ada
) -> None:
    made = http.post("/experiments", json=body).json()
    assert made["flags"] == []
    classifier = a_classifier(adapters, ada, made["id"])
    manifest = shelf.views[real.dataset]().manifest
    change(shelf, real, manifest=manifest.model_copy(update={"digest": "f" * 64}))
    for path in (f"/experiments/{made['id']}", f"/classifiers/{classifier}"):
        assert http.get(path).json()["flags"] == ["withdrawn-patients"]
    assert http.get("/experiments").json()["items"][0]["flags"] is None


def test_a_cohort_hands_its_flags_on(http, body: dict[str, Any], shelf: Shelf, cohort) -> None:
    made = http.post("/experiments", json=body).json()
    view = shelf.views[cohort.generation]()
    shelf.views[cohort.generation] = lambda: view.model_copy(
        update={"flags": ["withdrawn-patients"]}
    )
    assert http.get(f"/experiments/{made['id']}").json()["flags"] == ["withdrawn-patients"]


def test_the_strictest_licence_is_inherited(
    http, body: dict[str, Any], shelf: Shelf, real: DatasetRef, adapters, ada
) -> None:
    made = http.post("/experiments", json=body).json()
    classifier = a_classifier(adapters, ada, made["id"])
    change(shelf, real, licence=STRICT)
    for path in (f"/experiments/{made['id']}", f"/classifiers/{classifier}"):
        licence = http.get(path).json()["licence"]
        assert (licence["name"], licence["may_export"]) == ("Agreement", False)


def test_data_that_is_gone_or_away_is_no_error(
    http, body: dict[str, Any], shelf: Shelf, real: DatasetRef, cohort
) -> None:
    made = http.post("/experiments", json=body).json()

    def gone() -> Any:
        raise NotFound("gone")

    def away() -> Any:
        raise Unavailable("away")

    shelf.views[real.dataset] = gone
    assert http.get(f"/experiments/{made['id']}").json()["flags"] == []
    shelf.views[cohort.generation] = away
    assert http.get(f"/experiments/{made['id']}").json()["flags"] == ["unchecked"]
