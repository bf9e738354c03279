"""The rows of samples while a dataset is ingested: many at once, and never all in memory."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast
from uuid import UUID

import polars as pl
import psycopg
import pyarrow as pa
from psycopg import sql
from sqlalchemy import (
    ARRAY,
    Integer,
    String,
    any_,
    delete,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy import cast as as_type
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from api_schemas.base import Split
from api_schemas.provenance import ImageOrigin, ImageOrigins
from api_schemas.terms import FREE, Licence, strictest
from services.datasets.importers.splits import assign
from services.datasets.models import Sample, Withdrawal, WithdrawnPicture
from services.datasets.service.standing import Banned, among, binds
from services.datasets.views import manifest_table

COPIED = (
    *("dataset", "ordinal", "line", "place", "bucket", "sample_id", "patient_id", "split", "fold"),
    *("age", "sex", "race", "ethnicity", "view", "labels", "seed", "replica", "parent_sample_id"),
    "origin",
)
READ_AT_ONCE = 10_000
NAMED = 100
"""Generators, cohorts and terms that a dataset's origins name at most."""


def copy_in(session: Session, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert planned samples by COPY: ten times as fast as INSERT."""
    connection = cast("psycopg.Connection", session.connection().connection.driver_connection)
    columns = sql.SQL(", ").join(map(sql.Identifier, COPIED))
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("COPY datasets.samples ({}) FROM STDIN").format(columns)) as copy,
    ):
        for row in rows:
            values = dict(row, labels=json.dumps(row["labels"]))
            if row["origin"] is not None:
                values["origin"] = json.dumps(row["origin"])
            copy.write_row([values[name] for name in COPIED])


def stored(session: Session, dataset: UUID) -> int:
    """How many samples have their picture."""
    there = select(func.count()).where(Sample.dataset == dataset, Sample.image_key.is_not(None))
    return session.scalar(there) or 0


def shard(session: Session, dataset: UUID, first: int, size: int) -> Sequence[Sample]:
    return session.scalars(
        select(Sample)
        .where(Sample.dataset == dataset)
        .where(Sample.ordinal >= first, Sample.ordinal < first + size)
        .order_by(Sample.ordinal)
    ).all()


def splits(session: Session, dataset: UUID) -> dict[str, Split]:
    """The split of every patient, by the source's word or by the hash of its name."""
    rows = session.execute(
        select(Sample.patient_id, func.max(Sample.bucket), func.max(Sample.split))
        .where(Sample.dataset == dataset)
        .group_by(Sample.patient_id)
    ).all()
    given: dict[str, Split] = {row[0]: cast("Split", row[2]) for row in rows if row[2] is not None}
    return assign({row[0]: row[1] or 0 for row in rows}, given)


def planned(session: Session, dataset: UUID) -> Counter[str]:
    """How many images of each split there will be if all of them can be read."""
    counted = func.count()
    rows = session.execute(
        select(Sample.patient_id, counted)
        .where(Sample.dataset == dataset)
        .group_by(Sample.patient_id)
    )
    by_patient = splits(session, dataset)
    images: Counter[str] = Counter()
    for patient, count in rows:
        images[by_patient[patient]] += count
    return images


def manifest(session: Session, dataset: UUID, by_patient: Mapping[str, str], site: str) -> pa.Table:
    """The manifest of a dataset's samples, in their order."""
    query = select(Sample.__table__).where(Sample.dataset == dataset).order_by(Sample.ordinal)
    parts = session.execute(query.execution_options(yield_per=READ_AT_ONCE)).partitions()
    return pa.concat_tables([manifest_table(part, by_patient, site) for part in parts])


def origins(session: Session, dataset: UUID) -> ImageOrigins | None:
    """What the images of a dataset say of their own making; None where none says anything."""
    kind = literal_column("origin - 'seed'", JSONB)  # the seed is another one for every image
    said = session.execute(
        select(kind, func.count())
        .select_from(Sample)
        .where(Sample.dataset == dataset, Sample.origin.is_not(None))
        .group_by(kind)
    ).all()
    if not said:
        return None
    kinds = [(ImageOrigin.model_validate(origin), count) for origin, count in said]
    generated = [(origin, count) for origin, count in kinds if origin.kind == "synthetic"]
    return ImageOrigins(
        images=session.scalar(select(func.count()).where(Sample.dataset == dataset)) or 0,
        synthetic=sum(count for _, count in generated),
        drawn=sum(count for origin, count in kinds if origin.kind == "phantom"),
        phantom=sum(count for origin, count in kinds if origin.phantom),
        generators=sorted({o.generator for o, _ in kinds if o.generator is not None})[:NAMED],
        generators_unnamed=sum(count for o, count in generated if o.generator is None),
        cohorts=sorted({o.cohort for o, _ in kinds if o.cohort is not None})[:NAMED],
        licence=strictest(_own_licence(o) for o, _ in kinds),
        terms=sorted({o.terms for o, _ in kinds if o.terms})[:NAMED],
    )


def _own_licence(origin: ImageOrigin) -> Licence:
    """The terms of the image itself. A synthetic one states those of the data that it was made of,
    and may be exported where what is made of that data may be shared.
    """
    if origin.kind == "phantom":
        return FREE
    return origin.licence.model_copy(update={"may_export": origin.licence.may_share_derived})


class Shown(NamedTuple):
    """What tells one picture from another."""

    sample_id: str
    patient_id: str
    digest: str
    descriptor: bytes


def pictures(session: Session, dataset: UUID) -> list[Shown]:
    """Every picture of a dataset, in order."""
    query = (
        select(Sample.sample_id, Sample.patient_id, Sample.pixel_sha256, Sample.descriptor)
        .where(Sample.dataset == dataset, Sample.descriptor.is_not(None))
        .order_by(Sample.ordinal)
    )
    return [Shown._make(cast("Shown", row)) for row in session.execute(query)]


def picture_notes(session: Session, dataset: UUID) -> list[tuple[str, int]]:
    """What was odd about the files of the pictures, each with the number of its images."""
    each = func.jsonb_array_elements_text(Sample.picture_notes).label("note")
    notes = select(each).where(Sample.dataset == dataset).subquery()
    query = select(notes.c.note, func.count()).group_by(notes.c.note).order_by(notes.c.note)
    return [(text, count) for text, count in session.execute(query)]


class Placed(NamedTuple):
    """A sample to be dropped: its line, and where its image lies."""

    line: int
    image_key: str | None


def of(session: Session, dataset: UUID, banned: Banned) -> list[Placed]:
    """The samples that may not be here: by patient, by name (their own, or the one under which
    they were exported from here), or by their pixels.
    """
    query = select(Sample.line, Sample.image_key).where(Sample.dataset == dataset)
    exported_as = func.substring(Sample.place, r"([^/]+)\.[^./]+$")
    wanted = or_(
        among(Sample.patient_id, banned.patients),
        among(Sample.sample_id, banned.samples),
        among(exported_as, banned.samples),
        among(Sample.pixel_sha256, banned.pictures),
    )
    return [Placed(*row) for row in session.execute(query.where(wanted))]


def note_withdrawn(session: Session, project: UUID, dataset: UUID) -> None:
    """Note the pixels of withdrawn patients as withdrawn too, before their samples are dropped:
    they may have another size here than those that are known.
    """
    each = func.jsonb_array_elements_text(Withdrawal.patients).label("patient")
    gone = select(Withdrawal.id, each).where(binds(project)).subquery()
    named = (
        select(gone.c.id, Sample.pixel_sha256)
        .join(Sample, Sample.patient_id == gone.c.patient)
        .where(Sample.dataset == dataset, Sample.pixel_sha256.is_not(None))
        .distinct()
    )
    session.execute(
        insert(WithdrawnPicture)
        .from_select(["withdrawal", "pixel_sha256"], named)
        .on_conflict_do_nothing()
    )


def by_line(session: Session, dataset: UUID, lines: Sequence[int]) -> list[list[str]]:
    """The name of the sample of each line, or none."""
    wanted = Sample.line == any_(as_type(list(lines), ARRAY(Integer)))
    rows = session.execute(
        select(Sample.line, Sample.sample_id).where(Sample.dataset == dataset, wanted)
    )
    named: dict[int, list[str]] = {}
    for line, name in rows:
        named.setdefault(line, []).append(name)
    return [named.get(line, []) for line in lines]


def present(table: pl.LazyFrame, names: Collection[str]) -> set[str]:
    """Those of the names that a manifest has."""
    here = table.filter(pl.col("sample_id").is_in(list(names))).select("sample_id").collect()
    return set(here["sample_id"])


def write_splits(session: Session, dataset: UUID, by_patient: Mapping[str, str]) -> None:
    """Split every sample, and forget what only the ingest needed."""
    found = select(
        func.unnest(as_type(list(by_patient), ARRAY(String))).label("patient"),
        func.unnest(as_type(list(by_patient.values()), ARRAY(String))).label("split"),
    ).subquery()
    session.execute(
        update(Sample)
        .where(Sample.dataset == dataset, Sample.patient_id == found.c.patient)
        .values(split=found.c.split, place=None, bucket=None, picture_notes=[], origin=None)
        .execution_options(synchronize_session=False)
    )


def forget(session: Session, dataset: UUID) -> None:
    session.execute(delete(Sample).where(Sample.dataset == dataset))


def drop_lines(session: Session, dataset: UUID, lines: Sequence[int]) -> None:
    named = Sample.line == any_(as_type(list(lines), ARRAY(Integer)))
    session.execute(delete(Sample).where(Sample.dataset == dataset, named))
