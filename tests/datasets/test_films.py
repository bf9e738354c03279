"""Films against a reference that shows them pixel by pixel, over tables and random headers."""

import io
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from services.datasets.importers import dicom
from services.datasets.importers.images import Decoded
from services.datasets.importers.preparing import Prepared, prepare
from services.datasets.importers.source import Preparation, Unreadable
from tests.datasets.dicom_reference import Film, Lut
from tests.datasets.dicoms import compressed
from tests.datasets.dicoms import dicom as made

SIDE = 24
PIXEL_LIMIT = 10**6
FIELD = Path(__file__).parents[3] / "shared" / "field"
LITTLE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def shades(low: int, high: int, seed: int = 0) -> np.ndarray:
    """Values of a made-up film from `low` to `high`, both of which occur."""
    drawn = np.random.default_rng(seed).integers(low, high, (SIDE, SIDE), endpoint=True)
    drawn[0, :2] = low, high
    return drawn


def lut_item(lut: Lut, *, packed: bool, signed: bool) -> Dataset:
    item = Dataset()
    count = len(lut.entries) % 65536
    first = lut.first if signed else lut.first % 65536
    item.add_new("LUTDescriptor", "SS" if signed else "US", [count, first, lut.bits])
    if packed:
        item.add_new("LUTData", "OW", np.array(lut.entries, np.uint8).tobytes())
        if len(lut.entries) % 2:
            item["LUTData"].value += b"\0"
    else:
        item.add_new("LUTData", "OW", np.array(lut.entries, "<u2").tobytes())
    return item


def file_of(film: Film, syntax: Any = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    """The DICOM file of a film, as its header would be written."""
    dataset = made(film.cells())
    dataset.BitsStored, dataset.HighBit = film.stored, film.high
    dataset.PixelRepresentation = int(film.signed)
    dataset.PhotometricInterpretation = "MONOCHROME1" if film.monochrome1 else "MONOCHROME2"
    if film.padding is not None:
        kind = "SS" if film.signed else "US"
        dataset.add_new("PixelPaddingValue", kind, film.padding[0])
        if film.padding[0] != film.padding[1]:
            dataset.add_new("PixelPaddingRangeLimit", kind, film.padding[1])
    if film.slope is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept = film.slope, film.intercept
    packed = tags.pop("packed", False)
    if film.modality is not None:
        item = lut_item(film.modality, packed=packed, signed=film.signed)
        dataset.ModalityLUTSequence = Sequence([item])
    if film.voi is not None:
        signed = film.voi.first < 0
        dataset.VOILUTSequence = Sequence([lut_item(film.voi, packed=packed, signed=signed)])
    if film.windows:
        dataset.WindowCenter = [center for center, _ in film.windows]
        dataset.WindowWidth = [width for _, width in film.windows]
        dataset.VOILUTFunction = film.function
    for name, value in tags.items():
        setattr(dataset, name, value)
    return written(dataset, syntax)


def written(dataset: Dataset, syntax: Any = ExplicitVRLittleEndian) -> bytes:
    sink = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def shown(content: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """Levels from 0 to 1 as the importer shows a file, and its notes."""
    found = dicom.decode(content, PIXEL_LIMIT)
    assert isinstance(found, Decoded), found
    levels = found.grey.astype(np.float64)
    return (levels - levels.min()) / (levels.max() - levels.min()), found.notes


def assert_shown_as(content: bytes, film: Film, tolerance: float = 1e-6) -> None:
    levels, notes = shown(content)
    assert notes == ()
    apart = float(np.abs(levels - film.levels()).max())
    assert apart <= tolerance


def refusal(content: bytes) -> str:
    found = dicom.decode(content, PIXEL_LIMIT)
    assert isinstance(found, Unreadable)
    return found.reason


# ---------------------------------------------------------------- random headers


def in_range(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, max(low, high))


@st.composite
def luts(draw: st.DrawFn, low: int, high: int) -> Lut:
    bits = draw(st.sampled_from([8, 9, 10, 12, 14, 16]))
    count = draw(st.sampled_from([2, 17, 255, 256, 257, 1000, 4096]))
    middle = (low + high) // 2
    first = draw(in_range(max(-32768, low - 500, middle - count), min(32767, middle)))
    shape = draw(st.sampled_from(["linear", "curved", "falling"]))
    x = np.linspace(0, 1, count)
    x = {"linear": x, "curved": x**2, "falling": 1 - x}[shape]
    return Lut(first, bits, np.rint(x * ((1 << bits) - 1)).astype(int).tolist())


@st.composite
def films(draw: st.DrawFn) -> Film:
    allocated = draw(st.sampled_from([8, 16, 16, 16]))
    stored = draw(st.integers(4, allocated))
    high = draw(st.integers(stored - 1, allocated - 1))
    signed = draw(st.booleans())
    lowest = -(1 << (stored - 1)) if signed else 0
    highest = lowest + (1 << stored) - 1
    low = draw(in_range(lowest, highest - 8))
    values = shades(low, draw(in_range(low + 4, highest)), draw(st.integers(0, 99)))
    more: dict[str, Any] = {}
    padding = draw(st.sampled_from(["none", "none", "value", "range"]))
    if padding != "none":
        first = draw(in_range(lowest, highest))
        last = first if padding == "value" else draw(in_range(first, min(highest, first + 40)))
        values[:, :3] = first
        more["padding"] = (first, last) if draw(st.booleans()) else (last, first)
    modality = draw(st.sampled_from(["none", "none", "rescale", "lut"]))
    if modality == "rescale":
        more["slope"] = draw(st.sampled_from([1, 2, 0.5, 20, -1, 0.001]))
        more["intercept"] = draw(st.sampled_from([0, -1024, 100.5]))
    if modality == "lut":
        more["modality"] = draw(luts(int(values.min()), int(values.max())))
    plain = Film(values, allocated, stored, high, signed, draw(st.booleans()), **more)
    inside = [plain.level(v) for v in np.unique(values).tolist() if not plain.is_padding(v)]
    assume(len(set(inside)) > 1)
    voi = draw(st.sampled_from(["none", "window", "window", "lut"]))
    ends = sorted((min(inside), max(inside)))
    if plain.monochrome1:
        ends = [-ends[1], -ends[0]]
    if voi == "window":
        spread = max(ends[1] - ends[0], 2.0)
        center = round(ends[0] + spread * draw(st.floats(0.2, 0.8)), 3)
        width = round(max(1.0, spread * draw(st.floats(0.1, 2))), 3)
        more["windows"] = [(center, width), (0.0, 1.0)][: draw(st.integers(1, 2))]
        more["function"] = draw(st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
    if voi == "lut":
        assume(ends[0] > -32000 and ends[1] < 65000)
        more["voi"] = draw(luts(int(ends[0]), int(ends[1])))
    film = Film(values, allocated, stored, high, signed, plain.monochrome1, **more)
    levels = {film.level(v) for v in np.unique(values).tolist() if not film.is_padding(v)}
    assume(max(levels) - min(levels) > 1e-3)
    return film


@given(film=films(), syntax=st.sampled_from(LITTLE))
@settings(max_examples=200, deadline=None)
def test_any_header_is_shown_as_the_standard_says(film: Film, syntax: Any) -> None:
    assert_shown_as(file_of(film, syntax), film, 2e-5)


# ---------------------------------------------------------------- tables


PIXEL_TYPES: dict[str, dict[str, Any]] = {
    "8 bits": {"allocated": 8, "stored": 8, "high": 7},
    "10 of 16 bits": {"stored": 10, "high": 9},
    "12 of 16 bits": {},
    "16 bits": {"stored": 16, "high": 15},
    "12 bits, signed": {"signed": True},
    "16 bits, signed": {"stored": 16, "high": 15, "signed": True},
}


@pytest.mark.parametrize("kind", PIXEL_TYPES)
@pytest.mark.parametrize("sequence", ["modality", "voi"])
@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
def test_every_table_of_values_is_looked_up(kind: str, sequence: str, bits: int) -> None:
    """Every number of entries and first value, packed and not, against the reference."""
    cells = Film(np.zeros((1, 1)), **PIXEL_TYPES[kind])
    low = -(1 << (cells.stored - 1)) if cells.signed else 0
    values = shades(low, low + (1 << cells.stored) - 1)
    for count, first in itertools.product(
        (2, 255, 256, 257, 4096, 40_000, 65_536),
        (low, 1, 100, -1000, low + (1 << cells.stored) // 2),
    ):
        if sequence == "modality" and first < 0 and not cells.signed:
            continue  # cannot be written: such a descriptor is unsigned
        entries = np.rint(np.linspace(0, 1, count) ** 1.5 * ((1 << bits) - 1)).astype(int)
        lut = Lut(first, bits, entries.tolist())
        film = replace(cells, values=values, **{sequence: lut})
        if len({film.level(value) for value in (values.min(), values.max())}) == 1:
            continue
        for packed in (False, True) if bits == 8 else (False,):
            assert_shown_as(file_of(film, packed=packed), film)


@pytest.mark.parametrize("allocated", [8, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_every_place_of_the_bits_is_honoured(allocated: int, *, signed: bool) -> None:
    for stored in range(3, allocated + 1):
        for high in range(stored - 1, allocated):
            low = -(1 << (stored - 1)) if signed else 0
            values = shades(low, low + (1 << stored) - 1)
            film = Film(values, allocated, stored, high, signed)
            assert_shown_as(file_of(film), film)


SYNTAXES = {"explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian}


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("monochrome1", [False, True])
@pytest.mark.parametrize(
    ("stored", "signed", "tag", "means"),
    [
        (16, False, ("US", 0), 0),
        (16, False, ("US", 65535), 65535),
        (16, False, ("SS", -1), 65535),
        (16, False, ("SS", -32768), 32768),
        (16, False, ("SS", -2000), 63536),
        (12, False, ("US", 4095), 4095),
        (16, True, ("SS", -2000), -2000),
        (16, True, ("SS", -32768), -32768),
        (16, True, ("US", 63536), -2000),
        (16, True, ("US", 65535), -1),
        (12, True, ("US", 4095), -1),
        (12, True, ("SS", -2048), -2048),
        (16, False, ("DS", "0"), 0),
        (16, True, ("LO", "-2000"), -2000),
    ],
)
def test_padding_is_black_however_it_is_written(
    syntax: str, stored: int, tag: tuple[str, Any], means: int, *, monochrome1: bool, signed: bool
) -> None:
    if syntax == "implicit" and tag[0] not in {"US", "SS"}:
        pytest.skip("implicit files state no type")
    values = shades(300, 1900)
    values[:, :4] = means
    film = Film(values, 16, stored, stored - 1, signed, monochrome1, (means, means))
    dataset = made(film.cells())
    dataset.BitsStored, dataset.HighBit = stored, stored - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PhotometricInterpretation = f"MONOCHROME{1 if monochrome1 else 2}"
    dataset.add_new("PixelPaddingValue", *tag)
    assert_shown_as(written(dataset, SYNTAXES[syntax]), film)


def test_padding_whose_bits_no_pixel_can_have_is_noted() -> None:
    values = shades(300, 1900)
    values[:, :4] = 4095
    file = file_of(Film(values), PixelPaddingValue=65535)
    levels, notes = shown(file)
    assert notes == ("PixelPaddingValue could not be used and was ignored",)
    assert np.allclose(levels, Film(values).levels())


def test_padding_of_twelve_bits_written_as_a_signed_number() -> None:
    values = shades(300, 1900)
    values[:, :4] = 4095
    dataset = made(Film(values).cells())
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.add_new("PixelPaddingValue", "SS", -1)
    assert_shown_as(written(dataset), Film(values, padding=(4095, 4095)))


@pytest.mark.parametrize("signed", [False, True])
def test_padding_may_use_bits_that_no_pixel_may(*, signed: bool) -> None:
    """Values of 12 bits, and padding of 16 around them."""
    values = shades(300, 1900)
    outside = -32768 if signed else 65535
    film = Film(values, signed=signed, padding=(outside, outside))
    cells = film.cells()
    cells[:, :4] = 0x8000 if signed else 0xFFFF
    values[:, :4] = outside
    assert_shown_as(file_of(film, PixelData=cells.tobytes()), film)


@pytest.mark.parametrize(
    ("stored", "high", "signed", "top"),
    [(10, 9, False, 4095), (12, 11, False, 65535), (12, 15, False, 4095), (12, 11, True, -3000)],
)
def test_pixels_outside_of_their_bits_are_refused(
    stored: int, high: int, top: int, *, signed: bool
) -> None:
    dataset = made(shades(min(0, top), max(0, top)).astype(np.int32).astype(np.uint16))
    dataset.BitsStored, dataset.HighBit = stored, high
    dataset.PixelRepresentation = int(signed)
    reason = refusal(written(dataset))
    assert reason == (
        f"pixels contradict BitsStored {stored}, HighBit {high} and "
        f"PixelRepresentation {int(signed)} by their other bits"
    )


def test_a_negative_without_its_sign_repeated_may_be_a_large_positive_and_is_refused() -> None:
    dataset = made(shades(0, 4095).astype(np.uint16))
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 1
    assert "PixelRepresentation 1" in refusal(written(dataset))


@pytest.mark.parametrize("kind", ["run lengths", "JPEG 2000", "JPEG-LS"])
@pytest.mark.parametrize("signed", [False, True])
def test_compressed_films_are_shown_alike(kind: str, *, signed: bool) -> None:
    low = -2048 if signed else 0
    values = np.kron(shades(low, low + 4095), np.ones((2, 2), int))
    film = Film(values, signed=signed, padding=(low, low))
    dataset = made(film.cells())
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PixelRepresentation = int(signed)
    dataset.add_new("PixelPaddingValue", "SS" if signed else "US", low)
    sink = io.BytesIO()
    compressed(dataset, kind).save_as(sink, enforce_file_format=True)
    assert_shown_as(sink.getvalue(), film)


def test_overlays_in_unused_bits_are_no_pixels() -> None:
    film = Film(shades(0, 4095))
    dataset = made(film.cells() | (shades(0, 1, seed=3) << 12).astype(np.uint16))
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.add_new(0x60000100, "US", 16)
    dataset.add_new(0x60000102, "US", 12)
    assert_shown_as(written(dataset), film)


def test_big_endian_files_are_shown_alike() -> None:
    for film in (Film(shades(0, 4095)), Film(shades(0, 255), 8, 8, 7)):
        little = made(film.cells())
        little.BitsStored, little.HighBit = film.stored, film.high
        sink = io.BytesIO()
        little.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        little.PixelData = film.cells().byteswap().tobytes()
        little.save_as(sink, enforce_file_format=True)
        assert_shown_as(sink.getvalue(), film)


# ---------------------------------------------------------------- optional elements


WINDOW = {"WindowCenter": 2000, "WindowWidth": 1500}
WINDOWED = {"windows": [(2000, 1500)]}
IGNORED = "{} could not be used and was ignored"


def typed(**tags: tuple[str, Any]) -> Dataset:
    """A film of 12 bits with elements of any type and value, as they may stand in a file."""
    dataset = made(Film(RAMP).cells())
    dataset.BitsStored, dataset.HighBit = 12, 11
    for name, (kind, value) in tags.items():
        dataset.add_new(name, kind, value)
    return dataset


RAMP = np.linspace(400, 3900, SIDE * SIDE).astype(int).reshape(SIDE, SIDE)


@pytest.mark.parametrize(
    ("tags", "means", "ignored"),
    [
        ({"RescaleSlope": ("DS", ""), "RescaleIntercept": ("DS", "")}, {}, "slope intercept"),
        ({"RescaleSlope": ("DS", "1"), "RescaleIntercept": ("DS", "")}, {}, "intercept"),
        ({"RescaleSlope": ("LO", "abc"), "RescaleIntercept": ("DS", "0")}, {}, "slope"),
        ({"RescaleSlope": ("LO", "1,0"), "RescaleIntercept": ("DS", "0")}, {}, "slope"),
        ({"RescaleSlope": ("DS", ["1", "2"]), "RescaleIntercept": ("DS", "0")}, {}, "slope"),
        ({"RescaleSlope": ("DS", "0"), "RescaleIntercept": ("DS", "7")}, {}, "slope intercept"),
        ({"RescaleSlope": ("LO", "NaN"), "RescaleIntercept": ("DS", "0")}, {}, "slope"),
        ({"RescaleSlope": ("LO", "inf"), "RescaleIntercept": ("DS", "0")}, {}, "slope"),
        ({"RescaleSlope": ("DS", "1e-30"), "RescaleIntercept": ("DS", "5")}, {}, "slope intercept"),
        ({"RescaleSlope": ("FD", 2.0), "RescaleIntercept": ("FL", 5.0)}, {}, ""),
        ({"RescaleSlope": ("DS", "1e308"), "RescaleIntercept": ("DS", "0")}, {}, "slope intercept"),
        ({"WindowCenter": ("DS", "0"), "WindowWidth": ("DS", "0")}, {}, "width"),
        ({"WindowCenter": ("DS", "0.2"), "WindowWidth": ("DS", "0.3")}, {}, "width"),
        ({"WindowCenter": ("DS", "2000"), "WindowWidth": ("DS", "-1500")}, {}, "width"),
        ({"WindowCenter": ("LO", "2000,5"), "WindowWidth": ("LO", "1500,0")}, {}, "center width"),
        ({"WindowCenter": ("LO", "NaN"), "WindowWidth": ("LO", "NaN")}, {}, "center width"),
        ({"WindowCenter": ("DS", ""), "WindowWidth": ("DS", "")}, {}, "center width"),
        ({"WindowCenter": ("DS", "2000")}, {}, "center"),
        ({"WindowWidth": ("DS", "1500")}, {}, "width"),
        ({"WindowCenter": ("US", 2000), "WindowWidth": ("US", 1500)}, WINDOWED, ""),
        ({"WindowCenter": ("LO", "\\2000"), "WindowWidth": ("LO", "\\1500")}, WINDOWED, "both"),
        ({"WindowCenter": ("LO", "x\\2000"), "WindowWidth": ("LO", "9\\1500")}, WINDOWED, "center"),
        ({"WindowCenter": ("DS", [5, 2000]), "WindowWidth": ("DS", [0, 1500])}, WINDOWED, "width"),
        ({"WindowCenter": ("DS", [2000, 5]), "WindowWidth": ("DS", "1500")}, WINDOWED, "center"),
        ({**{k: ("DS", str(v)) for k, v in WINDOW.items()}}, WINDOWED, ""),
    ],
)
def test_an_element_that_cannot_be_used_costs_itself_alone(
    tags: dict[str, tuple[str, Any]], means: dict[str, Any], ignored: str
) -> None:
    """The next window is taken, else the full range, and the notes say what was ignored."""
    names = {
        "slope": ["RescaleSlope"],
        "intercept": ["RescaleIntercept"],
        "center": ["WindowCenter"],
        "width": ["WindowWidth"],
        "both": ["WindowCenter", "WindowWidth"],
    }
    told = [IGNORED.format(name) for word in ignored.split() for name in names[word]]
    levels, notes = shown(written(typed(**tags)))
    assert list(notes) == told
    assert np.abs(levels - Film(RAMP, **means).levels()).max() < 1e-5


@pytest.mark.parametrize(
    ("function", "used", "ignored"),
    [
        ("", "LINEAR", True),
        ("LOG", "LINEAR", True),
        (["LINEAR", "SIGMOID"], "LINEAR", True),
        ("sigmoid", "SIGMOID", False),
        ("LINEAR_EXACT", "LINEAR_EXACT", False),
    ],
)
def test_an_unknown_function_of_a_window_is_linear(
    function: Any, used: str, *, ignored: bool
) -> None:
    tags = {name: ("DS", str(value)) for name, value in WINDOW.items()}
    levels, notes = shown(written(typed(**tags, VOILUTFunction=("LO", function))))
    assert notes == ((IGNORED.format("VOILUTFunction"),) if ignored else ())
    film = Film(RAMP, windows=[(2000, 1500)], function=used)
    assert np.abs(levels - film.levels()).max() < 1e-5


@pytest.mark.parametrize(
    ("tags", "padding", "ignored"),
    [
        ({"PixelPaddingValue": ("US", [0, 0])}, None, "PixelPaddingValue"),
        ({"PixelPaddingValue": ("US", None)}, None, "PixelPaddingValue"),
        ({"PixelPaddingValue": ("LO", "none")}, None, "PixelPaddingValue"),
        ({"PixelPaddingValue": ("DS", "0.5")}, None, "PixelPaddingValue"),
        (
            {"PixelPaddingValue": ("US", 0), "PixelPaddingRangeLimit": ("US", None)},
            (0, 0),
            "PixelPaddingRangeLimit",
        ),
        ({"PixelPaddingRangeLimit": ("US", 9)}, None, "PixelPaddingRangeLimit"),
    ],
)
def test_padding_that_is_not_said_plainly_is_noted(
    tags: dict[str, tuple[str, Any]], padding: tuple[int, int] | None, ignored: str
) -> None:
    values = RAMP.copy()
    values[:, :3] = 0
    dataset = typed(**tags)
    dataset.PixelData = Film(values).cells().tobytes()
    levels, notes = shown(written(dataset))
    assert notes == (IGNORED.format(ignored),)
    assert np.abs(levels - Film(values, padding=padding).levels()).max() < 1e-5


def test_a_range_of_padding_across_the_sign_is_taken_as_bits_and_noted() -> None:
    values = RAMP.copy()
    values[0] = 4095
    dataset = typed(PixelPaddingValue=("SS", -1), PixelPaddingRangeLimit=("SS", 420))
    dataset.PixelData = Film(values).cells().tobytes()
    levels, notes = shown(written(dataset))
    assert notes == ("the range of padding changes its sign, and was taken as bits",)
    values[values == 4095] = 420
    assert np.abs(levels - Film(values, padding=(0, 420)).levels()).max() < 1e-5


def test_padding_that_names_every_pixel_is_noted() -> None:
    film = file_of(Film(RAMP, padding=(0, 4095)))
    levels, notes = shown(film)
    assert notes == (IGNORED.format("PixelPaddingValue"),)
    assert np.abs(levels - Film(RAMP).levels()).max() < 1e-5


def broken_lut(**change: Any) -> Dataset:
    item = lut_item(Lut(0, 12, list(range(4096))), packed=False, signed=False)
    for name, value in change.items():
        if value is None:
            del item[name]
        else:
            item[name].value = value
    return item


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize(
    "items",
    [
        [],
        [Dataset()],
        [broken_lut(LUTData=None)],
        [broken_lut(LUTDescriptor=None)],
        [broken_lut(LUTData=b"\0\1" * 4000)],
        [broken_lut(LUTData=b"\0\1" * 5000)],
        [broken_lut(LUTDescriptor=[4096, 0, 0])],
        [broken_lut(LUTDescriptor=[4096, 0, 17])],
        [broken_lut(LUTDescriptor=[4096, 0])],
        [broken_lut(LUTData=b"\7\0" * 4096)],
        [broken_lut(LUTData=b"\1\0" * 2048)],
    ],
    ids=[
        *("no item", "empty item", "no data", "no descriptor", "too short", "too long"),
        *("no bits", "17 bits", "two numbers", "one level", "packed 12 bits"),
    ],
)
def test_a_table_that_cannot_be_used_is_ignored(sequence: str, items: list[Dataset]) -> None:
    tags: dict[str, Any] = {sequence: Sequence(items), **WINDOW}
    levels, notes = shown(file_of(Film(RAMP), **tags))
    assert notes == (IGNORED.format(sequence),)
    film = Film(RAMP, windows=[(2000, 1500)])
    assert np.abs(levels - film.levels()).max() < 1e-5


def test_the_next_usable_table_is_taken() -> None:
    curve = Lut(0, 8, [min(255, n // 8) for n in range(4096)])
    items = [Dataset(), lut_item(curve, packed=True, signed=False)]
    assert_shown_as(file_of(Film(RAMP), VOILUTSequence=Sequence(items)), Film(RAMP, voi=curve))


def test_entries_above_the_bits_that_a_table_states_are_used_and_noted() -> None:
    curve = Lut(0, 8, [n * 7 % 65536 for n in range(4096)])
    levels, notes = shown(file_of(Film(RAMP, voi=curve)))
    assert notes == ("a LUT holds larger entries than it states; they were used as they are",)
    assert np.abs(levels - Film(RAMP, voi=curve).levels()).max() < 1e-5


def test_a_first_value_written_as_the_wrong_type_is_understood() -> None:
    """An unsigned 64536 is -1000 where that alone shows anything."""
    curve = Lut(-1000, 12, list(range(4096)))
    item = lut_item(curve, packed=False, signed=False)
    assert_shown_as(file_of(Film(RAMP), VOILUTSequence=Sequence([item])), Film(RAMP, voi=curve))


def test_a_window_beyond_all_values_is_noted() -> None:
    levels, notes = shown(file_of(Film(RAMP), WindowCenter=60_000, WindowWidth=10))
    assert notes == ("a window that shows no difference between pixels was ignored",)
    assert np.abs(levels - Film(RAMP).levels()).max() < 1e-5


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        (
            {"RescaleSlope": ("DS", "2")},
            "RescaleSlope or RescaleIntercept stood alone; the other became 1 or 0",
        ),
        (
            {"PresentationLUTShape": ("CS", "INVERSE")},
            "PresentationLUTShape contradicted PhotometricInterpretation and was ignored",
        ),
        ({"PresentationLUTShape": ("CS", "IDENTITY")}, None),
        (
            {"PixelAspectRatio": ("IS", [1, 2])},
            "PixelAspectRatio was not 1:1; pixels were taken as square",
        ),
        ({"PixelAspectRatio": ("IS", [1, 1])}, None),
        ({"PatientOrientation": ("CS", "")}, None),
        ({"PatientOrientation": ("CS", "L")}, IGNORED.format("PatientOrientation")),
        ({"PatientOrientation": ("CS", ["L", "R"])}, IGNORED.format("PatientOrientation")),
        ({"PatientOrientation": ("CS", ["X", "Y"])}, IGNORED.format("PatientOrientation")),
        ({"PatientOrientation": ("LO", "l\\f")}, None),
        ({"HighBit": ("US", None)}, "HighBit was blank, and taken as BitsStored - 1"),
        ({"NumberOfFrames": ("IS", "")}, None),
        ({"NumberOfFrames": ("IS", "1")}, None),
        ({"PhotometricInterpretation": ("LO", "monochrome2")}, None),
        ({"PhotometricInterpretation": ("LO", " MONOCHROME2 ")}, None),
    ],
)
def test_what_else_is_odd_is_noted(tags: dict[str, tuple[str, Any]], note: str | None) -> None:
    levels, notes = shown(written(typed(**tags)))
    assert notes == ((note,) if note else ())
    assert np.abs(levels - Film(RAMP).levels()).max() < 1e-5


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("tag", "value", "reason"),
    [
        ("PixelData", None, "PixelData is missing"),
        ("PixelData", b"\0\1" * 100, "PixelData has 200 bytes, but 24 rows of 24 pixels have 1152"),
        ("PixelData", b"\0\1" * 1152, "PixelData has 2304 bytes"),
        ("PhotometricInterpretation", None, "PhotometricInterpretation is missing"),
        ("PhotometricInterpretation", "", "PhotometricInterpretation is blank"),
        ("PhotometricInterpretation", "MONOCHROME", "PhotometricInterpretation is 'MONOCHROME'"),
        ("PhotometricInterpretation", "rgb", "the image is in colour: 'RGB'"),
        ("Rows", None, "Rows is missing"),
        ("Columns", 0, "Columns is '0', not a whole number from 1 to 65535"),
        ("BitsAllocated", None, "BitsAllocated is missing"),
        ("BitsAllocated", 12, "the image has neither 8 nor 16 bits a pixel: BitsAllocated 12"),
        ("BitsStored", None, "BitsStored is missing"),
        ("BitsStored", 17, "BitsStored is '17', not a whole number from 1 to 16"),
        ("BitsStored", 0, "BitsStored is '0'"),
        ("HighBit", 16, "HighBit is '16', not a whole number from 11 to 15"),
        ("HighBit", 5, "HighBit is '5'"),
        ("PixelRepresentation", None, "PixelRepresentation is missing"),
        ("PixelRepresentation", 2, "PixelRepresentation is '2', not a whole number from 0 to 1"),
        ("SamplesPerPixel", None, "SamplesPerPixel is missing"),
        ("SamplesPerPixel", 3, "SamplesPerPixel is '3'"),
        ("NumberOfFrames", 3, "the file does not hold one frame: NumberOfFrames is '3'"),
        ("NumberOfFrames", 0, "the file does not hold one frame: NumberOfFrames is '0'"),
        ("Modality", "CT", "the modality is 'CT', not radiography"),
    ],
)
def test_a_refusal_names_the_element_and_its_value(tag: str, value: Any, reason: str) -> None:
    dataset = typed()
    dataset["PixelData"].VR = "OW"
    if value is None:
        del dataset[tag]
    elif isinstance(value, str):
        dataset.add_new(tag, "LO", value)
    else:
        setattr(dataset, tag, value)
    assert refusal(written(dataset)).startswith(reason)


def test_a_word_as_number_of_frames_is_named() -> None:
    reason = refusal(written(typed(NumberOfFrames=("LO", "one"))))
    assert reason == "the file does not hold one frame: NumberOfFrames is 'one'"


def test_a_film_of_one_level_inside_its_padding_is_refused() -> None:
    values = np.full((SIDE, SIDE), 700)
    values[:, :5] = 0
    found = prepare(file_of(Film(values, padding=(0, 0))), Preparation(SIDE, "paper"))
    assert found == Unreadable("the image is of one grey level")


def test_a_file_without_preamble_or_transfer_syntax_is_named() -> None:
    whole = written(typed())
    bare = whole[whole.index(b"\x08\0\x16\0") :]
    for content in (bare, whole[132:]):
        assert "no preamble" in str(prepare(content, Preparation(SIDE, "paper")))
    dataset = typed()
    sink = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(sink, enforce_file_format=True)
    syntax = sink.getvalue().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    assert "transfer syntax '1.2.840.10008.1.2.9'" in refusal(syntax)


# ---------------------------------------------------------------- the shared inputs


REFUSED = {
    "05_display_tags_lose_film/films/t19.dcm": "NumberOfFrames is 'one'",
    "15_bits_and_padding_words/films/c39.dcm": "BitsStored 10, HighBit 9",
    "16_reasons/films/c22.dcm": "PixelData is missing",
    "16_reasons/films/c30.dcm": "PhotometricInterpretation is missing",
    "16_reasons/films/c71.dcm": "no preamble",
    "16_reasons/films/c72.dcm": "TransferSyntaxUID",
    "16_reasons/films/t29.dcm": "PhotometricInterpretation is 'MONOCHROME'",
}
FOLDERS = (
    *("01_padding_squeezes", "02_voi_lut_wraps", "05_display_tags_lose_film"),
    *("15_bits_and_padding_words", "16_reasons"),
)


@pytest.mark.skipif(not FIELD.exists(), reason="no inputs from the field here (../shared/field)")
@pytest.mark.parametrize("folder", FOLDERS)
def test_inputs_from_the_field_use_all_levels_or_are_refused_by_name(folder: str) -> None:
    for file in sorted((FIELD / folder / "films").glob("*.dcm")):
        name = str(file.relative_to(FIELD))
        found = prepare(file.read_bytes(), Preparation(64, "paper"))
        if name in REFUSED:
            assert isinstance(found, Unreadable), name
            assert REFUSED[name] in found.reason
            continue
        assert isinstance(found, Prepared), name
        inside = found.pixels[:, 8:]
        assert (inside.min(), inside.max()) == (0, 255), name
        assert len(np.unique(inside)) > 160, name
        odd = folder.startswith("05") and not file.stem.startswith("l")
        assert bool(found.notes) == (odd or file.stem == "c42"), name
