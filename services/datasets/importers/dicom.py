"""DICOM: the few words of a header that may be read, and the picture as it is meant to be seen.

Everything else in a header is skipped unread: names, dates and numbers of patients have no way
from here into the suite. Runs in a process with limits (`decoder`).
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.pixels import get_decoder
from pydicom.tag import Tag
from pydicom.uid import UID

from api_schemas.datasets import RejectionCode
from services.datasets.importers import grayscale
from services.datasets.importers.dicom_tags import (
    NotShowable,
    number,
    numbers,
    present,
    raw_bytes,
    stated,
    texts,
    value_representation,
    whole,
    word,
)
from services.datasets.importers.fields import quoted
from services.datasets.importers.grayscale import Display, Notes, PixelCells
from services.datasets.importers.images import Decoded
from services.datasets.importers.source import Header, Unreadable

HEADER = ("PatientID", "PatientSex", "PatientAge", "ViewPosition")
WHAT = ("Modality", "BurnedInAnnotation", "NumberOfFrames", "Rows", "Columns")
PICTURE = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PresentationLUTShape"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PatientOrientation", "PixelAspectRatio", "PixelData"),
)
OVERLAY_BITS = tuple(0x60000102 + (group << 16) for group in range(0, 0x20, 2))
"""OverlayBitPosition of the sixteen overlays that a file may have."""
RADIOGRAPHY = frozenset({"", "CR", "DX", "DR", "RG"})
INVERTED = {"MONOCHROME1": True, "MONOCHROME2": False}
AXES = (frozenset("LR"), frozenset("FH"), frozenset("AP"))
COLOURS = ("RGB", "PALETTE", "YBR", "HSV", "ARGB", "CMYK")
WORD_LIMIT = 64
SIDE_LIMIT = 65_535
META = 2
PROGRAMS = (b"MZ", b"\x7fELF", b"#!", b"PK", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
DICOMDIR = "1.2.840.10008.1.3.10"
RUN_LENGTHS = "1.2.840.10008.1.2.5"
DECODERS: Mapping[str, str] = {
    "1.2.840.10008.1.2": "",  # implicit and explicit little endian, and big: as they are
    "1.2.840.10008.1.2.1": "",
    "1.2.840.10008.1.2.2": "",
    RUN_LENGTHS: "pydicom",
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG, 8 bits
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG without loss
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
}
"""Transfer syntaxes that are read, each by one decoder. Not among them: deflated ones, whose
size nobody can tell beforehand, and 12-bit JPEG."""

NOT_READABLE = Unreadable("the file does not decode as DICOM")
NO_PREAMBLE = Unreadable("the file does not begin as a DICOM file does: it has no preamble")
FIRST_ELEMENTS = (b"\x02\0", b"\x08\0")


def is_dicom(content: bytes) -> bool:
    """Whether the file is DICOM, be it without the preamble that it should begin with."""
    if content[128:132] == b"DICM":
        return True
    return content[:2] in FIRST_ELEMENTS and content[3:4] == b"\0" and len(content) > 132  # noqa: PLR2004


def header(start: BinaryIO) -> Header | Unreadable:
    """The allow-listed words of a DICOM file, or why it is not to be imported."""
    try:
        return _header(start)
    except NotShowable as reason:
        return Unreadable(reason.reason, reason.code)
    except Exception:  # noqa: BLE001 - whatever a parser raises on whatever it is given
        return NOT_READABLE


def decode(content: bytes, pixel_limit: int) -> Decoded | Unreadable:
    """Grey levels as a viewer would show them, (H, W), the patient's right on the left."""
    try:
        return _decode(content, pixel_limit)
    except NotShowable as reason:
        return Unreadable(reason.reason, reason.code)
    except MemoryError:
        return Unreadable("the image needs more memory than a radiograph has reason to")
    except Exception:  # noqa: BLE001 - whatever a decoder raises on whatever it is given
        return NOT_READABLE


def _header(start: BinaryIO) -> Header | Unreadable:
    refused = _refused(start)
    if refused is not None:
        return refused
    dataset = _read(start, [*HEADER, *WHAT], pixels=False)
    _check_kind(dataset)
    return {name: _decoded(dataset, name) for name in HEADER}


def _decoded(dataset: Dataset, keyword: str) -> str:
    """An allow-listed text, by the file's character set where that is possible."""
    try:
        said = str(dataset.get(keyword) or "")
    except Exception:  # noqa: BLE001 - whatever a parser raises on whatever it is given
        said = "\\".join(texts(dataset, keyword))
    return said.strip("\0 \t\r\n")[:WORD_LIMIT]


def _decode(content: bytes, pixel_limit: int) -> Decoded | Unreadable:
    file = io.BytesIO(content)
    refused = _refused(file)
    if refused is not None:
        return refused
    tags = [*WHAT, *PICTURE, *grayscale.ELEMENTS, *OVERLAY_BITS]
    dataset = _read(file, tags, pixels=True)
    _check_kind(dataset)
    inverted = _inverted(dataset)
    notes = Notes()
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    cells = _pixel_cells(dataset, syntax, notes)
    with warnings.catch_warnings(action="ignore"):
        pixels = _pixels(dataset, cells, syntax, pixel_limit, notes)
        shown = Display(dataset, cells, inverted, notes).show(pixels)
        picture = _upright(shown, dataset, notes)
    _note_contradictions(dataset, notes, inverted=inverted)
    return Decoded(picture, tuple(notes))


def _read(file: BinaryIO, tags: Sequence[str | int], *, pixels: bool) -> Dataset:
    wanted = [Tag(tag) for tag in tags]
    with warnings.catch_warnings(action="ignore"):
        return dcmread(file, stop_before_pixels=not pixels, specific_tags=wanted)


def _refused(file: BinaryIO) -> Unreadable | None:
    """Why the file is not to be parsed any further; the file is left at its start."""
    preamble = file.read(132)
    if preamble[128:] != b"DICM":
        return NO_PREAMBLE
    if preamble.startswith(PROGRAMS):
        return Unreadable("the file is a program as well as DICOM")
    meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag.group != META)
    file.seek(0)
    if str(meta.get("MediaStorageSOPClassUID", "")) == DICOMDIR:
        return Unreadable("the file is a directory of DICOM files, not an image")
    syntax = str(meta.get("TransferSyntaxUID") or "")
    if not syntax:
        return Unreadable("the file states no TransferSyntaxUID, so nobody can tell how to read it")
    if syntax not in DECODERS:
        return Unreadable(
            f"the file is compressed in a way that is not read: transfer syntax {quoted(syntax)}"
        )
    return None


def _check_kind(dataset: Dataset) -> None:
    """Raises `NotShowable` for what is no single radiograph."""
    modality = word(dataset, "Modality")[:WORD_LIMIT]
    if modality not in RADIOGRAPHY:
        raise NotShowable(f"the modality is {modality!r}, not radiography", RejectionCode.MODALITY)
    if word(dataset, "BurnedInAnnotation") not in {"", "NO"}:
        raise NotShowable(
            "the header says that text is burned into the image, or does not say NO: somebody "
            f"should look at it ({stated(dataset, 'BurnedInAnnotation')[:WORD_LIMIT]})",
            RejectionCode.BURNED_IN,
        )
    frames = texts(dataset, "NumberOfFrames")
    if frames and number(dataset, "NumberOfFrames") != 1:
        raise NotShowable(f"the file does not hold one frame: {stated(dataset, 'NumberOfFrames')}")


def _inverted(dataset: Dataset) -> bool:
    """Whether low values are light; raises `NotShowable` for anything but monochrome."""
    said = word(dataset, "PhotometricInterpretation")
    if said.startswith(COLOURS):
        raise NotShowable(f"the image is in colour: {said!r}", RejectionCode.COLOUR)
    if said not in INVERTED:
        raise NotShowable(
            f"{stated(dataset, 'PhotometricInterpretation')}, not MONOCHROME1 or MONOCHROME2"
        )
    whole(dataset, "SamplesPerPixel", 1, 1)
    return INVERTED[said]


def _pixel_cells(dataset: Dataset, syntax: str, notes: Notes) -> PixelCells:
    allocated = whole(dataset, "BitsAllocated", 1, 64)
    if allocated not in {8, 16}:
        raise NotShowable(f"the image has neither 8 nor 16 bits a pixel: BitsAllocated {allocated}")
    stored = whole(dataset, "BitsStored", 1, allocated)
    signed = bool(whole(dataset, "PixelRepresentation", 0, 1))
    high = stored - 1
    if texts(dataset, "HighBit"):
        high = whole(dataset, "HighBit", stored - 1, allocated - 1)
    else:
        notes.add("HighBit was blank, and taken as BitsStored - 1")
    compressed = bool(DECODERS[syntax]) and syntax != RUN_LENGTHS
    if compressed and high != stored - 1:
        raise NotShowable(f"HighBit is {high} and BitsStored is {stored} in a compressed image")
    overlays = 0
    for tag in OVERLAY_BITS:
        position = number(dataset, tag)
        if position is not None and 0 < position < allocated:
            overlays |= 1 << int(position)
    return PixelCells(allocated, stored, high, signed, overlays, compressed)


def _pixels(
    dataset: Dataset, cells: PixelCells, syntax: str, pixel_limit: int, notes: Notes
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The cells of the picture as they are stored, (H, W)."""
    rows, columns = (whole(dataset, each, 1, SIDE_LIMIT) for each in ("Rows", "Columns"))
    if rows * columns > pixel_limit:
        raise NotShowable(f"the image has more than {pixel_limit // 10**6} megapixels")
    if not present(dataset, "PixelData"):
        raise NotShowable("PixelData is missing")
    data = raw_bytes(dataset, "PixelData")
    if not DECODERS[syntax]:
        _check_length(len(data), rows, columns, cells.allocated, notes)
    layout: dict[str, Any] = {
        "rows": rows,
        "columns": columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": cells.allocated,
        "bits_stored": cells.stored,
        "pixel_representation": int(cells.signed),
        "pixel_keyword": "PixelData",
        "pixel_vr": value_representation(dataset, "PixelData"),
        "correct_unused_bits": False,
    }
    decoder = get_decoder(UID(syntax))
    try:
        found, _ = decoder.as_array(data, raw=True, decoding_plugin=DECODERS[syntax], **layout)
    except MemoryError:
        raise
    except Exception as error:
        raise NotShowable("PixelData does not decode as its transfer syntax says") from error
    if found.shape != (rows, columns):
        raise NotShowable("PixelData holds several frames")
    kind = np.uint8 if cells.allocated == 8 else np.uint16  # noqa: PLR2004 - bits of a byte
    return np.ascontiguousarray(found.astype(found.dtype.newbyteorder("="))).view(kind)


def _check_length(found: int, rows: int, columns: int, allocated: int, notes: Notes) -> None:
    """Of pixels that are not compressed."""
    row = columns * allocated // 8
    if found < rows * row or found >= rows * row + max(row, 2):
        raise NotShowable(
            f"PixelData has {found} bytes, but {rows} rows of {columns} pixels have {rows * row}"
        )
    if found > rows * row + rows * row % 2:
        notes.add("PixelData was a little longer than the picture; the rest was ignored")


def _upright(picture: npt.NDArray[Any], dataset: Dataset, notes: Notes) -> npt.NDArray[Any]:
    """Turned so that rows run to the patient's left and columns to the feet, where that is said.

    What runs to the front or back is a lateral image, and stays as it is.
    """
    said = [word[:1].upper() for word in texts(dataset, "PatientOrientation")]
    if len(said) != 2 or sum(bool({*said} & axis) for axis in AXES) != 2:  # noqa: PLR2004 - rows and columns
        if any(said):
            notes.ignored("PatientOrientation")
        return picture
    rows, columns = said
    if rows in {"F", "H"} and columns in {"L", "R"}:
        picture, rows, columns = picture.T, columns, rows
    if rows == "R" and columns in {"F", "H"}:
        picture = picture[:, ::-1]
    if columns == "H" and rows in {"L", "R"}:
        picture = picture[::-1]
    return picture


def _note_contradictions(dataset: Dataset, notes: Notes, *, inverted: bool) -> None:
    shape = word(dataset, "PresentationLUTShape")
    if shape in {"IDENTITY", "INVERSE"} and (shape == "INVERSE") != inverted:
        notes.add("PresentationLUTShape contradicted PhotometricInterpretation and was ignored")
    aspect = numbers(dataset, "PixelAspectRatio")
    if len(set(aspect)) > 1:
        notes.add("PixelAspectRatio was not 1:1; pixels were taken as square")
