"""What a report says of its data: which test sets, and a contact sheet of images."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
from PIL import Image

from api_schemas.base import DataRef, DatasetRef, GenerationRef
from api_schemas.content_order import lot
from api_schemas.evaluation import Flag, PlannedTest, PlanPost
from api_schemas.findings import FINDINGS, PRESENT
from api_schemas.screening import Screening
from api_schemas.terms import UNSTATED, Licence, strictest
from services.evaluation.ports import Datasets, Generations
from services.evaluation.reports.facts import Contact, Kind, Pair, Pixels, TestFacts
from services.evaluation.statistics.groups import COLUMNS
from services.kit.auth import Caller
from services.kit.errors import ProblemError, Unavailable
from services.kit.objects import DigestMismatch, ObjectMissing, ObjectStore

PAIRS = 12
Row = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """What is known of a dataset or cohort."""

    kind: Kind
    phantom: bool
    synthetic: bool = False
    title: str | None = None
    manifest: str | None = None
    terms: str = ""
    licence: Licence = UNSTATED


@dataclass(frozen=True)
class Sources:
    """The data behind an experiment. Deleted data is no error: the report says that it is gone."""

    store: ObjectStore
    datasets: Datasets
    generations: Generations

    def data(self, caller: Caller, ref: DataRef) -> Data:
        try:
            return self._data(caller, ref)
        except Unavailable:
            raise
        except ProblemError:
            return Data("unknown", phantom=False)

    def facts(
        self, caller: Caller, test: PlannedTest, images: int, patients: int
    ) -> tuple[TestFacts, list[Flag]]:
        """A test set, and flags of images in it that are no patients'."""
        data = self.data(caller, test.data)
        facts = TestFacts(
            test.name,
            data.kind,
            test.split,
            images,
            patients,
            data.title,
            data.manifest,
            data.terms,
        )
        shown: list[tuple[Flag, bool]] = [
            ("phantom", data.phantom),
            ("synthetic", data.synthetic),
        ]
        return facts, [flag for flag, holds in shown if holds]

    def demographics(self, caller: Caller, test: PlannedTest) -> pl.DataFrame | None:
        """Who is on the images of a test set, `COLUMNS` of its manifest; None of what is gone."""
        try:
            table = self._manifest(caller, test.data)
        except Unavailable:
            raise
        except ProblemError:
            return None
        return cast("pl.DataFrame", pl.from_arrow(table.select(COLUMNS)))

    def licence(self, caller: Caller, plan: PlanPost) -> Licence:
        """The strictest of all data that the report tells of."""
        refs = [*(test.data for test in plan.tests), *_shown(plan)]
        known = [self.data(caller, ref) for ref in dict.fromkeys(refs)]
        return strictest([data.licence for data in known if data.kind != "unknown"])

    def shown(self, caller: Caller, plan: PlanPost) -> dict[str, str | None]:
        """By reference, the manifest's digest of the data whose images a report shows, as it is
        now; None for what is gone.
        """
        return {ref.model_dump_json(): self.data(caller, ref).manifest for ref in _shown(plan)}

    def contact(self, caller: Caller, plan: PlanPost) -> Contact | str:
        """The plan's contact sheet, or why there is none."""
        sheet = plan.contact_sheet
        if sheet is None:
            return "The plan names no images to show."
        try:
            real = self._rows(caller, sheet.real)
            synthetic = self._rows(caller, sheet.synthetic) if sheet.synthetic else []
            screening = self._screening(caller, sheet.synthetic)
            chosen = pairs_of(real, synthetic)
            pairs = [self._pair(row, twin) for row, twin in chosen]
        except Unavailable:
            raise
        except (ProblemError, ObjectMissing, DigestMismatch):
            return "The contact sheet is missing: its images have been deleted since."
        mirrored = all(twin is not None and is_twin(row, twin) for row, twin in chosen)
        return Contact(pairs, self.data(caller, sheet.real).kind, mirrored, screening)

    def _screening(self, caller: Caller, ref: DataRef | None) -> Screening:
        """Images of a dataset have not been compared with what made them."""
        if not isinstance(ref, GenerationRef):
            return Screening()
        return self.generations.generation(caller, ref.generation).screening

    def _data(self, caller: Caller, ref: DataRef) -> Data:
        if isinstance(ref, DatasetRef):
            view = self.datasets.dataset(caller, ref.dataset)
            digest = view.manifest.digest if view.manifest else None
            kind: Kind = view.kind.value
            return Data(
                kind,
                view.phantom,
                view.holds_synthetic,
                view.name,
                digest,
                view.terms,
                view.licence,
            )
        cohort = self.generations.generation(caller, ref.generation)
        digest = cohort.manifest.digest if cohort.manifest else None
        phantom = bool(cohort.phantom)
        return Data("synthetic", phantom, True, cohort.name, digest, cohort.terms, cohort.licence)

    def _rows(self, caller: Caller, ref: DataRef) -> list[Row]:
        table = self._manifest(caller, ref)
        wanted = ["sample_id", "pixel_sha256", "image_key", "image_sha256"]
        wanted += ["split", "age", "sex", "view"]
        columns = [*wanted, "parent_sample_id", *(str(f) for f in FINDINGS)]
        return [row for row in table.select(columns).to_pylist() if row["split"] == "train"]

    def _manifest(self, caller: Caller, ref: DataRef) -> pa.Table:
        if isinstance(ref, DatasetRef):
            return self.datasets.dataset_manifest(caller, ref.dataset)
        return self.generations.cohort_manifest(caller, ref.generation)

    def _pair(self, real: Row, synthetic: Row | None) -> Pair:
        pixels = None if synthetic is None else self._pixels(synthetic)
        return Pair(_caption(real, synthetic), self._pixels(real), pixels)

    def _pixels(self, row: Row) -> Pixels:
        content = self.store.get(row["image_key"], row["image_sha256"])
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            return np.asarray(image.convert("L"))


def _shown(plan: PlanPost) -> list[DataRef]:
    sheet = plan.contact_sheet
    return [] if sheet is None else [ref for ref in (sheet.real, sheet.synthetic) if ref]


def pairs_of(real: Sequence[Row], synthetic: Sequence[Row]) -> list[tuple[Row, Row | None]]:
    """Up to `PAIRS` samples with their synthetic twins: one for each finding, then others.

    Chosen by a hash of the pixels, so that nobody's eye has a say and the same data gives the
    same sheet. Without a mirror any synthetic image stands beside.
    """
    twins: dict[str, Row] = {}
    for row in sorted(synthetic, key=_lot):
        if row["parent_sample_id"] is not None:
            twins.setdefault(row["parent_sample_id"], row)
    mirrored = [row for row in real if row["sample_id"] in twins]
    if mirrored:
        return [(row, twins[row["sample_id"]]) for row in _varied(mirrored)]
    beside = _varied(synthetic)
    return [(row, beside[i] if i < len(beside) else None) for i, row in enumerate(_varied(real))]


def is_twin(real: Row, synthetic: Row) -> bool:
    return bool(synthetic["parent_sample_id"] == real["sample_id"])


def _varied(rows: Sequence[Row]) -> list[Row]:
    drawn = sorted(rows, key=_lot)
    chosen: dict[str, Row] = {}
    for finding in FINDINGS:
        having = (r for r in drawn if r[finding] == PRESENT and r["sample_id"] not in chosen)
        first = next(having, None)
        if first is not None:
            chosen[first["sample_id"]] = first
    for row in drawn:
        chosen.setdefault(row["sample_id"], row)
    return list(chosen.values())[:PAIRS]


def _lot(row: Row) -> bytes:
    return lot("contact sheet", row["pixel_sha256"])


def _caption(real: Row, synthetic: Row | None) -> str:
    if synthetic is None or is_twin(real, synthetic):
        return _condition(real)
    return f"{_condition(real)} | {_condition(synthetic)}"


def _condition(row: Row) -> str:
    age = None if row["age"] is None else f"{row['age']} years"
    who = ", ".join(part for part in (row["sex"], age, row["view"]) if part)
    findings = ", ".join(str(f) for f in FINDINGS if row[f] == PRESENT)
    return f"{who or 'nothing stated'}: {findings or 'no finding stated'}"
