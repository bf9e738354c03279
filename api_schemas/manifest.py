"""The manifest: the Parquet table that is a dataset, real or synthetic, one row a sample."""

import hashlib
import io
import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from api_schemas.findings import FINDINGS

LABEL_COLUMNS: tuple[str, ...] = tuple(str(f) for f in FINDINGS)

MANIFEST = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("image_key", pa.string()),
        pa.field("image_sha256", pa.string()),
        pa.field("pixel_sha256", pa.string()),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("site", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("fold", pa.int8()),
        pa.field("age", pa.int16()),
        pa.field("sex", pa.string()),
        pa.field("race", pa.string()),
        pa.field("ethnicity", pa.string()),
        pa.field("view", pa.string()),
        *[pa.field(name, pa.int8()) for name in LABEL_COLUMNS],
        pa.field("seed", pa.int64()),
        pa.field("replica", pa.int32()),
        pa.field("parent_sample_id", pa.string()),
        pa.field("generator_id", pa.string()),
    ]
)
"""Columns and types of every manifest. Labels are 1, 0, -1 or null; the last four are null for
real samples, the image's three for a table that was imported without its images. `patient_id` is
namespaced by source and pseudonymised."""

MADE = ("seed", "replica", "parent_sample_id", "generator_id")
"""Columns of which a synthetic sample has at least one and a real one none."""

WHERE = "image_key"
"""Where an image lies is not what it is: the one column that a digest always leaves out."""

LATER = frozenset({"ethnicity"})
"""Columns that manifests did not always have. A table may lack them, which says what nulls say;
a digest leaves such a column out where every row is null, so that what was published keeps its
digest."""

PREDICTIONS = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("truth", pa.int8()),
        pa.field("score", pa.float64(), nullable=False),
    ]
)
"""Predictions of one classifier on one test set, long form: one row a sample and label.
`truth` is 1, 0 or null (unknown under the label policy: ignored by evaluation)."""


def is_synthetic() -> pc.Expression:
    """True for the rows of a manifest whose images a generative model made, by their own word."""
    condition = pc.field(MADE[0]).is_valid()
    for name in MADE[1:]:
        condition |= pc.field(name).is_valid()
    return condition


class WrongTable(ValueError):
    """A table that is not of the schema it claims."""


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with exactly the columns of `schema`, in its order and types; what it lacks of
    `LATER` is null.

    Raises `WrongTable` naming the columns that are missing, unknown, null where they must not
    be, or of a type that cannot be cast.
    """
    for name in LATER.intersection(schema.names).difference(table.column_names):
        table = table.append_column(name, pa.nulls(table.num_rows))
    missing = [n for n in schema.names if n not in table.column_names]
    unknown = [n for n in table.column_names if n not in schema.names]
    if missing or unknown:
        msg = f"columns missing: {missing}; columns unknown: {unknown}"
        raise WrongTable(msg)
    try:
        cast = table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise WrongTable(str(error)) from error
    nulls = [f.name for f in schema if not f.nullable and cast[f.name].null_count]
    if nulls:
        msg = f"null values in: {nulls}"
        raise WrongTable(msg)
    return cast.replace_schema_metadata(None)


def to_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def from_parquet(content: bytes, schema: pa.Schema) -> pa.Table:
    """Read and check a table; raises `WrongTable` for anything that is not `schema` in Parquet."""
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowInvalid, OSError) as error:
        msg = "not a Parquet file"
        raise WrongTable(msg) from error
    return conform(table, schema)


def _counts(table: pa.Table, name: str) -> bool:
    return name != WHERE and not (name in LATER and table[name].null_count == table.num_rows)


def _rows(table: pa.Table) -> Iterator[str]:
    """Every row as a JSON list, encoded column by column: a table has millions of rows."""
    for batch in table.to_batches(max_chunksize=8192):
        columns = [_cells(column) for column in batch.columns]
        yield from (f"[{','.join(cells)}]" for cells in zip(*columns, strict=True))


def _cells(column: pa.Array) -> list[str]:
    """The values of a column as JSON."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):  # no comma within
        return json.dumps(column.to_pylist(), separators=(",", ":"))[1:-1].split(",")
    encoded = column.dictionary_encode()
    words = [json.dumps(value) for value in encoded.dictionary.to_pylist()]
    return ["null" if i is None else words[i] for i in encoded.indices.to_pylist()]


def content_digest(table: pa.Table) -> str:
    """SHA-256 over the content: column names, then every row in order as canonical JSON.

    Parquet bytes hold their writer's version, so they are never the identity of a table; nor is
    the place of its images, so that the same folder imported twice has one digest, nor a column
    of `LATER` that says nothing.
    """
    table = table.select([name for name in table.column_names if _counts(table, name)])
    digest = hashlib.sha256(json.dumps(table.column_names).encode())
    for row in _rows(table):
        digest.update(f"\n{row}".encode())
    return digest.hexdigest()
