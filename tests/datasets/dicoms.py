"""DICOM files made of phantoms, in every way that the importer has to understand."""

import io
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

CANARY = "CANARY^PATIENT^NAME"


def dicom(pixels: np.ndarray, **tags: Any) -> Dataset:
    """A radiograph with a header as a scanner writes it, the patient's name included."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = generate_uid()
    dataset.PatientName = CANARY
    dataset.PatientID = "CANARY-77"
    dataset.PatientBirthDate = "19500101"
    dataset.InstitutionName = "CANARY hospital"
    dataset.StudyDate = "20240501"
    dataset.PatientSex = "F"
    dataset.PatientAge = "074Y"
    dataset.Modality = "DX"
    dataset.ViewPosition = "PA"
    dataset.BurnedInAnnotation = "NO"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


SYNTAXES = {
    "run lengths": RLELossless,
    "JPEG 2000": JPEG2000Lossless,
    "JPEG-LS": JPEGLSLossless,
    "JPEG": JPEGBaseline8Bit,
}


def compressed(dataset: Dataset, kind: str) -> Dataset:
    """`dataset` in a compressed transfer syntax."""
    if kind == "JPEG":
        return _jpeg(dataset)
    plugin = {"run lengths": "pydicom", "JPEG 2000": "pylibjpeg", "JPEG-LS": "pyjpegls"}[kind]
    dataset.compress(SYNTAXES[kind], encoding_plugin=plugin)
    return dataset


def _jpeg(dataset: Dataset) -> Dataset:
    sink = io.BytesIO()
    Image.fromarray(dataset.pixel_array).save(sink, "JPEG", quality=95)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([sink.getvalue()])
    dataset["PixelData"].VR = "OB"
    return dataset


def lossless_jpeg(source: Path, target: Path) -> None:
    """A copy of a file in the JPEG that pydicom's writers do not know."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetFileName(str(target))
    writer.SetImage(change.GetOutput())
    assert writer.Write()
