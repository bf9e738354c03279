"""VinDr-CXR, read from small folders in exactly its layout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from api_schemas.findings import Finding
from services.datasets.importers.source import (
    ColumnsMissing,
    FileMissing,
)
from tests.datasets import trees
from tests.datasets.reading import Read, opened

FIELD = Path(__file__).parents[3] / "shared" / "field"
NAMES = trees.VINDR[2:]


def reading(image: str, reader: str, *found: str, **values: Any) -> dict[str, Any]:
    return {"image_id": image, "rad_id": reader, **{n: int(n in found) for n in NAMES}, **values}


def readings(image: str, *values: Any) -> list[dict[str, Any]]:
    """One reading by each of R1, R2, ... with this value for Edema."""
    return [reading(image, f"R{n}", Edema=value) for n, value in enumerate(values, start=1)]


def vindr(
    root: Path,
    train: Sequence[dict[str, Any]],
    test: Sequence[dict[str, Any]] = (),
    columns: Sequence[str] = trees.VINDR,
) -> Read:
    folder = root / "vindr" / "annotations"
    for name, rows, there in (
        ("train", train, columns),
        ("test", test, [c for c in trees.VINDR if c != "rad_id"]),
    ):
        kept = [{c: row[c] for c in there} for row in rows]
        trees.write(folder / f"image_labels_{name}.csv", there, kept)
    return opened(root, "vindr", path="vindr")


def test_vindr_counts_three_readings_as_one_label(tmp_path: Path) -> None:
    train = [
        reading("a1", "R1", "Pleural effusion", "Rib fracture"),
        reading("a1", "R2", "Pleural effusion", "Nodule/Mass"),
        reading("b2", "R1", "No finding"),
        reading("a1", "R3"),
        reading("b2", "R2", "No finding"),
        reading("b2", "R3", "No finding"),
    ]
    source = vindr(tmp_path, train, [reading("c3", "", "Infiltration")])
    a1, b2, c3 = source.usable()
    assert (a1.place, a1.line, b2.line, c3.place) == ("train/a1.dicom", 2, 4, "test/c3.dicom")
    assert a1.labels[Finding.PLEURAL_EFFUSION] == 1
    assert a1.labels[Finding.FRACTURE] == a1.labels[Finding.LUNG_LESION] == -1
    assert a1.labels[Finding.EDEMA] == 0
    assert a1.labels[Finding.SUPPORT_DEVICES] is None
    assert b2.labels[Finding.NO_FINDING] == 1
    assert (c3.labels[Finding.LUNG_OPACITY], c3.split) == (1, "test")
    assert not any("readers" in told or "readings" in told for told in source.remarks())


def test_readers_who_use_different_words_for_a_finding_agree(tmp_path: Path) -> None:
    train = [
        *(reading("a1", "R1", "Lung Opacity"), reading("a1", "R2", "Infiltration")),
        *(reading("a1", "R3"), reading("b2", "R1", "Rib fracture")),
        *(reading("b2", "R2", "Clavicle fracture"), reading("b2", "R3")),
        *(reading("c3", "R1", "Infiltration", "Lung Opacity"), reading("c3", "R2")),
        reading("c3", "R3"),
    ]
    a1, b2, c3 = vindr(tmp_path, train).usable()
    assert a1.labels[Finding.LUNG_OPACITY] == b2.labels[Finding.FRACTURE] == 1
    assert c3.labels[Finding.LUNG_OPACITY] == -1


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((1, 1, 0), 1),
        ((1, 0, 0), -1),
        ((0, 0, 0), 0),
        (("1.0", "1.00", "0.0"), 1),
        ((1,), 1),
        ((1, 0), -1),
        ((1, 1, 0, 0), -1),
        ((1, 1, 1, 0, 0), 1),
        (("yes", 1, 0), None),
        (("yes", 1, 1), 1),
        (("", 0, 0), None),
        (("-1", 0, 0), None),
    ],
)
def test_more_than_half_of_the_readers_decide(
    tmp_path: Path, values: tuple[Any, ...], verdict: int | None
) -> None:
    source = vindr(tmp_path, readings("a1", *values))
    (sample,) = source.usable()
    assert sample.labels[Finding.EDEMA] == verdict
    told = " ".join(source.remarks())
    assert ("values of Edema" in told) == bool({"yes", "-1"} & set(values))
    assert ("instead of 3 readers" in told) == (len(values) != 3)


def test_who_reads_an_image_twice_counts_once(tmp_path: Path) -> None:
    again = [reading("a1", "R1", "Edema"), reading("a1", "R1", "Edema"), reading("a1", "R2")]
    changed = [reading("b2", "R1", "Edema"), reading("b2", "R1"), reading("b2", "R2")]
    source = vindr(tmp_path, [*again, reading("a1", "R3"), *changed, reading("b2", "R3")])
    a1, b2 = source.usable()
    assert (a1.labels[Finding.EDEMA], b2.labels[Finding.EDEMA]) == (-1, None)
    assert any("read the image before, counted as one: 2" in told for told in source.remarks())


def test_a_reader_or_image_written_in_two_ways_is_one(tmp_path: Path) -> None:
    train = [
        *(reading("a1", "1", "Edema"), reading("a1", "1.0", "Edema"), reading("./a1", "2")),
        *(reading("a1.dicom", "3"), reading("", "1"), reading("", "2"), reading("../b", "1")),
    ]
    source = vindr(tmp_path, train)
    (a1,) = source.usable()
    assert (a1.place, a1.labels[Finding.EDEMA]) == ("train/a1.dicom", -1)
    assert [row.line for row in source.rejected()] == [6, 7, 8]
    assert not any("instead of 3 readers" in told for told in source.remarks())


def test_readings_without_a_reader_are_of_different_people(tmp_path: Path) -> None:
    nameless = [c for c in trees.VINDR if c != "rad_id"]
    source = vindr(tmp_path, readings("a1", 1, 1, 0), columns=nameless)
    assert source.usable()[0].labels[Finding.EDEMA] == 1
    assert any("without rad_id" in told and ": 3" in told for told in source.remarks())


def test_an_image_of_both_tables_is_in_one_split(tmp_path: Path) -> None:
    source = vindr(tmp_path, readings("a1", 1, 1, 0), [reading("a1", "")])
    assert [sample.split for sample in source.usable()] != ["test"]
    (bad,) = source.rejected()
    assert "split test" in bad.reason


def test_a_missing_label_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(ColumnsMissing, match="'Edema'"):
        vindr(tmp_path, readings("a1", 1), columns=[c for c in trees.VINDR if c != "Edema"])


def test_a_folder_without_annotations_is_no_vindr(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileMissing, match=r"no annotations/image_labels_train\.csv"):
        opened(tmp_path, "vindr", path="empty")


@pytest.mark.skipif(not FIELD.exists(), reason="no inputs from use (../shared/field)")
def test_the_inputs_from_use_are_read_as_expected() -> None:
    source = opened(FIELD, "vindr", path="09_vindr_two_words/1.0.0")
    samples = source.usable()
    found = [{f: v for f, v in sample.labels.items() if v} for sample in samples]
    assert found[:5] == [
        *({Finding.LUNG_OPACITY: 1}, {Finding.LUNG_OPACITY: 1}, {Finding.FRACTURE: 1}),
        *({Finding.LUNG_LESION: 1}, {Finding.LUNG_OPACITY: -1}),
    ]
    assert found[5] == {Finding.NO_FINDING: 1, Finding.CARDIOMEGALY: -1}
    assert samples[8].labels[Finding.EDEMA] is None
