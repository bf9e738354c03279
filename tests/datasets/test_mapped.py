"""Any hospital's table, by a mapping file; and mapping files that are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api_schemas.findings import Ethnicity, Finding, Race, Sex, View
from services.datasets.importers.combining import combine
from services.datasets.importers.fields import RowUnusable, UnusableValues
from services.datasets.importers.mapped import read_mapping, shipped
from services.datasets.importers.source import (
    ColumnsMissing,
    FileMissing,
    MappingUnusable,
    PatientsUnknown,
)
from tests.datasets import trees
from tests.datasets.reading import REQUEST, Read, known, opened


def test_a_mapping_file_reads_a_hospitals_table(tmp_path: Path) -> None:
    (tmp_path / "mapping.yaml").write_text(
        "columns:\n"
        "  Path: {from: file}\n"
        "  PID: {from: case, pattern: '^([0-9]+)-'}\n"
        "  Sex: {from: geschlecht, values: {w: Female, m: Male, d: ''}}\n"
        "  Age: {from: alter, pattern: '([0-9]+)'}\n"
        "  Ethnicity: {from: herkunft, values: {h: Hispanic or Latino}, otherwise: ''}\n"
        "  AP/PA: {from: view, otherwise: '', values: {liegend: AP, stehend: PA}}\n"
        "  Pleural Effusion: {from: erguss, values: {ja: 1, nein: 0, unklar: -1}}\n"
        "  Edema: {from: oedem, values: {yes: 1, no: 0}}\n"
    )
    (tmp_path / "t.csv").write_bytes(
        "file;case;geschlecht;alter;view;erguss;oedem;herkunft\n"
        "a.png;17-2;w;61;liegend;ja;no;h\n"
        "b.png;18-1;d;40;schräg;unklar;yes;?\n"
        "c.png;x;m;40;stehend;nein;no;h\n"
        "d.png;19-1;m;alt;stehend;vielleicht;no;h\n".encode("latin-1")
    )
    source = opened(tmp_path, "mapped_csv", path="t.csv", mapping="mapping.yaml", site="s")
    first, second, third = source.usable()
    assert (first.patient, first.sex, first.age, first.view) == ("17", Sex.FEMALE, 61, View.AP)
    assert known(first) == {Finding.PLEURAL_EFFUSION: 1, Finding.EDEMA: 0}
    assert (second.sex, second.view) == (None, None)
    assert (first.ethnicity, second.ethnicity) == (Ethnicity.HISPANIC, None)
    assert known(second) == {Finding.PLEURAL_EFFUSION: -1, Finding.EDEMA: 1}
    (no_patient,) = source.rejected()
    assert "case, read as PID, does not fit" in no_patient.reason
    assert known(third) == {Finding.EDEMA: 0}
    told = " ".join(source.remarks())
    assert "values of Pleural Effusion that were left blank" in told
    assert "'vielleicht'" in told
    assert third.age is None
    assert "values of alter that were left blank, as they are not of the pattern for Age: 1" in told
    assert "Latin-1" in told
    assert "semicolons" in told


def test_a_missing_word_means_nothing_unless_the_mapping_says_so() -> None:
    mapping = read_mapping(
        "columns:\n"
        "  Path: {from: a}\n"
        "  Edema: {from: a, values: {'-1': 0}, otherwise: 1}\n"
        "  Fracture: {from: a, values: {NA: 0, unknown: -1}, otherwise: 1, pattern: '([0-9]+)'}\n"
    )
    unusable = UnusableValues()
    edema, fracture = mapping.columns["Edema"], mapping.columns["Fracture"]
    read = {word: edema.read({"a": word}, "Edema", unusable) for word in ("-1", "x", "", "NA")}
    assert read == {"-1": "0", "x": "1", "": "", "NA": ""}
    words = ("NA", "unknown", "nan", "a7")
    read = {word: fracture.read({"a": word}, "Fracture", unusable) for word in words}
    assert read == {"NA": "0", "unknown": "-1", "nan": "", "a7": "1"}
    assert unusable.remarks() == []


def test_the_shipped_mapping_reads_the_papers_columns(tmp_path: Path) -> None:
    assert shipped() == ["emory", "rsna", "siim", "vinbigdata"]
    columns = ("Path", "PID", *trees.CHEXPERT[1:], "Race", "Fold")
    row = {"Path": "a.png", "PID": 4, "Sex": "F", "Age": 50, "AP/PA": "PA", "Edema": "-1"}
    race = "African American  or Black"
    trees.write(tmp_path / "t.csv", columns, [row | {"Race": race}])
    (sample,) = opened(tmp_path, "mapped_csv", path="t.csv", mapping="emory", site="e").usable()
    assert (sample.sex, sample.race) == (Sex.FEMALE, Race.AFRICAN_AMERICAN)
    assert known(sample) == {Finding.EDEMA: -1}


@pytest.mark.parametrize(
    ("listed", "written"),
    [("1", "1.0"), ("1.0", "1"), ("Edema", "EDEMA"), ("No finding", "no  Finding"), ("yes", "Yes")],
)
def test_a_word_is_found_however_it_is_written(listed: str, written: str) -> None:
    mapping = read_mapping(
        f"columns: {{Path: {{from: a}}, Edema: {{from: b, values: {{{listed}: 1}}, otherwise: 0}}}}"
    )
    read = mapping.columns["Edema"].read({"b": written}, "Edema", UnusableValues())
    assert read == "1"


def test_words_that_differ_only_in_case_keep_their_meanings() -> None:
    mapping = read_mapping("columns: {Path: {from: a, values: {m: x, M: y}, otherwise: z}}")
    read = [mapping.path.read({"a": w}, "Path", UnusableValues()) for w in ("m", "M", "mm")]
    assert read == ["x", "y", "z"]


def test_words_that_no_column_lists_are_told(tmp_path: Path) -> None:
    source = rows(
        tmp_path,
        "id,word\na,edema\nb,Fracture\nc,Oedema\nd,Edema|Fracture\ne,\n",
        "columns:\n  Path: {from: id}\n  Edema: {from: word, values: {Edema: 1}, otherwise: 0}\n"
        "  Fracture: {from: word, values: {Fracture: 1}, otherwise: 0}\n",
    )
    edema = [sample.labels[Finding.EDEMA] for sample in source.usable()]
    assert edema == [1, 0, 0, 0, None]
    (told,) = [told for told in source.remarks() if "otherwise" in told]
    assert told.startswith("values of word that the mapping does not list")
    assert told.endswith(": 2 ('Oedema', 'Edema|Fracture')")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("columns: [", "not YAML"),
        ("[" * 900, "not YAML"),
        ("[" * 5000, "more brackets"),
        ("columns: {Path: {from: a}, Heart: {from: b}}", "'Heart'"),
        ("columns: {PID: {from: a}}", "no column is mapped to 'Path'"),
        ("columns: {Path: {of: a}}", "columns.Path"),
        ("columns: {Path: &a {from: x}, PID: *a}", "aliases"),
        ("columns: {Path: {from: !!int x}}", "tags"),
        ("columns: {Path: {from: !!timestamp x}}", "tags"),
        ("columns: {Path: {from: !!binary eA==}}", "tags"),
        ("columns: {Path: {from: a}, Sex: {from: b}, Sex: {from: c}}", "'Sex' stands twice"),
        ("columns: {Path: {from: a, values: {y: 1, y: 0}}}", "'y' stands twice"),
        ("columns: {Path: {from: a}}\ncolumns: {Path: {from: b}}", "'columns' stands twice"),
        ("columns: {Path: {from: ''}}", "columns.Path.from"),
        ('columns: {Path: {from: a, folder: "..\\\\b"}}', "below the folder of images"),
        ("columns: {Path: {from: a}, Sex: {from: b, suffix: .png}}", "only Path has"),
        ("columns: {Path: {from: a, folder: ../b}}", "below the folder of images"),
        ("columns: {Path: {from: a, folder: /b}}", "below the folder of images"),
        ("columns: {Path: {from: a, search: perhaps}}", "columns.Path.search"),
        ("columns: {Path: {from: a}}\nrows: {combine: mean}", "rows.combine"),
        ("columns: {Path: {from: a}}\nrows: {reader: b}", "rows.combine"),
        ("columns: {Path: {from: a, pattern: '('}}", "pattern"),
        ("columns: {Path: {from: a, pattern: 'ab'}}", "one group"),
        ("columns: {Path: {from: a, pattern: '(a(?=b))'}}", "looks around"),
        ("columns: {Path: {from: a, pattern: '(((a{1000}){1000}){1000})'}}", "too large"),
        ("", "valid dictionary"),
    ],
)
def test_a_mapping_that_cannot_be_used_says_where(text: str, reason: str) -> None:
    with pytest.raises(MappingUnusable, match=reason.replace("(", r"\(")) as raised:
        read_mapping(text)
    assert raised.value.field == "mapping"


def test_a_mapping_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Path\na.png\n")
    with pytest.raises(FileMissing) as raised:
        opened(tmp_path, "mapped_csv", path="t.csv", mapping="emori", site="s")
    assert (raised.value.field, raised.value.accepted) == (
        "mapping",
        [*shipped(), "a file"],
    )


@pytest.mark.timeout(60)
def test_no_pattern_takes_for_ever() -> None:
    """Tried one after the other, the ways to read this cell as the pattern wants are 2 ** 60."""
    mapping = read_mapping("columns: {Path: {from: a, pattern: '^((?:a|aa)+)$'}}")
    column = mapping.columns["Path"]
    assert column.read({"a": "a" * 80}, "Path", UnusableValues()) == "a" * 80
    with pytest.raises(RowUnusable, match="does not fit"):
        column.read({"a": "a" * 80 + "b"}, "Path", UnusableValues())


def test_a_mapping_is_a_small_text_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Path,PID\na.png,1\n")
    for content, reason in ((b"#" * 40_000, "32 KiB"), (b"\xff\xfe", "UTF-8")):
        (tmp_path / "m.yaml").write_bytes(content)
        with pytest.raises(MappingUnusable, match=reason):
            opened(tmp_path, "mapped_csv", path="t.csv", mapping="m.yaml", site="s")


def test_a_table_without_a_mapped_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Path,PID\na.png,1\n")
    with pytest.raises(ColumnsMissing, match="'Sex'"):
        opened(tmp_path, "mapped_csv", path="t.csv", mapping="emory", site="e")


# ---------------------------------------------------------------- tables by image id


def rows(path: Path, text: str, mapping: str, **more: Any) -> Read:
    """A table and a mapping, read as patients of their own."""
    (path / "t.csv").write_text(text)
    (path / "m.yaml").write_text(mapping)
    told = {"path": "t.csv", "mapping": "m.yaml", "site": "s", "patients": "one_per_image"}
    return opened(path, "mapped_csv", **told | more)


@pytest.mark.parametrize(
    ("column", "word", "place"),
    [
        ("suffix: .dcm", "a", "a.dcm"),
        ("suffix: .dcm", "a.dcm", "a.dcm"),
        ("suffix: .dcm", "a.DCM", "a.DCM"),
        ("folder: images", "a.png", "images/a.png"),
        ("folder: images/, suffix: .png", "b/a", "images/b/a.png"),
        (
            "folder: images, suffix: .dcm, pattern: '^(.*)_image$'",
            "1.2.3_image",
            "images/1.2.3.dcm",
        ),
    ],
)
def test_a_mapping_adds_folder_and_suffix_to_the_path(
    tmp_path: Path, column: str, word: str, place: str
) -> None:
    source = rows(tmp_path, f"id\n{word}\n", f"columns: {{Path: {{from: id, {column}}}}}")
    assert [sample.place for sample in source.usable()] == [place]


def test_a_mapping_finds_a_picture_by_its_name_alone(tmp_path: Path) -> None:
    for place in ("x/1/1.2.png", "x/2/1.3.png", "x/3/1.4.png", "x/4/1.4.png", "y/1.5.png"):
        trees.save(tmp_path / place, trees.phantoms(1)[0])
    mapping = "columns: {Path: {from: id, folder: x, suffix: .png, search: true}}"
    source = rows(tmp_path, "id\n1.2\n2/1.3\n1.4\n1.5\n1.6\n3/1.4\n3/1.2\n", mapping)
    samples = source.usable()
    assert [sample.place for sample in samples] == [
        *("x/1/1.2.png", "x/2/1.3.png", "x/1.5.png", "x/1.6.png", "x/3/1.4.png", "x/3/1.2.png")
    ]
    (several,) = source.rejected()
    assert "several files" in several.reason
    pictures = source.pictures([sample.place for sample in samples])
    found = [isinstance(each, np.ndarray) for each in pictures]
    assert found == [True, True, False, False, True, False]  # 3/1.2 is not 1/1.2
    with pytest.raises(FileMissing):
        rows(tmp_path, "id\n1.2\n", mapping.replace("folder: x", "folder: z"))


@pytest.mark.parametrize(
    ("values", "any_", "all_", "majority"),
    [
        ((1, 1, 1), 1, 1, 1),
        ((1, 0, 0), 1, 0, -1),
        ((1, 1, 0), 1, 0, 1),
        ((0, 0, 0), 0, 0, 0),
        ((-1, 0, 0), -1, 0, -1),
        ((1, -1, None), 1, -1, -1),
        ((1, None, None), 1, 1, 1),
        ((1, 0, None), 1, 0, -1),
        ((None, None, None), None, None, None),
        ((0, None, None), 0, 0, 0),
    ],
)
def test_readings_are_combined_as_the_mapping_says(
    values: tuple[int | None, ...], any_: int | None, all_: int | None, majority: int | None
) -> None:
    assert (combine(values, "any"), combine(values, "all")) == (any_, all_)
    assert combine(values, "majority") == majority


def test_several_rows_of_an_image_are_one_sample(tmp_path: Path) -> None:
    text = (
        "id,who,sex,age,target\n"
        "a,1,F,50,0\nb,2,M,60,0\na,1,F,,1\na,1,F,51,0\nb,3,M,60,1\n"
        ",9,F,1,1\nc,4,F,70,x\nc,4,F,70,\n"
    )
    mapping = (
        "columns: {Path: {from: id, suffix: .png}, PID: {from: who}, Sex: {from: sex},"
        " Age: {from: age}, Edema: {from: target}}\n"
        "rows: {combine: any}"
    )
    source = rows(tmp_path, text, mapping, patients="named")
    a, c = source.usable()
    assert (a.line, a.place, a.patient, a.sex, a.age) == (2, "a.png", "1", Sex.FEMALE, None)
    assert known(a) == {Finding.EDEMA: 1}
    assert (c.age, known(c)) == (70, {})
    blank, two_patients = source.rejected()
    assert (blank.line, "blank" in blank.reason) == (7, True)
    assert (two_patients.line, "different values of PID" in two_patients.reason) == (3, True)
    told = source.remarks()
    assert "t.csv: rows of 3 images, combined (any): 7" in told
    assert any(remark.startswith("values of Age that were left blank") for remark in told)
    assert any(remark.startswith("values of Edema that were left blank") for remark in told)


def test_rows_that_write_the_same_differently_are_of_one_image(tmp_path: Path) -> None:
    source = rows(
        tmp_path,
        "id,pid,sex,age,split,e,r\n"
        "a,12,F,50,train,0,1\n"
        "./a,12.0,female,50.0,Train,1,1.0\n"
        "x/../a,,,,,1,\n"
        "b,7,F,50,train,1,1\n"
        "b,7,M,51,training,0,2\n"
        "c,1,F,1,train,1,1\n"
        "c,2,F,1,train,1,1\n",
        "columns: {Path: {from: id}, PID: {from: pid}, Sex: {from: sex}, Age: {from: age}, "
        "Split: {from: split}, Edema: {from: e}}\nrows: {combine: majority, reader: r}",
        patients="named",
    )
    first, second = source.usable()
    assert (first.place, first.patient, first.sex, first.age) == ("a", "12", Sex.FEMALE, 50)
    assert known(first) == {Finding.EDEMA: 1}
    assert (second.sex, second.age, second.split) == (None, None, "train")
    outside, patients = source.rejected()
    assert (outside.line, patients.line) == (4, 7)
    assert "must stay below" in outside.reason
    assert "different values of PID" in patients.reason


def test_a_row_a_box_of_vinbigdata_counts_readers_and_not_boxes(tmp_path: Path) -> None:
    boxes = [
        *(("i1", "Cardiomegaly", "R1"), ("i1", "Cardiomegaly", "R2"), ("i1", "No finding", "R3")),
        *(("i1", "Nodule/Mass", "R1"), ("i1", "Nodule/Mass", "R1"), ("i1", "Infiltration", "R2")),
        *(("i2", "No finding", "R1"), ("i2", "No finding", "R2"), ("i2", "No finding", "R3")),
        *(("i3", "Other lesion", "R1"), ("i3", "Other lesion", "R2"), ("i3", "ILD", "R3")),
    ]
    columns = ("image_id", "class_name", "rad_id")
    lines = [dict[str, Any](zip(columns, box, strict=True)) for box in boxes]
    trees.write(tmp_path / "train.csv", (*columns, "x_min"), lines)
    told = {"path": "train.csv", "mapping": "vinbigdata", "site": "s"}
    with pytest.raises(PatientsUnknown):
        opened(tmp_path, "mapped_csv", **told)
    source = opened(tmp_path, "mapped_csv", **told, patients="one_per_image")
    one, two, three = source.usable()
    assert one.place == "train/i1.dicom"
    assert {f: v for f, v in known(one).items() if v} == {
        Finding.CARDIOMEGALY: 1,
        Finding.LUNG_LESION: -1,
        Finding.LUNG_OPACITY: -1,
        Finding.NO_FINDING: -1,
    }
    assert {f for f, v in known(two).items() if v} == {Finding.NO_FINDING}
    assert set(known(three).values()) == {0}


def test_masks_of_siim_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "dicom-images-train" / "1.2" / "1.3").mkdir(parents=True)
    (tmp_path / "dicom-images-train" / "1.2" / "1.3" / "1.4.dcm").write_bytes(b"")
    (tmp_path / "t.csv").write_text("ImageId, EncodedPixels\n1.4,557374 2 1015\n1.4, 5 2\n1.5,-1\n")
    told = {"mapping": "siim", "site": "s", "patients": "one_per_image"}
    one, other = opened(tmp_path, "mapped_csv", path="t.csv", **told).usable()
    assert one.place == "dicom-images-train/1.2/1.3/1.4.dcm"
    assert (known(one), known(other)) == ({Finding.PNEUMOTHORAX: 1}, {Finding.PNEUMOTHORAX: 0})


def test_pictures_that_are_visibly_elsewhere_are_told_before_the_import(tmp_path: Path) -> None:
    trees.save(tmp_path / "images" / "a.png", trees.phantoms(1)[0])
    mapping = "columns: {Path: {from: id}}"
    (told, *_) = [r for r in rows(tmp_path, "id\na\nb\n", mapping).remarks() if "none of" in r]
    assert "none of the images of the first 2 rows was found" in told
    mapping = "columns: {Path: {from: id, folder: images, suffix: .png}}"
    assert not any("none of" in r for r in rows(tmp_path, "id\na\nb\n", mapping).remarks())


FIELD = Path(__file__).parents[3] / "shared" / "field" / "13_mapping_no_suffix"


@pytest.mark.skipif(not FIELD.exists(), reason="no ../shared/field beside this tree")
def test_a_table_of_rsnas_shape_is_read_box_by_box(tmp_path: Path) -> None:
    mapping = (FIELD / "rsna.yaml").read_text().replace("Path: {from: patientId}", "")
    (tmp_path / "m.yaml").write_text(
        mapping.replace("columns:", "columns:\n  Path: {from: patientId, suffix: .dcm}")
        + "rows: {combine: any}\n"
    )
    request = {"format": "mapped_csv", "name": "x", "site": "field", "size_px": 32}
    request |= {"path": str(FIELD / "rsna.csv"), "mapping": str(tmp_path / "m.yaml")}
    source = Read(REQUEST.validate_python(request), FIELD, tmp_path)
    samples = source.usable()
    assert [known(sample)[Finding.LUNG_OPACITY] for sample in samples] == [0, 1, 0, 1, 0, 1]
    pictures = source.pictures([sample.place for sample in samples])
    assert all(isinstance(each, np.ndarray) for each in pictures)
    assert source.rejected() == []
