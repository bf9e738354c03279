"""A dataset described in Croissant 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api_schemas.datasets import DatasetKind
from api_schemas.findings import FINDINGS
from api_schemas.terms import Licence

TABLE = "labels.csv"
UNSTATED = "not stated; ask whoever holds the data"

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
SHOWN: Mapping[DatasetKind, tuple[str, str]] = {
    DatasetKind.REAL: ("chest X-rays", "patients"),
    DatasetKind.PHANTOM: ("drawn phantoms of chest X-rays", "made-up patients"),
    DatasetKind.SYNTHETIC: ("synthetic chest X-rays", "synthetic patients"),
    DatasetKind.MIXED: ("real and synthetic chest X-rays", "real and synthetic patients"),
}
"""What images are, and who is on them, by the kind of the data."""

FIELDS: dict[str, str] = {
    "Path": "sc:Text",
    "PID": "sc:Text",
    "Sex": "sc:Text",
    "Age": "sc:Integer",
    "Frontal/Lateral": "sc:Text",
    "AP/PA": "sc:Text",
    "Race": "sc:Text",
    "Ethnicity": "sc:Text",
    "Split": "sc:Text",
    "Fold": "sc:Integer",
    "Synthetic": "sc:Integer",
    "Phantom": "sc:Integer",
    **{str(finding): "sc:Float" for finding in FINDINGS},
}


@dataclass(frozen=True)
class About:
    """What a description says of the data beside its table."""

    name: str
    manifest: str
    images: int
    patients: int
    kind: DatasetKind
    licence: Licence
    terms: str
    created_at: datetime


def croissant(about: About, table: bytes) -> bytes:
    """The JSON-LD that lies beside `labels.csv` and `images/`."""
    described = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": about.name,
        "description": _description(about),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": str(about.licence.url or about.licence.name or about.terms or UNSTATED),
        "url": f"urn:synthorax:manifest:{about.manifest}",
        "version": "1.0.0",
        "datePublished": about.created_at.date().isoformat(),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": TABLE,
                "name": TABLE,
                "contentUrl": TABLE,
                "encodingFormat": "text/csv",
                "sha256": hashlib.sha256(table).hexdigest(),
            },
            {
                "@type": "cr:FileSet",
                "@id": "images",
                "name": "images",
                "encodingFormat": "image/png",
                "includes": "images/*.png",
            },
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "description": "One row an image.",
                "field": [_field(column, kind) for column, kind in FIELDS.items()],
            }
        ],
    }
    return json.dumps(described, indent=1, ensure_ascii=False).encode()


def _field(column: str, kind: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"samples/{column.replace('/', '-').replace(' ', '_')}",
        "name": column,
        "dataType": kind,
        "source": {"fileObject": {"@id": TABLE}, "extract": {"column": column}},
    }


def _description(about: About) -> str:
    what, who = SHOWN[about.kind]
    return (
        f"{about.images} {what} of {about.patients} {who}, grayscale PNG. "
        "Labels: 1 present, 0 absent, -1 uncertain, blank not mentioned. "
        f" Patient ids are pseudonyms. Manifest {about.manifest}. "
        f"{about.licence.notes or about.terms}"
    ).strip()
