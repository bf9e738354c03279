"""PadChest, read from small tables in exactly its columns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api_schemas.findings import FINDINGS, Finding, Sex, View
from services.datasets.importers.padchest import labels_of, terms_of
from services.datasets.importers.padchest_terms import (
    ANCESTORS,
    COUNTERPARTS,
    EXCLUDED,
    NORMAL,
    POSSIBLE,
    UNCERTAIN_TERMS,
    UNCHANGED,
    WHOLE_TERMS,
)
from tests.datasets import trees
from tests.datasets.reading import Read, opened

FIELD = Path(__file__).parents[3] / "shared" / "field"
field = pytest.mark.skipif(not FIELD.exists(), reason="no inputs from use (../shared/field)")
DEVICES, EFFUSION, OPACITY = (
    *(Finding.SUPPORT_DEVICES, Finding.PLEURAL_EFFUSION),
    Finding.LUNG_OPACITY,
)


def padchest(root: Path, *rows: dict[str, Any]) -> Read:
    """A table of healthy women born in 1950, but for what each row says."""
    healthy = {
        "StudyDate_DICOM": 20150101,
        "PatientBirth": 1950,
        "PatientSex_DICOM": "F",
        "Projection": "PA",
        "Labels": "['normal']",
    }
    numbered = [
        healthy | {"ImageID": f"{n}.png", "ImageDir": n, "PatientID": f"p{n}"} | row
        for n, row in enumerate(rows)
    ]
    trees.write(root / "pc.csv", trees.PADCHEST, numbered)
    return opened(root, "padchest", path="pc.csv")


def present(*terms: str) -> set[Finding]:
    return {finding for finding, value in labels_of(frozenset(terms)).items() if value == 1}


def blank(*terms: str) -> set[Finding]:
    return {finding for finding, value in labels_of(frozenset(terms)).items() if value is None}


def test_padchest_maps_its_terms(tmp_path: Path) -> None:
    source = padchest(
        tmp_path,
        {"Labels": "['pleural effusion', 'laminar atelectasis', 'nsg tube']", "PatientBirth": 1931},
        {"Projection": "AP_horizontal"},
        {"Projection": "L"},
        {"Labels": "['exclude']"},
        {"Labels": ""},
    )
    trees.save(tmp_path / "0" / "0.png", trees.phantoms(1)[0].astype(np.uint16) * 257)
    first, healthy = source.usable()
    assert (first.place, first.age, first.sex, first.view) == ("0/0.png", 84, Sex.FEMALE, View.PA)
    positive = {f for f, v in first.labels.items() if v == 1}
    assert positive == {EFFUSION, Finding.ATELECTASIS, DEVICES}
    assert (healthy.view, healthy.labels[Finding.NO_FINDING]) == (View.AP, 1)
    assert [r.code for r in source.rejected()] == ["view", "image", "row"]
    assert isinstance(source.pictures([first.place])[0], np.ndarray)


@pytest.mark.parametrize(
    ("term", "findings"),
    [
        ("tuberculosis", set()),
        ("tuberculosis sequelae", set()),
        ("endotracheal tube", {DEVICES}),
        ("dai", {DEVICES}),
        ("reservoir central venous catheter", {DEVICES}),
        ("aortic endoprosthesis", {DEVICES}),
        ("loculated fissural effusion", {EFFUSION}),
        ("empyema", {EFFUSION}),
        ("hemothorax", {EFFUSION}),
        ("hydropneumothorax", {EFFUSION, Finding.PNEUMOTHORAX}),
        ("pericardial effusion", set()),
        ("pneumomediastinum", set()),
        ("consolidation", {Finding.CONSOLIDATION, OPACITY}),
        ("air bronchogram", {Finding.CONSOLIDATION, OPACITY}),
        ("miliary opacities", {OPACITY}),
        ("increased density", {OPACITY}),
        ("covid 19", {Finding.PNEUMONIA}),
        ("atypical pneumonia", {Finding.PNEUMONIA}),
        ("calcified pleural plaques", {Finding.PLEURAL_OTHER}),
        ("callus rib fracture", {Finding.FRACTURE}),
        ("multiple nodules", {Finding.LUNG_LESION}),
        ("pseudonodule", set()),
        ("pulmonary mass", {Finding.LUNG_LESION}),
        ("mass", {Finding.LUNG_LESION}),
        ("breast mass", set()),
        ("mediastinal mass", {Finding.ENLARGED_CARDIOMEDIASTINUM}),
        ("goiter", {Finding.ENLARGED_CARDIOMEDIASTINUM}),
        ("atelectasis basal", {Finding.ATELECTASIS}),
        ("subcutaneous emphysema", set()),
        ("heart insufficiency", set()),
    ],
)
def test_a_term_counts_for_every_term_above_it(term: str, findings: set[Finding]) -> None:
    assert present(term) == findings


def test_a_term_that_may_count_leaves_its_finding_blank() -> None:
    assert blank("vertebral anterior compression") == {Finding.FRACTURE}
    assert blank("osteosynthesis material") == blank("mammary prosthesis") == {DEVICES}
    assert blank("heart insufficiency") == {Finding.EDEMA}
    assert blank("lung metastasis") == {Finding.LUNG_LESION}
    assert blank("pneumonia") == blank("mass") == {OPACITY}
    assert blank("pneumonia", "infiltrates") == blank("tuberculosis") == set()
    assert blank("cardiomegaly") == {Finding.ENLARGED_CARDIOMEDIASTINUM}
    assert present("osteosynthesis material", "pacemaker") == {DEVICES}


def test_an_uncertain_term_is_uncertain_unless_another_is_sure() -> None:
    assert labels_of(frozenset({"covid 19 uncertain"}))[Finding.PNEUMONIA] == -1
    assert present("covid 19 uncertain", "viral pneumonia") == {Finding.PNEUMONIA}


def test_normal_counts_alone_or_beside_devices() -> None:
    assert present("normal") == present("normal", "unchanged") == {Finding.NO_FINDING}
    assert present("normal", "pacemaker") == {Finding.NO_FINDING, DEVICES}
    assert present("normal", "pleural effusion") == {EFFUSION}
    assert labels_of(frozenset({"normal", "scoliosis"}))[Finding.NO_FINDING] == 0


def test_a_film_that_is_only_unchanged_has_no_labels(tmp_path: Path) -> None:
    source = padchest(
        tmp_path, {"Labels": "['unchanged']"}, {"Labels": "['unchanged', 'cardiomegaly']"}
    )
    nothing, enlarged = source.usable()
    assert set(nothing.labels.values()) == {None}
    assert (enlarged.labels[Finding.CARDIOMEGALY], enlarged.labels[EFFUSION]) == (1, 0)
    assert any("only that they are unchanged, all blank: 1" in told for told in source.remarks())


def test_terms_that_the_tree_does_not_have_are_told_and_leave_blanks(tmp_path: Path) -> None:
    source = padchest(
        tmp_path,
        {"Labels": "['effusion', 'pneumonia']"},
        {"Labels": "['effusion', 'tubes']"},
        {"Labels": "['normal', 'loc lobar']"},
    )
    first, second, third = source.usable()
    assert {f: v for f, v in first.labels.items() if v is not None} == {
        Finding.PNEUMONIA: 1,
        Finding.NO_FINDING: 0,
    }
    assert set(second.labels.values()) == set(third.labels.values()) == {None}
    told = " ".join(source.remarks())
    assert "'effusion' (2), 'tubes' (1), 'loc lobar' (1)" in told
    assert "their findings blank instead of 0: 3" in told


def test_many_unknown_terms_are_told_shortly(tmp_path: Path) -> None:
    source = padchest(tmp_path, *({"Labels": f"['term {n}']"} for n in range(12)))
    source.usable()
    assert any("and 2 more" in told for told in source.remarks())


@pytest.mark.parametrize(
    ("words", "terms"),
    [
        ("['Pneumonia']", {"pneumonia"}),
        ("[' pneumonia', '', 'pleural  effusion']", {"pneumonia", "pleural effusion"}),
        ("[\"d'air\", 'normal']", {"d'air", "normal"}),
        (r"['d\'air', 'normal']", {r"d\'air", "normal"}),
        ("['pneumonia' 'normal']", {"pneumonia", "normal"}),
        ("('pneumonia',)", {"pneumonia"}),
    ],
)
def test_a_list_is_read_however_it_is_written(words: str, terms: set[str]) -> None:
    assert terms_of(words) == terms


@pytest.mark.parametrize(
    "words",
    [
        "pneumonia",
        "['pneumonia",
        "[pneumonia]",
        "[]",
        "['']",
        "nan",
        "\\'" * 30_000,
        "['a" * 30_000,
    ],
    ids=["bare", "open", "bare in a list", "no term", "blank", "missing", "quotes", "long"],
)
def test_what_is_no_list_of_terms_is_reported(tmp_path: Path, words: str) -> None:
    (bad,) = padchest(tmp_path, {"Labels": words}).rejected()
    assert "Labels" in bad.reason


def test_every_mapped_term_is_one_of_the_tree() -> None:
    mapped = {*WHOLE_TERMS, *EXCLUDED, *UNCERTAIN_TERMS, NORMAL, UNCHANGED}
    mapped = mapped.union(*COUNTERPARTS.values(), *POSSIBLE.values())
    assert mapped <= ANCESTORS.keys()
    assert set(COUNTERPARTS) == set(FINDINGS) - {Finding.NO_FINDING}
    assert ANCESTORS["air bronchogram"] == {
        *("air bronchogram", "consolidation", "alveolar pattern", "infiltrates")
    }
    assert ANCESTORS["loculated fissural effusion"] == {
        *("loculated fissural effusion", "fissure thickening", "pleural effusion")
    }


@pytest.mark.parametrize(
    ("birth", "study", "age"),
    [
        ("1950", "20150101", 65),
        ("1934.0", "20150101", 81),
        ("19500101", "20150101", 65),
        ("1950-01-01", "2015-01-01", 65),
        ("2015", "20150101.0", 0),
        ("2016", "20150101", None),
        ("1850", "20150101", None),
        ("19501301", "20150101", None),
        ("01/01/1950", "20150101", None),
        ("50", "20150101", None),
        ("1950", "01012015", None),
        ("1950", "", None),
        ("None", "20150101", None),
    ],
)
def test_the_age_is_the_years_from_birth_to_the_study(
    tmp_path: Path, birth: str, study: str, age: int | None
) -> None:
    source = padchest(tmp_path, {"PatientBirth": birth, "StudyDate_DICOM": study})
    assert [sample.age for sample in source.usable()] == [age]
    unread = age is None and study != "" and birth != "None"
    assert any("left blank" in told for told in source.remarks()) == unread
    assert not any("1950" in told for told in source.remarks())


def test_a_sex_that_is_not_known_costs_only_itself(tmp_path: Path) -> None:
    sexes = ("None", "O", "U", "male")
    source = padchest(tmp_path, *({"PatientSex_DICOM": sex} for sex in sexes))
    assert [sample.sex for sample in source.usable()] == [None, None, None, Sex.MALE]
    assert any("PatientSex_DICOM" in told and ": 1 ('U')" in told for told in source.remarks())


@pytest.mark.parametrize("name", ["", "nan", "None", "3.26E+37"])
def test_a_name_that_strangers_share_is_none(tmp_path: Path, name: str) -> None:
    (bad,) = padchest(tmp_path, {"PatientID": name}).rejected()
    assert "PatientID" in bad.reason


def test_images_lie_in_numbered_folders_or_flat(tmp_path: Path) -> None:
    trees.save(tmp_path / "3" / "a.png", trees.phantoms(1)[0])
    trees.save(tmp_path / "b.png", trees.phantoms(1)[0])
    rows = [("a.png", "3.0"), ("b.png", 3), ("c.png", 3), ("d.png", 7), ("e.png", "")]
    source = padchest(tmp_path, *({"ImageID": name, "ImageDir": there} for name, there in rows))
    places = [sample.place for sample in source.usable()]
    assert places == ["3/a.png", "b.png", "3/c.png", "d.png", "e.png"]


def test_images_that_may_be_negatives_are_told(tmp_path: Path) -> None:
    words = ("MONOCHROME2", "monochrome1", "MONOCHROME1", "")
    source = padchest(tmp_path, *({"PhotometricInterpretation_DICOM": word} for word in words))
    assert len(source.usable()) == len(words)
    (told,) = source.remarks()
    assert "MONOCHROME1" in told
    assert told.endswith(": 2")


@field
def test_the_inputs_from_use_are_read_as_expected() -> None:
    terms = opened(FIELD, "padchest", path="04_padchest_terms/table.csv").usable()
    assert [{f for f, v in sample.labels.items() if v == 1} for sample in terms] == [
        *(set(), set(), {DEVICES}, {DEVICES}, {DEVICES}, {EFFUSION}, {EFFUSION}, {EFFUSION}),
        *({Finding.CONSOLIDATION, OPACITY}, {Finding.CONSOLIDATION, OPACITY}, {OPACITY}),
        {Finding.PNEUMONIA},
    ]
    births = opened(FIELD, "padchest", path="10_padchest_birth/table.csv")
    assert [sample.age for sample in births.usable()] == [65, None, 65, 81, None]
    assert len(births.remarks()) == 2
    pictures = opened(FIELD, "padchest", path="16_reasons/padchest_pictures/table.csv")
    places = [sample.place for sample in pictures.usable()]
    assert places == ["3/a.png", "3/b.png", "3/c.png", "3/d.png", "e.png", "f.png"]
    assert any("MONOCHROME1" in told for told in pictures.remarks())
