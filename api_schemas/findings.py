"""The vocabulary of a chest X-ray sample, spelt as CheXpert spells it."""

from enum import StrEnum


class Finding(StrEnum):
    """The 14 CheXpert observations, in the order of the paper's condition vector."""

    PLEURAL_OTHER = "Pleural Other"
    FRACTURE = "Fracture"
    SUPPORT_DEVICES = "Support Devices"
    PLEURAL_EFFUSION = "Pleural Effusion"
    PNEUMOTHORAX = "Pneumothorax"
    ATELECTASIS = "Atelectasis"
    PNEUMONIA = "Pneumonia"
    CONSOLIDATION = "Consolidation"
    EDEMA = "Edema"
    LUNG_LESION = "Lung Lesion"
    LUNG_OPACITY = "Lung Opacity"
    CARDIOMEGALY = "Cardiomegaly"
    ENLARGED_CARDIOMEDIASTINUM = "Enlarged Cardiomediastinum"
    NO_FINDING = "No Finding"


FINDINGS: tuple[Finding, ...] = tuple(Finding)
"""Label order of every array with a label axis."""


class Sex(StrEnum):
    FEMALE = "Female"
    MALE = "Male"


class Race(StrEnum):
    """The five groups of the paper's condition vector, in its order."""

    AMERICAN_INDIAN = "American Indian/Alaskan Native"
    AFRICAN_AMERICAN = "African American"
    WHITE = "White"
    PACIFIC_ISLANDER = "Pacific Islander"
    ASIAN = "Asian"


class Ethnicity(StrEnum):
    """The two answers of American registries, which ask for it beside race."""

    HISPANIC = "Hispanic or Latino"
    NOT_HISPANIC = "Not Hispanic or Latino"


class View(StrEnum):
    """The view position; lateral ones only where a dataset was asked to keep them."""

    AP = "AP"
    PA = "PA"
    LATERAL = "LATERAL"


PRESENT, ABSENT, UNCERTAIN = 1, 0, -1
"""Label values; a blank (not mentioned) is null."""

AGE_LIMIT = 120

COMPATIBLE_WITH_NO_FINDING = frozenset({Finding.NO_FINDING, Finding.SUPPORT_DEVICES})


def contradictions(present: set[Finding]) -> set[Finding]:
    """The findings of `present` that cannot stand beside `No Finding`; empty if it is not there."""
    if Finding.NO_FINDING not in present:
        return set()
    return present - COMPATIBLE_WITH_NO_FINDING
