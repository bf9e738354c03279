"""DICOM: the few words of a header that may be read, and the picture as it is meant to be seen.

Everything else in a header is skipped unread: names, dates and numbers of patients have no way
from here into the suite. Runs in a process with limits (`decoder`).
"""

import io
import warnings
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

from api_schemas.datasets import RejectionCode
from services.datasets.importers.source import Header, Unreadable

HEADER = ("PatientID", "PatientSex", "PatientAge", "ViewPosition")
WHAT = ("Modality", "BurnedInAnnotation", "NumberOfFrames", "Rows", "Columns")
PICTURE = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "PatientOrientation"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelData"),
)
RADIOGRAPHY = frozenset({"", "CR", "DX", "DR", "RG"})
WORD_LIMIT = 64
META = 2
PROGRAMS = (b"MZ", b"\x7fELF", b"#!", b"PK", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
DICOMDIR = "1.2.840.10008.1.3.10"
DECODERS: Mapping[str, str] = {
    "1.2.840.10008.1.2": "",  # implicit and explicit little endian, and big: as they are
    "1.2.840.10008.1.2.1": "",
    "1.2.840.10008.1.2.2": "",
    "1.2.840.10008.1.2.5": "pydicom",  # run lengths
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


def is_dicom(content: bytes) -> bool:
    return content[128:132] == b"DICM"


def header(start: BinaryIO) -> Header | Unreadable:
    """The allow-listed words of a DICOM file, or why it is not to be imported."""
    try:
        return _header(start)
    except Exception:  # noqa: BLE001 - whatever a parser raises on whatever it is given
        return NOT_READABLE


def decode(content: bytes, pixel_limit: int) -> npt.NDArray[Any] | Unreadable:
    """Grey levels as a viewer would show them, (H, W), the patient's right on the left."""
    try:
        return _decode(content, pixel_limit)
    except MemoryError:
        return Unreadable("the image needs more memory than a radiograph has reason to")
    except Exception:  # noqa: BLE001 - whatever a decoder raises on whatever it is given
        return NOT_READABLE


def _header(start: BinaryIO) -> Header | Unreadable:
    refused = _refused(start)
    if refused is not None:
        return refused
    dataset = _read(start, [*HEADER, *WHAT], pixels=False)
    refused = _unwanted(dataset)
    if refused is not None:
        return refused
    return {name: str(dataset.get(name) or "").strip()[:WORD_LIMIT] for name in HEADER}


def _decode(content: bytes, pixel_limit: int) -> npt.NDArray[Any] | Unreadable:
    file = io.BytesIO(content)
    refused = _refused(file)
    if refused is not None:
        return refused
    dataset = _read(file, [*WHAT, *PICTURE], pixels=True)
    refused = _unwanted(dataset) or _unshowable(dataset, pixel_limit)
    if refused is not None:
        return refused
    with warnings.catch_warnings(action="ignore"):
        plugin = DECODERS[str(dataset.file_meta.TransferSyntaxUID)]
        stored = pixel_array(dataset, decoding_plugin=plugin)
        return _upright(_shown(stored, dataset), dataset)


def _read(file: BinaryIO, tags: list[str], *, pixels: bool) -> Dataset:
    with warnings.catch_warnings(action="ignore"):
        return dcmread(file, stop_before_pixels=not pixels, specific_tags=list(tags))


def _refused(file: BinaryIO) -> Unreadable | None:
    """Why the file is not to be parsed any further; the file is left at its start."""
    preamble = file.read(132)
    if preamble[128:] != b"DICM":
        return NOT_READABLE
    if preamble.startswith(PROGRAMS):
        return Unreadable("the file is a program as well as DICOM")
    meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag.group != META)
    file.seek(0)
    if str(meta.get("MediaStorageSOPClassUID", "")) == DICOMDIR:
        return Unreadable("the file is a directory of DICOM files, not an image")
    if str(meta.get("TransferSyntaxUID", "")) not in DECODERS:
        return Unreadable("the file is compressed in a way that is not read (its transfer syntax)")
    return None


def _unwanted(dataset: Dataset) -> Unreadable | None:
    modality = str(dataset.get("Modality") or "").strip().upper()[:WORD_LIMIT]
    if modality not in RADIOGRAPHY:
        return Unreadable(f"the modality is {modality!r}, not radiography", RejectionCode.MODALITY)
    if str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        return Unreadable(
            "the header says that text is burned into the image: somebody should look at it",
            RejectionCode.BURNED_IN,
        )
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        return Unreadable("the file has several frames")
    return None


def _unshowable(dataset: Dataset, pixel_limit: int) -> Unreadable | None:
    if int(dataset.Rows) * int(dataset.Columns) > pixel_limit:
        return Unreadable(f"the image has more than {pixel_limit // 10**6} megapixels")
    if not str(dataset.PhotometricInterpretation).startswith("MONOCHROME"):
        return Unreadable("the image is in colour", RejectionCode.COLOUR)
    if int(dataset.BitsAllocated) not in {8, 16}:
        return Unreadable("the image has neither 8 nor 16 bits a pixel")
    return None


def _shown(stored: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[np.float32]:
    """Rescaled, windowed and with bones light: by a table of all stored values, not pixel by pixel.

    Pixels that the header calls padding become as dark as the darkest of the others.
    """
    low, high = int(stored.min()), int(stored.max())
    values = np.arange(low, high + 1, dtype=np.int32)
    levels = apply_voi_lut(apply_modality_lut(values, dataset), dataset).astype(np.float32)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        levels = -levels
    padding = _padding(values, dataset)
    if padding.any() and not padding.all():
        levels[padding] = levels[~padding].min()
    return levels[stored.astype(np.int32) - low]


def _padding(values: npt.NDArray[np.int32], dataset: Dataset) -> npt.NDArray[np.bool_]:
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(values.shape, bool)
    ends = sorted((int(first), int(dataset.get("PixelPaddingRangeLimit", first))))
    return (values >= ends[0]) & (values <= ends[1])


def _upright(picture: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[Any]:
    """Turned so that rows run to the patient's left and columns to the feet, where that is said.

    What runs to the front or back is a lateral image, and stays as it is.
    """
    said = dataset.get("PatientOrientation")
    rows, columns = (str(word)[:1] for word in said) if said and len(said) == 2 else ("", "")  # noqa: PLR2004 - rows and columns
    if rows in {"F", "H"} and columns in {"L", "R"}:
        picture, rows, columns = picture.T, columns, rows
    if rows == "R" and columns in {"F", "H"}:
        picture = picture[:, ::-1]
    if columns == "H" and rows in {"L", "R"}:
        picture = picture[::-1]
    return picture
