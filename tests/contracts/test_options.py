"""An option that a request is taken with acts; one that could not is refused, and named."""

from typing import Any
from uuid import UUID

import pytest
from pydantic import TypeAdapter, ValidationError

from api_schemas.base import Wire
from api_schemas.datasets import SampleQuery
from api_schemas.evaluations import EvaluationPost
from api_schemas.exports import ExportRequest
from api_schemas.generation import GenerateRequest
from api_schemas.generators import GeneratorRequest
from api_schemas.imports import DatasetRequest
from api_schemas.selection import ViewRequest
from api_schemas.training import ExperimentRequest

ID = str(UUID(int=1))
OTHER = str(UUID(int=2))
DATA, COHORT = {"dataset": ID}, {"generation": OTHER}
CSV = {"format": "chexpert_csv", "name": "n", "path": "p", "site": "s"}
ORDER = {"generator": ID, "conditions": [{"count": 1}]}
RECIPES = {"generator": ID, "recipes": [{"condition": {}, "seed": 1}]}
TRAINING = {"name": "g", "dataset": ID, "preset": "tiny-32"}
STUDY = {
    "name": "e",
    "validation": {"data": DATA, "split": "validation"},
    "tests": [{"name": "t", "data": DATA}],
}
PRESET = {"name": "supplement", "real": DATA, "synthetic": COHORT}
ARMS = [
    {"name": name, "stages": [{"sources": [{"data": data}], "steps": 9}]}
    for name, data in (("a", DATA), ("b", COHORT))
]
COMPATIBLE = {"compatibility": "mediffusion", "name": "ddim"}


def view(**more: Any) -> dict[str, Any]:
    return {"name": "v", **more}


def new(**more: Any) -> dict[str, Any]:
    return view(splits={"kind": "new", **more})


def sampler(**more: Any) -> dict[str, Any]:
    return {**ORDER, "sampler": more}


def study(**more: Any) -> dict[str, Any]:
    return {**STUDY, "preset": {**PRESET, **more}}


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (ViewRequest, view(seed=1), "seed"),
    (ViewRequest, new(folds=5, validation=0.1), "validation"),
    (ViewRequest, view(where={"age_from": 60, "age_to": 40}), "age_to"),
    (ViewRequest, view(where={"present": ["Edema"], "absent": ["Edema"]}), "absent"),
    (ViewRequest, view(where={"uncertain": ["Edema"], "blank": ["Edema"]}), "blank"),
    (SampleQuery, {"age_from": 60, "age_to": 59}, "age_to"),
    (DatasetRequest, {**CSV, "images": False, "size_px": 512}, "size_px"),
    (DatasetRequest, {**CSV, "images": False, "resize": "antialiased"}, "resize"),
    (DatasetRequest, {**CSV, "images": False, "image_root": "i"}, "image_root"),
    (DatasetRequest, {"format": "nih", "name": "n", "path": "p", "laterals": True}, "laterals"),
    (DatasetRequest, {"format": "vindr", "name": "n", "path": "p", "laterals": True}, "laterals"),
    (GenerateRequest, {**RECIPES, "seed": 1}, "seed"),
    (GenerateRequest, {**RECIPES, "nearest": True}, "nearest"),
    (GenerateRequest, {**ORDER, "replicas": 2}, "replicas"),
    (GenerateRequest, sampler(rescale=0.7), "rescale"),
    (GenerateRequest, sampler(interval=[0.1, 0.9]), "interval"),
    (GenerateRequest, sampler(**COMPATIBLE, rescale=0.3), "rescale"),
    (GenerateRequest, sampler(**COMPATIBLE, guidance=1, interval=[0, 0.5]), "interval"),
    (GeneratorRequest, {**TRAINING, "training": {"batch": 8, "micro_batch": 9}}, "micro_batch"),
    (ExperimentRequest, study(ratios=[0]), "ratios"),
    (ExperimentRequest, study(ratios=[0, 1], controls=["real"]), "ratios"),
    (
        ExperimentRequest,
        study(name="synthetic_only", controls=["real", "synthetic_only"]),
        "controls",
    ),
    (
        ExperimentRequest,
        {**STUDY, "arms": ARMS, "classifier": {"epochs": 3}},
        "classifier.epochs",
    ),
    (EvaluationPost, {"name": "n", "split": "test"}, "split"),
    (ExportRequest, {"set": {"data": DATA}, "format": "png_csv", "shard": 5000}, "shard"),
    (ExportRequest, {"set": {"data": DATA}, "format": "webdataset", "blank": "0"}, "blank"),
    (
        ExportRequest,
        {"set": {"data": DATA, "split": "test"}, "format": "seeded_csv"},
        "set.split",
    ),
]
TAKEN: list[tuple[Any, dict[str, Any]]] = [
    (ViewRequest, view(seed=1, one_image_a_patient=True)),
    (ViewRequest, new(folds=5)),
    (ViewRequest, new(validation=0.3)),
    (ViewRequest, view(where={"age_from": 60, "age_to": 60, "present": ["Edema", "Edema"]})),
    (DatasetRequest, {**CSV, "images": False}),
    (DatasetRequest, {**CSV, "size_px": 512, "resize": "antialiased", "image_root": "i"}),
    (DatasetRequest, {"format": "nih", "name": "n", "path": "p", "laterals": False}),
    (GenerateRequest, {**RECIPES, "seed": 0}),
    (GenerateRequest, {**ORDER, "nearest": True, "seed": 3}),
    (GenerateRequest, {"generator": ID, "mirror": {"dataset": ID}, "nearest": True}),
    (GenerateRequest, sampler(guidance=2, rescale=0.7, interval=[0.1, 0.9])),
    (GenerateRequest, sampler(compatibility="mediffusion")),
    (GenerateRequest, sampler(**COMPATIBLE, guidance=3, rescale=0.2)),
    (GeneratorRequest, {**TRAINING, "training": {"batch": 8, "micro_batch": 8}}),
    (ExperimentRequest, study(ratios=[0, 1])),
    (ExperimentRequest, {**STUDY, "arms": ARMS, "classifier": {"preset": "paper"}}),
    (EvaluationPost, {"name": "n", "split": "test", "data": f"dataset/{ID}"}),
    (ExportRequest, {"set": {"data": DATA}, "format": "webdataset", "shard": 7}),
    (ExportRequest, {"set": {"data": DATA}, "format": "seeded_csv", "blank": "empty"}),
]


@pytest.mark.parametrize(("kind", "body", "field"), REFUSED)
def test_an_option_that_cannot_act_is_refused_and_named(
    kind: Any, body: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(kind).validate_python(body)
    (error,) = raised.value.errors()
    said = error["msg"].removeprefix("Value error, ")
    assert said.startswith(f"{field}: ") or error["loc"][-1] == field


@pytest.mark.parametrize(("kind", "body"), TAKEN)
def test_what_acts_is_taken_and_means_the_same_once_it_was_kept(
    kind: Any, body: dict[str, Any]
) -> None:
    adapter: TypeAdapter[Wire] = TypeAdapter(kind)
    taken = adapter.validate_python(body)
    assert adapter.validate_python(taken.model_dump(mode="json")) == taken
