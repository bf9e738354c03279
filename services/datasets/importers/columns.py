"""Which column of a table is which, however its name is written.

Names are compared without case, blanks, underscores and other marks: `Pleural_effusion`,
`pleural effusion` and `Pleural.Effusion` are one. CheXpert-style tables also know the usual
synonyms (`patient_id`, `Gender`, `Effusion`, ...).
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from api_schemas.findings import FINDINGS, Finding
from api_schemas.missing import is_missing
from services.datasets.importers.fields import PATH

Row = Mapping[str, str]

COLUMNS = (
    *(PATH, "PID", "Sex", "Age", "Race", "Ethnicity", "Frontal/Lateral", "AP/PA", "Split", "Fold"),
    *("Synthetic", "Phantom"),
    *FINDINGS,
)
"""The columns of a CheXpert-style table."""

_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    PATH: (
        *("file", "file name", "file path", "relative path"),
        *("image", "image path", "image file", "image file name", "image name", "image index"),
        *("img", "img path", "path to image", "dicom path", "jpg path", "png path"),
    ),
    "PID": (
        *("patient", "patient id", "patient no", "patient number", "patient identifier"),
        *("subject", "subject id", "participant", "participant id", "person id", "mrn"),
    ),
    "Sex": ("gender", "patient sex", "patient gender"),
    "Age": (
        *("patient age", "age years", "age in years", "age at study", "age at exam"),
        *("age at examination", "age at cxr"),
    ),
    "Race": ("patient race", "primary race"),
    "Ethnicity": ("patient ethnicity",),
    "AP/PA": ("view", "view position", "projection"),
    "Split": ("set", "subset", "partition", "data split"),
    "Fold": ("fold id", "fold number"),
    Finding.PLEURAL_EFFUSION: ("effusion", "effusions", "pleural effusions"),
    Finding.EDEMA: ("oedema", "pulmonary edema", "pulmonary oedema"),
    Finding.LUNG_OPACITY: ("airspace opacity", "lung opacities"),
    Finding.LUNG_LESION: ("lung lesions",),
    Finding.ENLARGED_CARDIOMEDIASTINUM: ("enlarged cardiom",),
    Finding.FRACTURE: ("fractures",),
    Finding.SUPPORT_DEVICES: ("support device",),
    Finding.NO_FINDING: ("no findings",),
}

LABEL_COLUMNS = frozenset(
    {
        *("label", "labels", "finding", "findings", "findinglabels", "target", "class"),
        *("classname", "diagnosis", "diagnoses", "pathology", "pathologies", "disease"),
    }
)
"""Plain names of columns that hold labels in words."""
LABEL_WORDS = frozenset(
    {
        *("1", "0", "-1", "1.0", "0.0", "-1.0", "true", "false", "yes", "no", "y", "n"),
        *("positive", "negative", "uncertain", "present", "absent", "pos", "neg", "x", "+", "-"),
        *("ja", "nein", "oui", "non", "si", "sí"),
    }
)


def plain(name: str) -> str:
    """A column's name without case and marks."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))


SYNONYMS: Mapping[str, str] = {
    plain(name): column for column, names in _SYNONYMS.items() for name in names
}
"""Columns of a CheXpert-style table by the plain form of their synonyms."""


@dataclass(frozen=True)
class Matched:
    """How the columns of a table are read."""

    names: list[str]
    """The table's columns in their order, those that are read by the name they are read as."""
    renamed: dict[str, str]
    """The names that were read as others."""
    unread: list[str]
    unclear: dict[str, list[str]]
    """Columns that could be read from several of the table's."""


def match(
    columns: Sequence[str], known: Iterable[str], synonyms: Mapping[str, str] | None = None
) -> Matched:
    """Which of `columns` are `known` ones. The exact name goes before its other spellings,
    and those before synonyms.
    """
    exact = set(known)
    spellings = {plain(name): name for name in exact}
    ranked: dict[str, list[tuple[int, str]]] = {}
    for name in columns:
        spelled = name if name in exact else spellings.get(plain(name))
        meant = spelled or (synonyms or {}).get(plain(name))
        if name and meant is not None:
            rank = 0 if name == meant else 1 if spelled else 2
            ranked.setdefault(meant, []).append((rank, name))
    chosen: dict[str, str] = {}
    unclear: dict[str, list[str]] = {}
    for meant, candidates in ranked.items():
        best = min(candidates)[0]
        names = list(dict.fromkeys(name for rank, name in candidates if rank == best))
        chosen[names[0]] = meant
        if len(names) > 1:
            unclear[meant] = names
    return Matched(
        names=[chosen.get(name, name) for name in columns],
        renamed={name: meant for name, meant in chosen.items() if name != meant},
        unread=[name for name in columns if name not in chosen],
        unclear=unclear,
    )


def unread_labels(unread: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """The columns of `unread` that look as if they held labels, by their name or their words."""
    return [name for name in unread if plain(name) in LABEL_COLUMNS or _words(name, rows)]


def _words(name: str, rows: Sequence[Row]) -> bool:
    words = {row[name].strip().casefold() for row in rows if not is_missing(row.get(name, ""))}
    return bool(words) and words <= LABEL_WORDS
