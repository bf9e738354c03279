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
    NotCsv,
    PathOutsideRoots,
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
    """The source of a CSV with this text in `root`."""
    path = root / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    fields = {
        "format": "chexpert_csv",
        "name": "x",
        "path": "table.csv",
        "site": "s",
        "size_px": 32,
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
    (remark,) = source.remarks()
    assert remark.startswith("images that name no patient")
    assert remark.endswith(": 1")


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
    source = read(root, table({"Path": "0.png", **row, column: value}))
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
    source = read(root, table({"Path": "patient7/0.png", **row}, columns=ALL_COLUMNS))
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
    source = read(root, table(*rows))
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
    source = read(root, table(row))
    sample = only(source)
    assert isinstance(sample, Entry)
    assert sample.view is view
    assert bool(source.remarks()) == (position in {"LL", "RL"})


def test_a_number_is_the_same_patient_with_and_without_a_point(root: Path) -> None:
    samples = read(root, "Path,PID\na.png,17\nb.png,17.0\nc.png,17.5\n").usable()
    assert [sample.patient for sample in samples] == ["17", "17", "17.5"]


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
    source = read(root, table(*rows, columns=columns))
    a, silent, against, b, unknown = source.entries()
    assert [r.split for r in (a, silent, b) if isinstance(r, Entry)] == ["validation", None, "test"]
    assert isinstance(against, Rejected)
    assert "validation" in against.reason
    assert isinstance(unknown, Rejected)
    assert source.remarks() == ["the source states the split of 2 patients"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", ColumnsMissing),
        ("path,Sex\n", ColumnsMissing),
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
