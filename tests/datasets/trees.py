"""Small folders in exactly the layouts that datasets are published in, with phantom images."""

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from api_schemas.imports import PhantomSite
from services.datasets.importers.phantom import draw, population

CHEXPERT = (
    *("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding"),
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion"),
    *("Pleural Other", "Fracture", "Support Devices"),
)
CHEXPERT_DEMO = ("PATIENT", "GENDER", "AGE_AT_CXR", "PRIMARY_RACE", "ETHNICITY")
MIMIC_METADATA = (
    *("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription"),
    *("ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime"),
    *("ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning"),
    "PatientOrientationCodeSequence_CodeMeaning",
)
MIMIC_SPLIT = ("dicom_id", "study_id", "subject_id", "split")
MIMIC_LABELS = (
    *("subject_id", "study_id", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema"),
    *("Enlarged Cardiomediastinum", "Fracture", "Lung Lesion", "Lung Opacity", "No Finding"),
    *("Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices"),
)
MIMIC_PATIENTS = ("subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod")
MIMIC_ADMISSIONS = (
    *("subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type"),
    *("admit_provider_id", "admission_location", "discharge_location", "insurance"),
    *("language", "marital_status", "race", "edregtime", "edouttime", "hospital_expire_flag"),
)
NIH = (
    *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age"),
    *("Patient Gender", "View Position", "OriginalImage[Width", "Height]"),
    *("OriginalImagePixelSpacing[x", "y]"),
)
VINDR = (
    *("image_id", "rad_id", "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly"),
    *("Clavicle fracture", "Consolidation", "Edema", "Emphysema", "Enlarged PA", "ILD"),
    *("Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift"),
    *("Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax"),
    *("Pulmonary fibrosis", "Rib fracture", "Other lesion", "COPD", "Lung tumor", "Pneumonia"),
    *("Tuberculosis", "Other diseases", "No finding"),
)
PADCHEST = (
    *("", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth"),
    *("PatientSex_DICOM", "ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric"),
    *("Modality_DICOM", "Manufacturer_DICOM", "PhotometricInterpretation_DICOM"),
    *("PixelRepresentation_DICOM", "PixelAspectRatio_DICOM", "SpatialResolution_DICOM"),
    *("BitsStored_DICOM", "WindowCenter_DICOM", "WindowWidth_DICOM", "Rows_DICOM"),
    *("Columns_DICOM", "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM"),
    *("ExposureTime", "RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel"),
    *("Labels", "Localizations", "LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS"),
)
SEEDED = (
    *("Path", "PID", *CHEXPERT[1:], "Race", "Fold"),
    *("Seed", "ReplicaID", "Save Path"),
)


def phantoms(count: int, size_px: int = 48, seed: int = 1) -> list[np.ndarray]:
    """Grey phantoms, taller than wide, as radiographs are not square."""
    samples = population(PhantomSite.A, count, seed=seed)[:count]
    return [pixels[:, : size_px * 3 // 4] for pixels in draw(samples, size_px)]


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A table; packed if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = table(columns, rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def chexpert(root: Path, name: str = "CheXpert-v1.0-small") -> Path:
    """Four images of three patients in train, one in valid; one of them lateral."""
    folder = root / name
    rows = [
        ("train", "patient00001/study1/view1_frontal.jpg", "Female", 68, "Frontal", "AP"),
        ("train", "patient00002/study2/view1_frontal.jpg", "Female", 87, "Frontal", "PA"),
        ("train", "patient00002/study1/view2_lateral.jpg", "Female", 83, "Lateral", ""),
        ("train", "patient00003/study1/view1_frontal.jpg", "Unknown", 0, "Frontal", "AP"),
        ("valid", "patient64541/study1/view1_frontal.jpg", "Male", 73, "Frontal", "AP"),
    ]
    labels: list[dict[str, str]] = [
        {"No Finding": "1.0", "Support Devices": "1.0"},
        {"Lung Opacity": "-1.0", "Edema": "-1.0", "Fracture": "1.0"},
        {"Pneumonia": "1.0"},
        {"Edema": "1.0", "Pneumothorax": "0.0"},
        dict.fromkeys(CHEXPERT[5:], "0.0") | {"Cardiomegaly": "1.0"},
    ]
    written: dict[str, list[dict[str, Any]]] = {"train": [], "valid": []}
    for row, marks, pixels in zip(rows, labels, phantoms(len(rows)), strict=True):
        part, path, *rest = row
        named = dict(zip(CHEXPERT[1:5], rest, strict=True))
        written[part].append({"Path": f"{name}/{part}/{path}", **named, **marks})
        save(folder / part / path, pixels)
    for part, lines in written.items():
        write(folder / f"{part}.csv", CHEXPERT, lines)
    return folder


def mimic(root: Path, suffix: str = "jpg") -> Path:
    """Three images of two patients with tables as PhysioNet names them, one of them lateral."""
    folder = root / "mimic-cxr-jpg"
    images = [
        ("02aa804e-bde0afdd", 10000032, 50414267, "PA", "21800506", "train"),
        ("174413ec-4ec4c1f7", 10000032, 50414267, "LATERAL", "21800506", "train"),
        ("ea030e7a-2e3b1346", 11000764, 57375967, "AP", "21321015", "test"),
    ]
    for (dicom, subject, study, *_), pixels in zip(images, phantoms(3), strict=True):
        place = f"p{str(subject)[:2]}/p{subject}/s{study}/{dicom}.{suffix}"
        if suffix == "jpg":
            save(folder / "files" / place, pixels)
    names = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate")
    write(
        folder / "mimic-cxr-2.0.0-metadata.csv.gz",
        MIMIC_METADATA,
        [dict(zip(names, image[:5], strict=True)) for image in images],
    )
    write(
        folder / "mimic-cxr-2.0.0-split.csv.gz",
        MIMIC_SPLIT,
        [
            dict(
                zip(MIMIC_SPLIT, (i[0], i[2], i[1], i[5].replace("valid", "validate")), strict=True)
            )
            for i in images
        ],
    )
    for labeller, edema in (("chexpert", "-1.0"), ("negbio", "0.0")):
        write(
            folder / f"mimic-cxr-2.0.0-{labeller}.csv.gz",
            MIMIC_LABELS,
            [{"subject_id": 10000032, "study_id": 50414267, "Edema": edema, "Fracture": "1.0"}],
        )
    write(
        root / "hosp" / "patients.csv.gz",
        MIMIC_PATIENTS,
        [
            {"subject_id": 10000032, "gender": "F", "anchor_age": 52, "anchor_year": 2180},
            {"subject_id": 11000764, "gender": "M", "anchor_age": 86, "anchor_year": 2130},
        ],
    )
    write(
        root / "hosp" / "admissions.csv.gz",
        MIMIC_ADMISSIONS,
        [
            {"subject_id": 10000032, "hadm_id": 1, "race": "WHITE - RUSSIAN"},
            {"subject_id": 10000032, "hadm_id": 2, "race": "UNKNOWN"},
            {"subject_id": 11000764, "hadm_id": 3, "race": "BLACK/AFRICAN AMERICAN"},
            {"subject_id": 11000764, "hadm_id": 4, "race": "ASIAN - CHINESE"},
        ],
    )
    return folder


def nih(root: Path) -> Path:
    """Four images of three patients, in two of the folders that the archives make."""
    folder = root / "nih"
    rows = [
        ("00000001_000.png", "Cardiomegaly|Emphysema", 0, 1, 57, "M", "PA"),
        ("00000001_001.png", "Effusion|Infiltration", 1, 1, 58, "M", "PA"),
        ("00000002_000.png", "No Finding", 0, 2, 80, "M", "AP"),
        ("00000003_000.png", "Nodule|Pleural_Thickening", 0, 3, "074Y", "F", "PA"),
    ]
    where = ("images", "images_002/images", "images_002/images", "images")
    for row, place, pixels in zip(rows, where, phantoms(4), strict=True):
        save(folder / place / row[0], pixels)
    lines = [dict(zip(NIH, (*row, 2682, 2749, 0.143, 0.143), strict=True)) for row in rows]
    write(folder / "Data_Entry_2017_v2020.csv", NIH, lines)
    (folder / "train_val_list.txt").write_text(
        "00000001_000.png\n00000001_001.png\n00000002_000.png"
    )
    (folder / "test_list.txt").write_text("00000003_000.png\n")
    return folder
