"""Any hospital's table, by a mapping file; and mapping files that are none."""

from pathlib import Path

import pytest

from api_schemas.findings import Ethnicity, Finding, Race, Sex, View
from services.datasets.importers.fields import RowUnusable, UnusableValues
from services.datasets.importers.mapped import read_mapping, shipped
from services.datasets.importers.source import ColumnsMissing, FileMissing, MappingUnusable
from tests.datasets import trees
from tests.datasets.reading import known, opened


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
    assert shipped() == ["emory"]
    columns = ("Path", "PID", *trees.CHEXPERT[1:], "Race", "Fold")
    row = {"Path": "a.png", "PID": 4, "Sex": "F", "Age": 50, "AP/PA": "PA", "Edema": "-1"}
    race = "African American  or Black"
    trees.write(tmp_path / "t.csv", columns, [row | {"Race": race}])
    (sample,) = opened(tmp_path, "mapped_csv", path="t.csv", mapping="emory", site="e").usable()
    assert (sample.sex, sample.race) == (Sex.FEMALE, Race.AFRICAN_AMERICAN)
    assert known(sample) == {Finding.EDEMA: -1}


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
    assert (raised.value.field, raised.value.accepted) == ("mapping", ["emory", "a file"])


@pytest.mark.timeout(60)
def test_no_pattern_takes_for_ever() -> None:
    """Tried one after the other, the ways to read this cell as the pattern wants are 2 ** 60."""
    mapping = read_mapping("columns: {Path: {from: a, pattern: '^((?:a|aa)+)$'}}")
    column = mapping.columns["Path"]
    assert column.read({"a": "a" * 80}, "Path", UnusableValues()) == "a" * 80
    with pytest.raises(RowUnusable, match="does not fit"):
        column.read({"a": "a" * 80 + "b"}, "Path", UnusableValues())


def test_a_mapping_is_a_small_text_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Path\na.png\n")
    for content, reason in ((b"#" * 40_000, "32 KiB"), (b"\xff\xfe", "UTF-8")):
        (tmp_path / "m.yaml").write_bytes(content)
        with pytest.raises(MappingUnusable, match=reason):
            opened(tmp_path, "mapped_csv", path="t.csv", mapping="m.yaml", site="s")


def test_a_table_without_a_mapped_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Path,PID\na.png,1\n")
    with pytest.raises(ColumnsMissing, match="'Sex'"):
        opened(tmp_path, "mapped_csv", path="t.csv", mapping="emory", site="e")
