"""Generators and cohorts know by now what became of their data: terms, withdrawn patients."""

from uuid import UUID, uuid4

import numpy as np
import pytest

from api_schemas.datasets import DatasetKind
from api_schemas.provenance import SYNTHETIC_TRAINING, ImageOrigins
from api_schemas.terms import Licence
from services.datasets.importers.provenance import read_origin
from services.kit.errors import Unavailable
from services.kit.objects import sha256
from tests.generation.conftest import Shelf

STRICT = Licence(name="Agreement", may_export=False)
OPEN = Licence(name="Open", may_export=True, may_share_derived=True)
ROWS = [{"sex": "Female", "age": 60, "Edema": n % 2} for n in range(6)]


@pytest.fixture
def dataset(put_dataset) -> UUID:
    return put_dataset(ROWS)


@pytest.fixture
def generator(http, run, dataset: UUID) -> str:
    body = {"name": "g", "dataset": str(dataset), "preset": "tiny-32", "steps": 5}
    made = http.post("/generators", json=body).json()
    run()
    return made["id"]


def withdraw(shelf: Shelf, dataset: UUID) -> None:
    view = shelf.views[dataset]
    assert view.manifest is not None
    newer = view.manifest.model_copy(update={"id": uuid4()})
    shelf.views[dataset] = view.model_copy(update={"manifest": newer})


def licensed(shelf: Shelf, dataset: UUID, licence: Licence) -> None:
    shelf.views[dataset] = shelf.views[dataset].model_copy(update={"licence": licence})


FEW = "uncalibrated"
"""Every cohort here: six patients are too few to say how like a copy is."""


def a_cohort(http, run, generator: str, **body: object) -> str:
    made = http.post("/generate", json={"generator": generator, **body}).json()["id"]
    run()
    return made


def test_a_withdrawn_patient_flags_the_generator_and_its_cohorts(
    http, run, shelf: Shelf, dataset: UUID, generator: str
) -> None:
    cohort = a_cohort(http, run, generator, conditions=[{"count": 2}])
    paths = (f"/generators/{generator}", f"/generations/{cohort}")
    assert [http.get(path).json()["flags"] for path in paths] == [[], [FEW]]
    withdraw(shelf, dataset)
    withdrawn = ["withdrawn-patients"]
    assert [http.get(path).json()["flags"] for path in paths] == [withdrawn, [FEW, *withdrawn]]
    for path in ("/generators", "/generations"):
        assert http.get(path).json()["items"][0]["flags"] is None  # lists do not look


def test_a_mirrored_patient_flags_the_cohort_alone(
    http, run, shelf: Shelf, put_dataset, generator: str
) -> None:
    mirrored = put_dataset(ROWS)
    licensed(shelf, mirrored, STRICT)
    cohort = a_cohort(http, run, generator, mirror={"dataset": str(mirrored)})
    view = http.get(f"/generations/{cohort}").json()
    version = shelf.views[mirrored].manifest
    assert version is not None
    assert (view["flags"], view["mirror_manifest"]) == ([FEW], str(version.id))
    assert view["licence"]["may_export"] is False
    withdraw(shelf, mirrored)
    assert http.get(f"/generations/{cohort}").json()["flags"] == [FEW, "withdrawn-patients"]
    assert http.get(f"/generators/{generator}").json()["flags"] == []


def test_the_licence_is_the_datasets_as_it_is_now_or_as_it_was_last(
    http, run, shelf: Shelf, put_dataset
) -> None:
    dataset = put_dataset(ROWS)
    licensed(shelf, dataset, OPEN)
    body = {"name": "g", "dataset": str(dataset), "preset": "tiny-32", "steps": 5}
    generator = http.post("/generators", json=body).json()["id"]
    run()
    assert http.get(f"/generators/{generator}").json()["licence"]["name"] == "Open"
    licensed(shelf, dataset, STRICT)
    assert http.get(f"/generators/{generator}").json()["licence"]["may_export"] is False
    del shelf.views[dataset]
    gone = http.get(f"/generators/{generator}").json()
    assert (gone["licence"]["name"], gone["flags"]) == ("Open", [])


def test_a_datasets_service_that_is_away_is_said_to_be(http, shelf: Shelf, generator: str) -> None:
    def away(caller, dataset) -> None:
        raise Unavailable("away")

    shelf.dataset = away  # type: ignore[method-assign]
    answer = http.get(f"/generators/{generator}")
    assert (answer.status_code, answer.json()["flags"]) == (200, ["unchecked"])


def test_what_a_generator_saw_includes_the_pictures(http, generator: str) -> None:
    seen = http.get(f"/generators/{generator}/seen").json()
    assert seen["patients"] == [f"p{n}" for n in range(6)]
    noise = [np.random.default_rng(n).integers(0, 256, (32, 32), np.uint8) for n in range(6)]
    assert seen["images"] == sorted(sha256(each.tobytes()) for each in noise)


def test_a_generator_of_synthetic_images_and_its_cohorts_say_so(
    http, run, shelf: Shelf, dataset: UUID, generator: str
) -> None:
    cohort = a_cohort(http, run, generator, conditions=[{"count": 2}])
    made = ImageOrigins(images=6, synthetic=1, drawn=0, phantom=0, generators_unnamed=1)
    view = shelf.views[dataset]
    shelf.views[dataset] = view.model_copy(update={"kind": DatasetKind.MIXED, "origins": made})
    paths = (f"/generators/{generator}", f"/generations/{cohort}")
    told = [SYNTHETIC_TRAINING]
    assert [http.get(path).json()["flags"] for path in paths] == [told, sorted([FEW, *told])]


def test_an_image_states_the_terms_that_an_import_reads_again(
    http, run, shelf: Shelf, dataset: UUID
) -> None:
    licensed(shelf, dataset, STRICT)
    body = {"name": "g", "dataset": str(dataset), "preset": "tiny-32", "steps": 5}
    generator = http.post("/generators", json=body).json()["id"]
    run()
    cohort = a_cohort(http, run, generator, conditions=[{"count": 2}], seed=3)
    origin = read_origin(http.get(f"/generations/{cohort}/images/1.png").content)
    assert origin is not None
    assert (str(origin.generator), str(origin.cohort)) == (generator, cohort)
    assert origin.licence == STRICT
    images = http.get(f"/generations/{cohort}/images").json()["items"]
    assert origin.seed == images[1]["recipe"]["seed"]
