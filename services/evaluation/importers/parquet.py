"""Parquet files of unknown honesty: a few bytes of one can hold more than any machine has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.evaluation.importers.faults import Faulty

ROW_LIMIT = 20_000_000
"""More than a million images with all labels, one row a label."""
UNPACKED_LIMIT = 4 * 2**30
WIDTH_LIMIT = 5000
"""Columns: one for each number of the longest vector, and some."""
CELLS_AT_ONCE = 4_000_000
NUMBER_BYTES = 8


class TooLarge(Faulty):
    """What the file holds, not the file."""


def read_bounded(source: Path | BinaryIO) -> pa.Table:
    """The table, if it fits into `UNPACKED_LIMIT` bytes. Raises `TooLarge`, and `Faulty` for a
    file that is damaged.

    The footer says how large the columns are as they are encoded: of a text that stands in
    every row only once, and nothing of numbers that are all the same. So texts are read as
    references to their dictionary, in parts, and counted before they are written out.
    """
    try:
        footer = pq.read_metadata(source)
        _check_footer(footer)
        schema = footer.schema.to_arrow_schema()
        texts = [field.name for field in schema if _is_text(field.type)]
        file = pq.ParquetFile(source, read_dictionary=texts)
        rows = max(1, CELLS_AT_ONCE // max(1, footer.num_columns))
        batches, size = [], 0
        for batch in file.iter_batches(min(rows, 1 << 16)):
            size += sum(_size(column) for column in batch.columns)
            if size > UNPACKED_LIMIT:
                raise _too_large()
            batches.append(batch)
        return pa.Table.from_batches(batches, file.schema_arrow).cast(schema)
    except (pa.ArrowException, OSError) as error:
        raise Faulty("It is a damaged Parquet file") from error


def _check_footer(footer: Any) -> None:
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    if footer.num_columns > WIDTH_LIMIT:
        raise TooLarge(f"At most {WIDTH_LIMIT} columns")
    values = sum(column.num_values for column in _columns(footer))
    if footer.num_rows > ROW_LIMIT or max(unpacked, values * NUMBER_BYTES) > UNPACKED_LIMIT:
        raise _too_large()


def _columns(footer: Any) -> Iterator[Any]:
    for group in range(footer.num_row_groups):
        for column in range(footer.num_columns):
            yield footer.row_group(group).column(column)


def _is_text(kind: pa.DataType) -> bool:
    """Raises `Faulty` for what is neither text, number nor a list of numbers."""
    lists = (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
    if pa.types.is_primitive(kind) or (lists and pa.types.is_primitive(kind.value_type)):
        return False
    if pa.types.is_nested(kind):
        raise Faulty("It holds what is neither text, number nor a list of numbers")
    return True


def _size(column: pa.Array) -> int:
    """Bytes of a column, texts written out."""
    if isinstance(column, pa.DictionaryArray):
        lengths = pc.call_function("binary_length", [column.dictionary]).take(column.indices)
        written_out = pc.call_function("sum", [lengths]).as_py() or 0
        return written_out + NUMBER_BYTES * len(column)
    return column.nbytes


def _too_large() -> TooLarge:
    return TooLarge(f"At most {ROW_LIMIT} rows and {UNPACKED_LIMIT >> 30} GiB unpacked")
