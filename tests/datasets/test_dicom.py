"""DICOM: the picture as it is meant to be seen, a few words of the header, and what is refused."""

import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from api_schemas.datasets import RejectionCode
from api_schemas.findings import FINDINGS, Sex, View
from api_schemas.imports import DicomImport
from services.datasets.importers import dicom
from services.datasets.importers.source import Preparation, Rejected, Unreadable
from tests.datasets.dicoms import CANARY, compressed, lossless_jpeg, save
from tests.datasets.dicoms import dicom as made
from tests.datasets.reading import Read, opened, prepared
from tests.datasets.trees import phantoms

FIELD = Path(__file__).parents[3] / "shared" / "field" / "12_one_word_loses_image"
HOW = Preparation(48, "paper")
PIXELS = phantoms(1, 48)[0]
DEEP = PIXELS.astype(np.uint16) * 16


def content(dataset: Dataset) -> bytes:
    sink = io.BytesIO()
    dataset.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def shown(dataset: Dataset) -> np.ndarray:
    found = prepared(content(dataset), HOW)
    assert isinstance(found, np.ndarray), found
    return found


def refused(dataset: Dataset) -> Unreadable:
    found = prepared(content(dataset), HOW)
    assert isinstance(found, Unreadable)
    return found


PLAIN = shown(made(PIXELS))


def test_a_plain_file_shows_its_pixels() -> None:
    assert np.corrcoef(PLAIN[:, 6:42].ravel(), PIXELS.ravel())[0, 1] > 0.9999


@pytest.mark.parametrize("kind", ["run lengths", "JPEG 2000", "JPEG-LS"])
@pytest.mark.parametrize("pixels", [PIXELS, DEEP], ids=["8 bits", "16 bits"])
def test_every_lossless_transfer_syntax_shows_the_same(kind: str, pixels: np.ndarray) -> None:
    assert np.array_equal(shown(compressed(made(pixels), kind)), PLAIN)


@pytest.mark.parametrize("pixels", [PIXELS, DEEP], ids=["8 bits", "16 bits"])
def test_jpeg_without_loss_shows_the_same(tmp_path: Path, pixels: np.ndarray) -> None:
    lossless_jpeg(save(made(pixels), tmp_path / "a.dcm"), tmp_path / "b.dcm")
    packed = (tmp_path / "b.dcm").read_bytes()
    assert b"1.2.840.10008.1.2.4.70" in packed
    assert np.array_equal(prepared(packed, HOW), PLAIN)  # pyright: ignore[reportArgumentType]


def test_jpeg_shows_nearly_the_same() -> None:
    apart = np.abs(shown(compressed(made(PIXELS), "JPEG")).astype(int) - PLAIN)
    assert apart.mean() < 3


def _palette_of(values: list[int]) -> Sequence:
    lut = Dataset()
    lut.LUTDescriptor = [len(values), 0, 16]
    lut.LUTData = np.array(values, np.uint16).tobytes()
    return Sequence([lut])


@pytest.mark.parametrize(
    ("pixels", "tags"),
    [
        (255 - PIXELS, {"PhotometricInterpretation": "MONOCHROME1"}),
        (DEEP, {"BitsStored": 12, "HighBit": 11}),
        (DEEP.astype(np.int16) - 1000, {"RescaleSlope": 2, "RescaleIntercept": -3}),
        (
            DEEP,
            {"RescaleSlope": -1, "RescaleIntercept": 0, "PhotometricInterpretation": "MONOCHROME1"},
        ),
        (PIXELS[:, ::-1], {"PatientOrientation": ["R", "F"]}),
        (PIXELS[::-1], {"PatientOrientation": ["L", "H"]}),
        (PIXELS[::-1, ::-1], {"PatientOrientation": ["R", "H"]}),
        (np.ascontiguousarray(PIXELS.T), {"PatientOrientation": ["F", "L"]}),
        (PIXELS, {"PatientOrientation": ["L", "F"]}),
        (PIXELS, {"PatientOrientation": ["A", "F"]}),
    ],
    ids=[
        "inverted",
        "12 of 16 bits",
        "signed and rescaled",
        "rescaled and inverted",
        "mirrored",
        "upside down",
        "both",
        "lying",
        "upright",
        "lateral",
    ],
)
def test_the_header_says_how_it_is_meant(pixels: np.ndarray, tags: dict[str, Any]) -> None:
    if tags.get("RescaleSlope") == -1:
        tags = tags | {"BitsStored": 16}
    assert np.array_equal(shown(made(pixels, **tags)), PLAIN)


def test_a_window_clips() -> None:
    level = int(np.median(PIXELS))
    windowed = shown(made(PIXELS, WindowCenter=level, WindowWidth=40))
    dark, light = level - 22 > PIXELS, level + 22 < PIXELS
    assert (windowed[:, 6:42][dark] == 0).all()
    assert (windowed[:, 6:42][light] == 255).all()


def test_a_table_of_values_is_applied() -> None:
    table = [255 * 257 - v * 257 for v in range(256)]
    assert np.array_equal(shown(made(255 - PIXELS, VOILUTSequence=_palette_of(table))), PLAIN)


@pytest.mark.parametrize("slope", ["1E-60", "1E60", "-1E-300", "1E300"])
def test_a_slope_of_any_size_keeps_the_levels(slope: str) -> None:
    expected = 255 - PLAIN if slope.startswith("-") else PLAIN
    ours = shown(made(PIXELS, RescaleSlope=slope, RescaleIntercept="0"))
    inside = slice(6, 42)
    assert np.abs(ours[:, inside].astype(int) - expected[:, inside]).max() <= 1


def test_padding_does_not_stretch_the_levels() -> None:
    padded = DEEP.copy()
    padded[:4] = 60_000
    ours = shown(made(padded, PixelPaddingValue=60_000))
    assert ours[6:, 6:42].max() == 255
    assert (ours[:3] == 0).all()


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"Modality": "CT"}, RejectionCode.MODALITY, "'CT'"),
        ({"BurnedInAnnotation": "YES"}, RejectionCode.BURNED_IN, "burned"),
        ({"BurnedInAnnotation": "Y"}, RejectionCode.BURNED_IN, "BurnedInAnnotation is 'Y'"),
        ({"BurnedInAnnotation": "UNKNOWN"}, RejectionCode.BURNED_IN, "is 'UNKNOWN'"),
        ({"NumberOfFrames": 2}, RejectionCode.IMAGE, "NumberOfFrames is '2'"),
        ({"BitsAllocated": 32}, RejectionCode.IMAGE, "bits"),
        ({"Rows": 60_000, "Columns": 60_000}, RejectionCode.IMAGE, "megapixels"),
        ({"PixelData": b"\0\0"}, RejectionCode.IMAGE, "PixelData has 2 bytes"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, RejectionCode.COLOUR, "colour"),
    ],
)
def test_what_is_no_single_grey_radiograph_is_left_out(
    change: dict[str, Any], code: RejectionCode, words: str
) -> None:
    answer = refused(made(PIXELS, **change))
    assert (answer.code, words in answer.reason) == (code, True)


def test_colour_is_left_out() -> None:
    assert refused(made(np.stack([PIXELS] * 3, axis=2))).code is RejectionCode.COLOUR


@pytest.mark.parametrize("said", ["LL", "LLAT", "LEFT LATERAL", "LAO", "OBLIQUE PA"])
def test_a_header_that_describes_another_view_than_a_frontal_one(tmp_path: Path, said: str) -> None:
    save(made(PIXELS, ViewPosition=said), tmp_path / "pacs" / "a.dcm")
    save(made(PIXELS, ViewPosition="LATERAL DECUB"), tmp_path / "pacs" / "b.dcm")
    source = opened(tmp_path, "dicom", path="pacs", site="s")
    assert [(row.line, row.code) for row in source.rejected()] == [(1, RejectionCode.VIEW)]
    (frontal,) = source.usable()
    assert frontal.view is None
    assert any("values of ViewPosition" in told for told in source.remarks())


@pytest.mark.parametrize("preamble", [b"MZ", b"\x7fELF", b"#!/bin/sh\n", b"PK\x03\x04"])
def test_a_file_that_is_a_program_too_is_refused(preamble: bytes) -> None:
    plain = content(made(PIXELS))
    both = preamble + plain[len(preamble) :]
    answer = prepared(both, HOW)
    assert isinstance(answer, Unreadable)
    assert "program" in answer.reason


def test_a_directory_of_files_is_no_image() -> None:
    dataset = made(PIXELS)
    dataset.SOPClassUID = dicom.DICOMDIR
    assert "directory" in refused(dataset).reason


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.51", "1.2.3"])
def test_syntaxes_that_are_not_read_are_refused_before_they_are_unpacked(syntax: str) -> None:
    plain = content(made(PIXELS))
    bomb = zlib.compress(bytes(50_000_000))
    swapped = plain.replace(b"1.2.840.10008.1.2.1\x00", syntax.encode().ljust(20, b"\0")[:20])
    if len(syntax) > 20:
        dataset = made(PIXELS)
        swapped = _with_syntax(dataset, syntax)
    answer = prepared(swapped + bomb, HOW)
    assert isinstance(answer, Unreadable)
    assert "transfer syntax" in answer.reason


def _with_syntax(dataset: Dataset, syntax: str) -> bytes:
    """A file that claims a transfer syntax which its writer would refuse to write."""
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plain = content(dataset)
    old = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
    value = syntax.encode() + (b"\0" if len(syntax) % 2 else b"")
    new = b"\x02\x00\x10\x00UI" + len(value).to_bytes(2, "little") + value
    assert old in plain
    return plain.replace(old, new)


@given(at=st.integers(0, 3000), noise=st.binary(min_size=1, max_size=60))
@settings(max_examples=150, deadline=None)
def test_no_damage_escapes(at: int, noise: bytes) -> None:
    good = content(made(PIXELS))
    damaged = good[:at] + noise + good[at + len(noise) :]
    assert isinstance(prepared(damaged, HOW), Unreadable | np.ndarray)
    told = dicom.header(io.BytesIO(damaged))
    assert isinstance(told, Unreadable) or set(told) == set(dicom.HEADER)


# ---------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Read]:
    def put(**more: Any) -> Read:
        request = DicomImport(format="dicom", name="x", path="pacs", site="s", size_px=48, **more)
        return Read(request, tmp_path)

    (tmp_path / "pacs").mkdir()
    return put


def test_a_folder_of_files_becomes_samples(folder: Callable[..., Read], tmp_path: Path) -> None:
    pacs = tmp_path / "pacs"
    save(made(PIXELS), pacs / "b" / "1.dcm")
    save(made(PIXELS, PatientSex="O", PatientAge="006M", ViewPosition=""), pacs / "a" / "2")
    save(made(PIXELS, ViewPosition="LL"), pacs / "c.dcm")
    save(made(PIXELS, BurnedInAnnotation="YES"), pacs / "d.dcm")
    save(made(PIXELS, Modality="MR"), pacs / "e.dcm")
    save(made(PIXELS, PatientID=""), pacs / "f.dcm")
    save(made(PIXELS, PatientAge="300Y"), pacs / "g.dcm")
    (pacs / "h.txt").write_text("not DICOM")
    (pacs / "i.dcm").symlink_to("/etc/passwd")
    save(made(PIXELS), pacs / "j.dcm").rename(pacs / os.fsdecode(b"j\xff.dcm"))
    source = folder()
    child, woman, ageless = source.usable()
    assert (child.line, child.sex, child.age, child.view) == (1, None, 0, None)
    assert (woman.line, woman.sex, woman.age, woman.view) == (2, Sex.FEMALE, 74, View.PA)
    assert (woman.patient, woman.place) == ("CANARY-77", "b/1.dcm")
    assert woman.labels == dict.fromkeys(FINDINGS)
    assert (ageless.line, ageless.age) == (7, None)
    codes = [row.code for row in source.rejected()]
    assert codes == ["view", "burned-in", "modality", "row", "image", "image", "row"]
    assert [row.line for row in source.rejected()] == [3, 4, 5, 6, 8, 9, 10]
    age, view = source.remarks()
    assert age.startswith("values of PatientAge that were left blank")
    assert age.endswith(": 1 ('300Y')")
    assert view == ("images whose header states no view, imported with a blank one: 1")
    assert [isinstance(p, np.ndarray) for p in source.pictures(["b/1.dcm", "i.dcm"])] == [
        True,
        False,
    ]
    lateral = next(s for s in folder(laterals=True).usable() if s.line == 3)
    assert lateral.view is View.LATERAL


@pytest.mark.parametrize(
    ("said", "view"),
    [
        *(("PA", View.PA), ("ap ", View.AP), ("", None), ("FRONTAL", None), ("ERECT", None)),
        *(("LL", "view"), ("rl", "view"), ("LATERAL", "view"), ("LLO", "view"), ("RAO", "view")),
    ],
)
def test_an_unknown_view_costs_itself_and_a_lateral_or_oblique_one_the_image(
    folder: Callable[..., Read], tmp_path: Path, said: str, view: Any
) -> None:
    dataset = made(PIXELS)
    dataset.add_new("ViewPosition", "LO", said)
    save(dataset, tmp_path / "pacs" / "1.dcm")
    source = folder()
    (row,) = source.entries()
    assert row.code == "view" if isinstance(row, Rejected) else row.view == view
    assert isinstance(row, Rejected) == (view == "view")
    assert len(source.remarks()) == (said in {"", "ERECT"})


@pytest.mark.skipif(not FIELD.exists(), reason="no inputs from the field here (../shared/field)")
@pytest.mark.parametrize(
    ("name", "field", "values", "unusable"),
    [("dicom_ages", "age", 13, 16), ("dicom_sexes", "sex", 8, 7)],
)
def test_an_odd_age_or_sex_of_the_field_costs_no_image(
    name: str, field: str, values: int, unusable: int
) -> None:
    request = DicomImport(format="dicom", name="x", path=name, site="s", size_px=48)
    source = Read(request, FIELD)
    rows = source.usable()
    assert len(rows) == len(list((FIELD / name).glob("*.dcm")))
    assert sum(getattr(row, field) is not None for row in rows) == values
    (remark,) = source.remarks()
    assert f": {unusable} (" in remark


def test_no_word_of_the_header_but_the_listed_ones_is_told(tmp_path: Path) -> None:
    path = save(made(PIXELS), tmp_path / "a.dcm")
    with path.open("rb") as file:
        told = dicom.header(file)
    assert told == {
        "PatientID": "CANARY-77",
        "PatientSex": "F",
        "PatientAge": "074Y",
        "ViewPosition": "PA",
    }
    assert CANARY not in str(told)
