"""Study files: what stands in them becomes requests, and what is wrong is named."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml

from api_schemas.base import DatasetRef, GenerationRef
from api_schemas.imports import PhantomImport
from services.local import studies
from services.local.demo import PHANTOM, phantom_study
from services.local.studies import Existing, NotAStudy, Study
from services.training.service.arms import expand, primary_of

FOLDER = PHANTOM.parent


def content() -> dict[str, Any]:
    return yaml.safe_load(PHANTOM.read_text())


def written(tmp_path: Path, study: Any) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study))
    return file


def ids(study: Study) -> dict[str, UUID]:
    return {key: uuid4() for key in study._keys()}


def test_the_miniature_is_five_arms_three_seeds_and_three_sites() -> None:
    study = phantom_study()
    known = ids(study)
    request = study.request(known)
    arms = expand(request)
    assert [a.name for a in arms] == [
        "real",
        "real_equal_steps",
        "real+100%",
        "synthetic_only",
        "shuffled",
    ]
    assert primary_of(request, arms) == "real+100%"
    assert (len(request.seeds), len(request.tests)) == (3, 3)
    home = DatasetRef(dataset=known["datasets.a"])
    assert request.validation.data == home
    assert request.preset[0].synthetic == GenerationRef(generation=known["cohorts.mirrored"])
    assert study.generator("tiny", known).dataset == known["datasets.a"]
    assert study.cohort("mirrored", known).generator == known["generators.tiny"]
    assert isinstance(study.dataset("b"), PhantomImport)
    assert study.folders() == []


def test_the_published_study_is_complete(tmp_path, monkeypatch) -> None:
    """With its data in place: 11 supplemented arms, ten synthetic, the mix, and the controls."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotAStudy, match="there is no data/CheXpert"):
        studies.read(FOLDER / "paper.yaml")
    for folder in ("CheXpert-v1.0", "mimic-cxr-jpg", "emory"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    (tmp_path / "data/emory/test.csv").touch()
    study = studies.read(FOLDER / "paper.yaml")
    request = study.request(ids(study))
    names = [arm.name for arm in expand(request)]
    assert len(names) == len(set(names))
    assert [n for n in names if n.startswith("real+")] == [f"real+{k}00%" for k in range(1, 11)]
    assert [n for n in names if n.startswith("syn")] == [f"synthetic_{k}00%" for k in range(1, 11)]
    assert [n for n in names if n.startswith("mixed+")] == [f"mixed+{k}00%" for k in (1, 2, 3)]
    assert primary_of(request, expand(request)) == "real+1000%"
    assert request.classifier.preset == "paper"
    assert study.dataset("chexpert").path == str(tmp_path / "data/CheXpert-v1.0")
    assert tmp_path / "data/emory" in study.folders()


def test_a_path_may_lie_below_an_import_root(tmp_path, monkeypatch) -> None:
    """As in `POST /datasets`. What is in the current folder goes first, by its full path."""
    monkeypatch.chdir(tmp_path)
    study = content()
    study["datasets"]["b"] = {"format": "chexpert", "path": "films/b.csv", "site": "b"}
    file = written(tmp_path, study)
    roots = [str(tmp_path / "first"), str(tmp_path / "second")]
    with pytest.raises(NotAStudy, match=r"there is no films/b\.csv"):
        studies.read(file, roots)
    (tmp_path / "second" / "films").mkdir(parents=True)
    (tmp_path / "second" / "films" / "b.csv").touch()
    assert studies.read(file, roots).dataset("b").path == str(tmp_path / "second/films/b.csv")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "b.csv").touch()
    assert studies.read(file, roots).dataset("b").path == str(tmp_path / "films" / "b.csv")


def test_what_exists_is_taken_by_its_id(tmp_path) -> None:
    known = uuid4()
    study = content()
    study["datasets"]["a"] = {"id": str(known)}
    assert studies.read(written(tmp_path, study)).dataset("a") == Existing(id=known)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (
            "generators.tiny.dataset",
            "z",
            "tiny.dataset: 'z' is none of datasets: a, b, c",
        ),
        ("cohorts.mirrored.generator", "a", "'a' is none of generators: tiny"),
        ("experiment.preset.real", "z", "experiment.preset.real: 'z' is no dataset or cohort"),
        ("experiment.preset.name", "magic", "experiment.preset"),
        ("experiment.seeds", [], "experiment.seeds: List should have at least 1 item"),
        ("datasets.a.format", "jpeg", "datasets.a: Input tag 'jpeg'"),
        ("datasets.a.patients", 1, "datasets.a.phantom.patients: Input should be greater"),
        ("cohorts.mirrored.replica", 3, "cohorts.mirrored.replica: Extra inputs"),
        ("surprise", 1, "surprise: Extra inputs"),
        ("experiment", None, "experiment: Input should be a valid dictionary"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, place, value, told) -> None:
    study = content()
    *path, last = place.split(".")
    at = study
    for key in path:
        at = at[key]
    at[last] = value
    with pytest.raises(NotAStudy) as refused:
        studies.read(written(tmp_path, study))
    assert told in str(refused.value)


def test_what_is_no_yaml_is_refused(tmp_path) -> None:
    file = tmp_path / "study.yaml"
    with pytest.raises(NotAStudy):
        studies.read(file)
    file.write_text("a: [")
    with pytest.raises(NotAStudy):
        studies.read(file)
    file.write_text("- a list")
    with pytest.raises(NotAStudy, match="the file: Input should be"):
        studies.read(file)


def test_a_study_may_import_several_tables(tmp_path, monkeypatch) -> None:
    """Their paths are looked for like that of a single one, and their folders are allowed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    entry = {"format": "chexpert_csv", "site": "us", "paths": []}
    for name, split in (("train.csv", None), ("test.csv", "test")):
        (tmp_path / "data" / name).touch()
        entry["paths"].append({"path": f"data/{name}", "split": split})
    told = yaml.safe_load((FOLDER / "phantom.yaml").read_text())
    told["datasets"]["a"] = entry
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(told))
    study = studies.read(tmp_path / "study.yaml")
    tables = study.dataset("a").tables
    assert [table.path for table in tables] == [
        str(tmp_path / "data" / name) for name in ("train.csv", "test.csv")
    ]
    assert study.folders() == [tmp_path / "data"]
    (tmp_path / "data" / "test.csv").unlink()
    with pytest.raises(NotAStudy, match=r"datasets.a.paths.1.path: there is no data/test.csv"):
        studies.read(tmp_path / "study.yaml")
