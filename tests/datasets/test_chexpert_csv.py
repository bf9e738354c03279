"""The CheXpert-style CSV: what is read, what is refused, and that nothing outside is opened."""

import csv
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from api_schemas.findings import FINDINGS, Finding, Race, Sex, View
from api_schemas.imports import CsvImport, PhantomSite
from api_schemas.missing import MISSING
from services.datasets.importers.fields import RowUnusable, UnusableValues, entry
from services.datasets.importers.phantom import draw, population
from services.datasets.importers.source import (
    ColumnsMissing,
    Entry,
    FileMissing,
    LabelsUnread,
    NotCsv,
    PathOutsideRoots,
    PatientsUnknown,
    Rejected,
    SourceUnusable,
    Unreadable,
)
from tests.datasets.reading import Read

COLUMNS = [
    *("Path", "PID", "Sex", "Age", "Frontal/Lateral", "AP/PA"),
    *(*FINDINGS, "Race", "Ethnicity", "Fold"),
]
ALL_COLUMNS = [*COLUMNS, "Split"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def read(root: Path, text: str | bytes, **more: Any) -> Read:
    """The source of a CSV with this text in `root`, whose images may name no patient."""
    path = root / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    fields = {
        "format": "chexpert_csv",
        "name": "x",
        "path": "table.csv",
        "site": "s",
        "size_px": 32,
        "patients": "one_per_image",
    }
    return Read(CsvImport.model_validate(fields | more), root)


def table(*rows: dict[str, Any], columns: list[str] = COLUMNS) -> str:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, columns)
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def only(source: Read) -> Entry | Rejected:
    (row,) = source.entries()
    return row


def test_a_full_row_is_read_in_every_column(root: Path) -> None:
    row = {
        "Path": "train/patient00007/study1/view1_frontal.jpg",
        "PID": "P7",
        "Sex": "Female",
        "Age": "68.0",
        "Frontal/Lateral": "Frontal",
        "AP/PA": "AP",
        "Edema": "1.0",
        "Pneumonia": "-1.0",
        "Fracture": "0",
        "Race": "Asian",
        "Fold": "0",
    }
    read_row = only(read(root, table(row)))
    assert isinstance(read_row, Entry)
    assert (read_row.line, read_row.patient, read_row.place) == (2, "P7", row["Path"])
    assert (read_row.sex, read_row.age, read_row.view) == (Sex.FEMALE, 68, View.AP)
    assert (read_row.race, read_row.fold, read_row.split) == (Race.ASIAN, 0, "validation")
    known = {f: v for f, v in read_row.labels.items() if v is not None}
    assert known == {Finding.EDEMA: 1, Finding.PNEUMONIA: -1, Finding.FRACTURE: 0}


@pytest.mark.parametrize(
    ("word", "years"),
    [("0", 0), ("120", 120), ("047Y", 47), ("023M", 1), ("006W", 0), ("100D", 0), ("", None)],
)
def test_ages_as_tables_and_scanners_write_them(root: Path, word: str, years: int | None) -> None:
    sample = only(read(root, table({"Path": "0.png", "Age": word})))
    assert isinstance(sample, Entry)
    assert sample.age == years


def test_only_path_is_required_and_missing_columns_are_blank(root: Path) -> None:
    source = read(root, "Path\na/patient12/x.png\na/b.png\n")
    first, second = source.entries()
    assert isinstance(first, Entry)
    assert isinstance(second, Entry)
    assert (first.patient, second.patient) == ("patient12", "a/b.png")
    assert set(first.labels.values()) == {None}
    assert (first.sex, first.age, first.race, first.view, first.split) == (None,) * 5
    nameless, labelless = source.remarks()
    assert nameless.startswith("images that name no patient")
    assert nameless.endswith(": 1")
    assert labelless.endswith("every label is blank")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"AP/PA": "LL"}, "lateral"),
        ({"Frontal/Lateral": "Lateral"}, "lateral"),
        ({"Frontal/Lateral": "Oblique"}, "oblique"),
        ({"AP/PA": "LAO"}, "oblique"),
        ({"Split": "holdout"}, "Split"),
        ({"Fold": "-2"}, "Fold"),
        ({"Fold": "128"}, "Fold"),
        ({"No Finding": "1", "Edema": "1"}, "'No Finding' is 1 beside Edema"),
        ({"Path": ""}, "blank"),
        ({"Path": "./"}, "usable"),
        ({"Path": "/etc/passwd"}, "below the image root"),
        ({"Path": "../table.csv"}, "below the image root"),
        ({"Path": "a/../../b.png"}, "below the image root"),
        ({"Path": "x" * 1001}, "usable"),
    ],
)
def test_an_unusable_row_is_reported_with_its_line_and_reason(
    root: Path, change: dict[str, str], reason: str
) -> None:
    rows = [{"Path": "0.png"}, {"Path": "1.png", **change}, {"Path": "2.png"}]
    first, bad, last = read(root, table(*rows, columns=ALL_COLUMNS)).entries()
    assert isinstance(bad, Rejected)
    assert bad.line == 3
    assert reason in bad.reason
    assert isinstance(first, Entry)
    assert isinstance(last, Entry)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("Age", age) for age in ("121", "-1", "old", "1e1", "40.5", "120+", "121Y", "058 Y")),
        *(("Sex", sex) for sex in ("male-ish", "X", "other", "1")),
        *(("Edema", label) for label in ("2", "yes", "True", "0.5", "1e0", "-", "u", "--1")),
        ("Race", "Martian"),
        ("Ethnicity", "Klingon"),
        ("AP/PA", "XX"),
        ("Frontal/Lateral", "sideways"),
    ],
)
def test_one_value_that_cannot_be_read_costs_that_value_and_is_counted(
    root: Path, column: str, value: str
) -> None:
    words = ("a", "F", "50", "Frontal", "AP", "1", "0", "Asian", "hispanic")
    names = (*COLUMNS[1:6], "Edema", "Fracture", "Race", "Ethnicity")
    row = dict(zip(names, words, strict=True))
    good = only(read(root, table({"Path": "0.png", **row})))
    source = read(root, table({"Path": "0.png", **row, column: value}), patients="named")
    sample = only(source)
    assert isinstance(sample, Entry)
    assert isinstance(good, Entry)

    def said(entry: Entry) -> dict[str, Any]:
        about = (entry.age, entry.sex, entry.race, entry.ethnicity, entry.view)
        names = ("Age", "Sex", "Race", "Ethnicity", "AP/PA")
        return {**dict(zip(names, about, strict=True)), **entry.labels}

    expected = said(good) | ({column: None} if column != "Frontal/Lateral" else {})
    assert said(sample) == expected
    (remark,) = source.remarks()
    assert remark.startswith(f"values of {column} that were left blank")
    assert f": 1 ({value!r})" in remark


@pytest.mark.parametrize("word", [*sorted(MISSING), "NaN", "None", "NA", "Unknown"])
def test_words_for_a_missing_value_are_blanks(root: Path, word: str) -> None:
    row = {name: word for name in ALL_COLUMNS if name != "Path"}
    text = table({"Path": "patient7/0.png", **row}, columns=ALL_COLUMNS)
    source = read(root, text, patients="named")
    sample = only(source)
    assert isinstance(sample, Entry)
    assert sample.patient == "patient7"
    assert {sample.sex, sample.age, sample.race, sample.ethnicity, sample.view} == {None}
    assert {sample.fold, sample.split, *sample.labels.values()} == {None}
    assert source.remarks() == []


@pytest.mark.parametrize(
    ("word", "value"),
    [("1.00", 1), ("0.000", 0), ("-1.00", -1), ("+1", 1), (" 1 ", 1), ("-0.0", 0)],
)
def test_a_label_is_a_number_however_many_zeros_it_has(root: Path, word: str, value: int) -> None:
    sample = only(read(root, table({"Path": "0.png", "PID": "a", "Edema": word})))
    assert isinstance(sample, Entry)
    assert sample.labels[Finding.EDEMA] == value


def test_the_examples_of_unusable_values_are_few_and_short(root: Path) -> None:
    rows = [{"Path": f"{n}.png", "PID": n, "Age": f"{n}" * 60} for n in range(1, 8)]
    source = read(root, table(*rows), patients="named")
    assert len(source.usable()) == 7
    (remark,) = source.remarks()
    assert ": 7 (" in remark
    assert len(remark) < 250
    assert source.usable()  # read again, counted anew
    assert source.remarks() == [remark]


@pytest.mark.parametrize(
    ("plane", "position", "view"),
    [
        ("Frontal", "LL", None),
        ("Frontal", "RL", None),
        ("Frontal", "AP", View.AP),
        ("Frontal", "", None),
        ("", "frontal", None),
        ("nan", "PA", View.PA),
    ],
)
def test_a_frontal_image_is_frontal_whatever_its_position_says(
    root: Path, plane: str, position: str, view: View | None
) -> None:
    row = {"Path": "0.png", "PID": "a", "Frontal/Lateral": plane, "AP/PA": position}
    source = read(root, table(row), patients="named")
    sample = only(source)
    assert isinstance(sample, Entry)
    assert sample.view is view
    assert bool(source.remarks()) == (position in {"LL", "RL"})


def test_a_fold_states_the_split_of_a_row_whose_split_is_blank(root: Path) -> None:
    text = "Path,PID,Split,Fold\na.png,a,,0\nb.png,b,,3\nc.png,c,Testing,3\nd.png,d,nan,\n"
    splits = [sample.split for sample in read(root, text, patients="named").usable()]
    assert splits == ["validation", "train", "test", None]


def test_a_number_is_the_same_patient_with_and_without_a_point(root: Path) -> None:
    samples = read(root, "Path,PID\na.png,17\nb.png,17.0\nc.png,17.5\n").usable()
    assert [sample.patient for sample in samples] == ["17", "17", "17.5"]


@pytest.mark.parametrize(
    "spelling",
    [
        "Mu\u0308ller 7",
        " M\u00fcller  7 ",
        "M\u00fcller\u200b 7",
        "\ufeffM\u00fcller\u00a07",
        '"M\u00fcller\n7"',
    ],
)
def test_a_name_is_the_same_patient_however_its_letters_are_written(
    root: Path, spelling: str
) -> None:
    samples = read(root, f"Path,PID\na.png,M\u00fcller 7\nb.png,{spelling}\n").usable()
    assert [sample.patient for sample in samples] == ["M\u00fcller 7", "M\u00fcller 7"]


@pytest.mark.parametrize("other", ["0017", "PATIENT17", "patient17/b.png"])
def test_names_that_may_be_of_one_patient_are_told(root: Path, other: str) -> None:
    row = {"Path": other, "PID": ""} if "/" in other else {"Path": "b.png", "PID": other}
    source = read(root, table({"Path": "a.png", "PID": "17"}, row, {"Path": "c", "PID": "18"}))
    assert len({sample.patient for sample in source.usable()}) == 3
    assert any(told.endswith("look whether they are: 2") for told in source.remarks())
    assert not any("17" in told for told in source.remarks())


def test_patients_who_are_rounded_numbers_are_told(root: Path) -> None:
    source = read(root, "Path,PID\na.png,1.23457E+15\nb.png,12e5\n")
    assert len(source.usable()) == 2
    assert any(told.endswith("may have become one: 1") for told in source.remarks())


def test_a_patient_of_both_sexes_is_told(root: Path) -> None:
    source = read(root, "Path,PID,Sex\na.png,1,F\nb.png,1,M\nc.png,2,F\nd.png,2,\n")
    assert len(source.usable()) == 4
    assert any(
        told.startswith("patients whose images are said to be of a woman and of a man")
        and told.endswith(": 1")
        for told in source.remarks()
    )


def test_folders_may_be_separated_as_windows_does(root: Path) -> None:
    text = "Path\ntrain\\patient7\\a.png\ntrain/patient7/./b.png\n..\\patient8\\a.png\n"
    source = read(root, text, patients="named")
    found = [(sample.place, sample.patient) for sample in source.usable()]
    assert found == [("train/patient7/a.png", "patient7"), ("train/patient7/b.png", "patient7")]
    (outside,) = source.rejected()
    assert "must stay below" in outside.reason


@pytest.mark.parametrize("column", ["Frontal/Lateral", "AP/PA"])
@pytest.mark.parametrize(
    ("words", "lateral"),
    [
        *(("Left Lateral", True), ("lateral view", True), ("LLAT", True), ("Lat.", True)),
        *(("Chest, right lateral", True), ("Lateral decubitus", False), ("PA LAT", False)),
        *(("left anterior oblique", True), ("Oblique (PA)", True)),
        *(("bilateral", False), ("left", False), ("L/R", False), ("L", True)),
    ],
)
def test_words_that_describe_a_lateral_or_oblique_view_are_one(
    root: Path, column: str, words: str, lateral: bool
) -> None:
    row = only(read(root, table({"Path": "a.png", "PID": "a", column: words})))
    assert isinstance(row, Rejected) == lateral


def test_support_devices_may_stand_beside_no_finding(root: Path) -> None:
    row = {"Path": "0.png", "No Finding": 1, "Support Devices": 1}
    assert isinstance(only(read(root, table(row))), Entry)


def test_a_repeated_path_is_rejected_however_it_is_spelt(root: Path) -> None:
    rows = list(read(root, "Path\na/0.png\n./a//0.png\n").entries())
    assert rows[1] == Rejected(3, "the same picture as line 2")


def test_lines_count_as_an_editor_counts_them(root: Path) -> None:
    text = 'Path,PID\n\n"0.png","two\nlines"\n1.png\n2.png,p,more\n3.png,p\n'
    rows = list(read(root, text).entries())
    assert [row.line for row in rows] == [3, 5, 6, 7]
    assert [type(row) for row in rows] == [Entry, Rejected, Rejected, Entry]


def test_a_source_that_brings_its_split_keeps_it_and_a_patient_stays_in_one(root: Path) -> None:
    columns = ["Path", "PID", "Split", "Fold"]
    rows = [
        {"Path": "0.png", "PID": "a", "Split": "valid", "Fold": 3},
        {"Path": "1.png", "PID": "a", "Split": ""},
        {"Path": "2.png", "PID": "a", "Split": "test"},
        {"Path": "3.png", "PID": "b", "Split": "Test"},
        {"Path": "4.png", "PID": "b", "Split": "holdout"},
    ]
    source = read(root, table(*rows, columns=columns), patients="named")
    a, silent, against, b, unknown = source.entries()
    assert [r.split for r in (a, silent, b) if isinstance(r, Entry)] == ["validation", None, "test"]
    assert isinstance(against, Rejected)
    assert "validation" in against.reason
    assert isinstance(unknown, Rejected)
    labelless, splits, left_out = source.remarks()
    assert left_out.endswith("into another split: 1")
    assert labelless.endswith("every label is blank")
    assert splits == "the source states the split of 2 patients"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", ColumnsMissing),
        ("Picture of,Sex\n", ColumnsMissing),
        ("file name,image_path\n", NotCsv),
        ("Path,patient,subject_id\n", NotCsv),
        ("Path,Sex,Sex\n", NotCsv),
        (b"\xff\xfeP\x00a\x00", NotCsv),
        ('"Path\n', NotCsv),
    ],
)
def test_a_file_that_is_no_such_csv_is_refused_by_its_header(
    root: Path, text: str | bytes, error: type[SourceUnusable]
) -> None:
    with pytest.raises(error):
        read(root, text)


def test_a_byte_order_mark_and_spaces_in_the_header_are_no_matter(root: Path) -> None:
    assert isinstance(only(read(root, b"\xef\xbb\xbfPath, PID \r\n0.png,a\r\n")), Entry)


# ---------------------------------------------------------------- columns

SPELLINGS = {
    "Path": ["path", "FileName", "image_path", "Image Index"],
    "PID": ["pid", "PatientID", "patient_id", "Patient ID", "subject_id", "patientId", "MRN"],
    "Sex": ["sex", "Gender", "Patient Gender", "patient_sex"],
    "Age": ["age", "AGE", "Patient Age", "age_at_study"],
    "Race": ["race", "RACE", "PRIMARY_RACE"],
    "Ethnicity": ["ETHNICITY", "ethnicity "],
    "AP/PA": ["View", "ap_pa", "AP.PA", "View Position", "ViewPosition"],
    "Split": ["split", "Set", "SPLIT", "partition"],
    "Edema": ["edema", "EDEMA", "Oedema", "Pulmonary edema"],
    "Pleural Effusion": ["Pleural effusion", "Pleural_Effusion", "pleural.effusion", "Effusion"],
    "No Finding": ["No finding", "no_finding", "NoFinding"],
    "Enlarged Cardiomediastinum": ["enlarged_cardiomediastinum", "Enlarged Cardiom."],
}
WORDS = dict(
    zip(
        SPELLINGS,
        ("0.png", "a", "F", "50", "Asian", "Hispanic", "PA", "test", *"1001"),
        strict=True,
    )
)


@pytest.mark.parametrize(
    ("column", "spelling"), [(c, each) for c, spellings in SPELLINGS.items() for each in spellings]
)
def test_a_column_is_found_however_it_is_written(root: Path, column: str, spelling: str) -> None:
    expected = only(read(root, table(WORDS, columns=list(WORDS)), patients="named"))
    names = [spelling if name == column else name for name in WORDS]
    row = dict(zip(names, WORDS.values(), strict=True))
    source = read(root, table(row, columns=names), patients="named")
    assert only(source) == expected
    (columns, _) = source.remarks()
    renamed = f"columns that were read under another name: {spelling.strip()!r} as {column}"
    assert columns == f"table.csv: {renamed}"


def test_what_is_not_read_is_told_before_anything_is_read(root: Path) -> None:
    source = read(root, "Path,PID,Edema,Weight,weight,\n0.png,a,1,70,71,5\n", patients="named")
    (told,) = source.remarks()
    assert told == "table.csv: columns that were not read: 'Weight', 'weight', ''"
    assert source.usable()
    assert source.remarks() == [told]


def test_the_exact_name_goes_before_another_spelling_and_that_before_a_synonym(root: Path) -> None:
    text = "Path,Subject ID,patient_id,PID,pid,edema,Oedema\n0.png,no,no,yes,no,1,0\n"
    source = read(root, text, patients="named")
    sample = only(source)
    assert isinstance(sample, Entry)
    assert (sample.patient, sample.labels[Finding.EDEMA]) == ("yes", 1)
    assert "not read: 'Subject ID', 'patient_id', 'pid', 'Oedema'" in " ".join(source.remarks())


@pytest.mark.parametrize("columns", ["edema,EDEMA", "patient_id,subject", "View,ViewPosition"])
def test_two_columns_that_could_be_one_are_refused(root: Path, columns: str) -> None:
    with pytest.raises(NotCsv, match="several columns that could be"):
        read(root, f"Path,{columns}\n")


def test_a_table_that_names_no_patient_is_refused_unless_that_is_said(root: Path) -> None:
    text = "Path,Case,Age\n0.png,a,50\n1.png,a,50\n"
    with pytest.raises(PatientsUnknown, match="one_per_image") as raised:
        read(root, text, patients="named")
    assert (raised.value.field, raised.value.accepted) == ("patients", ["one_per_image"])
    source = read(root, text)
    assert [sample.patient for sample in source.usable()] == ["0.png", "1.png"]
    assert any("counted as a patient of its own" in remark for remark in source.remarks())
    paths = "Path\npatient1/0.png\npatient1/1.png\nmore.png\n"
    with pytest.raises(PatientsUnknown):
        read(root, paths, patients="named")
    named = read(root, paths.replace("more.png\n", ""), patients="named").usable()
    assert {sample.patient for sample in named} == {"patient1"}


@pytest.mark.parametrize("word", ["", "nan", "NA", "<NA>", "None", "#N/A", "unknown", "-", "?"])
def test_a_row_without_a_patient_is_left_out_and_joins_no_strangers(root: Path, word: str) -> None:
    text = f"Path,PID\n0.png,{word}\n1.png,{word}\n2.png,a\npatient7/3.png,{word}\n"
    source = read(root, text, patients="named")
    assert [sample.patient for sample in source.usable()] == ["a", "patient7"]
    assert all("names no patient" in row.reason for row in source.rejected())
    each = read(root, text).usable()
    assert [sample.patient for sample in each] == ["0.png", "1.png", "a", "patient7"]


def test_the_word_for_patients_says_when_it_changed_nothing(root: Path) -> None:
    source = read(root, "Path,PID\n0.png,a\n")
    assert source.usable()
    assert any("changed nothing" in remark for remark in source.remarks())


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("Erguss", ("ja", "nein")),
        ("effusion_present", ("1", "0")),
        ("label_Edema", ("1.0", "")),
        ("Finding Labels", ("Edema|Mass", "No Finding")),
        ("diagnosis", ("PNEUMONIA", "NORMAL")),
        ("Target", ("True", "False")),
    ],
)
def test_a_table_whose_labels_are_all_unread_is_refused(
    root: Path, column: str, words: tuple[str, str]
) -> None:
    text = f"Path,PID,{column}\n0.png,a,{words[0]}\n1.png,b,{words[1]}\n"
    with pytest.raises(LabelsUnread) as raised:
        read(root, text, patients="named")
    assert repr(column) in str(raised.value)
    one = text.replace("PID", "PID,Edema").replace(",a,", ",a,1,").replace(",b,", ",b,,")
    assert len(read(root, one, patients="named").usable()) == 2


def test_a_table_whose_every_label_is_another_word_is_refused(root: Path) -> None:
    text = "Path,PID,Edema\n0.png,a,present\n1.png,b,absent\n2.png,c,\n"
    with pytest.raises(LabelsUnread, match="Not one of 2 labels"):
        read(root, text, patients="named").usable()
    assert len(read(root, f"{text}3.png,d,1\n", patients="named").usable()) == 4


def test_columns_that_are_no_labels_do_not_stop_a_table_without_any(root: Path) -> None:
    text = "Path,PID,Weight,Ward,Label version\n0.png,a,71,North,7\n"
    assert len(read(root, text, patients="named").usable()) == 1


FIELD = Path(__file__).parents[3] / "shared" / "field"
needs_field = pytest.mark.skipif(not FIELD.exists(), reason="no ../shared/field beside this tree")


@needs_field
def test_patients_of_a_table_that_calls_them_patient_id_stay_together() -> None:
    fields = {"format": "chexpert_csv", "name": "x", "site": "field", "images": False}
    folder = FIELD / "03_columns_not_read"
    leak = Read(CsvImport.model_validate({**fields, "path": str(folder / "leak.csv")}), folder)
    samples = leak.usable()
    assert (len(samples), len({sample.patient for sample in samples})) == (90, 30)
    path = str(folder / "lowercase.csv")
    lower = Read(CsvImport.model_validate({**fields, "path": path}), folder)
    for sample in lower.usable():
        assert (sample.sex, sample.age, sample.labels[Finding.PLEURAL_EFFUSION]) == (
            "Female",
            50,
            1,
        )
        assert sample.split in {"train", "test"}
    assert all("the patient is in" in row.reason for row in lower.rejected())


@needs_field
@pytest.mark.parametrize(("name", "count"), [("ages.csv", 40), ("labels.csv", 47)])
def test_one_word_loses_no_image(name: str, count: int) -> None:
    folder = FIELD / "12_one_word_loses_image"
    fields = {"format": "chexpert_csv", "name": "x", "path": str(folder / name), "site": "field"}
    source = Read(CsvImport.model_validate(fields), folder)
    assert (len(source.usable()), source.rejected()) == (count, [])
    assert any(remark.startswith("values of") for remark in source.remarks())


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("../table.csv", PathOutsideRoots),
        ("a/../../root/table.csv", PathOutsideRoots),
        ("/etc/passwd", PathOutsideRoots),
        ("/no/such/file", PathOutsideRoots),
        ("out.csv", PathOutsideRoots),
        ("a\x00b", PathOutsideRoots),
        ("nothing.csv", FileMissing),
        ("folder", FileMissing),
        ("pipe", FileMissing),
    ],
)
def test_no_table_is_read_but_a_file_below_the_roots(
    root: Path, path: str, error: type[SourceUnusable]
) -> None:
    outside = root.parent / "secret.csv"
    outside.write_text("Path\n")
    (root / "out.csv").symlink_to(outside)
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe")
    with pytest.raises(error):
        read(root, "Path\n", path=path)


def test_an_absolute_path_below_a_root_is_as_good_as_a_relative_one(root: Path) -> None:
    assert only(read(root, "Path\n0.png\n", path=str(root / "table.csv")))


def test_without_roots_nothing_can_be_imported(root: Path) -> None:
    (root / "table.csv").write_text("Path\n")
    request = CsvImport(format="chexpert_csv", name="x", path=str(root / "table.csv"), site="s")
    with pytest.raises(PathOutsideRoots):
        Read(request)


def test_pictures_outside_the_roots_are_not_opened(root: Path) -> None:
    outside = root.parent / "secret.png"
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(outside)
    (root / "link.png").symlink_to(outside)
    (root / "away").symlink_to(root.parent)
    (root / "inside.png").symlink_to(root / "real.png")
    outside.rename(root / "real.png")
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(outside)
    os.mkfifo(root / "pipe.png")
    source = read(root, "Path\n")
    places = ["link.png", "away/secret.png", "pipe.png", "gone.png", ".", "inside.png"]
    *refused, inside = source.pictures(places)
    assert all(isinstance(p, Unreadable) for p in refused)
    assert isinstance(inside, np.ndarray)


def test_pictures_are_found_below_the_image_root(root: Path) -> None:
    (root / "images" / "a").mkdir(parents=True)
    pixels = draw(population(PhantomSite.A, 1, seed=1)[:1], 64)[0]
    Image.fromarray(pixels).save(root / "images" / "a" / "0.jpg", quality=90)
    source = read(root, "Path\na/0.jpg\n", image_root="images", size_px=64)
    (picture,) = source.pictures(["a/0.jpg"])
    assert isinstance(picture, np.ndarray)
    assert np.corrcoef(picture.ravel(), pixels.ravel())[0, 1] > 0.98


# ---------------------------------------------------------------- whatever is written in it

words = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["1", "0", "-1", "1.0", "", "Male", "F", "AP", "../x", "/x", "Lateral", "7"]),
)


@given(row=st.dictionaries(st.sampled_from(ALL_COLUMNS), words))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_row_is_of_the_vocabulary_or_refused(row: dict[str, str]) -> None:
    try:
        sample = entry(2, row, UnusableValues())
    except RowUnusable:
        return
    assert set(sample.labels) == set(FINDINGS)
    assert set(sample.labels.values()) <= {1, 0, -1, None}
    assert sample.age is None or 0 <= sample.age <= 120
    assert sample.sex is None or sample.sex in Sex
    assert sample.patient
    joined = os.path.normpath(f"/root/{sample.place}")
    assert joined.startswith("/root/")


@given(lines=st.lists(st.lists(words, min_size=1, max_size=4), max_size=8))
@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
def test_every_line_is_an_entry_or_a_rejection(root: Path, lines: list[list[str]]) -> None:
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(["Path", "PID", "Sex"])
    writer.writerows(lines)
    try:
        rows = list(read(root, sink.getvalue()).entries())
    except (NotCsv, UnicodeEncodeError):
        return  # zero bytes and lone surrogates
    assert len(rows) == len(lines)
    numbers = [row.line for row in rows]
    assert numbers == sorted(set(numbers))
