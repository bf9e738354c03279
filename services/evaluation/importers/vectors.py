"""Vectors of images as somebody's extractor wrote them: Parquet or npz."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.evaluation.importers.faults import Faulty
from services.evaluation.importers.parquet import NUMBER_BYTES, ROW_LIMIT, UNPACKED_LIMIT
from services.evaluation.importers.scores import SAMPLE, one_of
from services.evaluation.importers.tables import read_table
from services.evaluation.statistics.cases import Floats

NPZ_MAGIC = b"PK"
ARRAYS = ("vector", "features")
FEWEST, MOST = 2, 4096
"""Numbers of a vector."""
LARGEST = 1e6
"""Beyond it the cube of the kernel and the single precision that is kept leave rounding alone."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """N samples, each once, and their vectors."""

    samples: list[str]
    values: NDArray[np.float32]  # (N, D)


def read_vectors(path: Path) -> Vectors:
    """Parquet: `sample_id` and a column of lists, or one of numbers for each dimension. npz:
    `sample_id` and `vector` (N, D). Raises `Faulty`.
    """
    with path.open("rb") as file:
        npz = file.read(len(NPZ_MAGIC)) == NPZ_MAGIC
    samples, values = (_read_npz if npz else _read_columns)(path)
    if values.ndim != len(("N", "D")) or len(values) != len(samples):
        raise Faulty(f"{len(samples)} samples and vectors of shape {list(values.shape)}")
    if not FEWEST <= values.shape[1] <= MOST:
        raise Faulty(
            f"A vector has {values.shape[1]} numbers", accepted=[f"{FEWEST} to {MOST} numbers"]
        )
    twice = np.flatnonzero(~pl.Series(samples).is_first_distinct().to_numpy())
    if len(twice):
        raise Faulty("The same sample stood in an earlier line", line=int(twice[0]) + 1)
    return Vectors(samples, _measurable(values))


def _measurable(values: Floats) -> NDArray[np.float32]:
    """The vectors in single precision. Raises `Faulty` where a distance would be no number, or one
    that says nothing: among vectors that are all the same every cohort is perfect.
    """
    infinite = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(infinite):
        raise Faulty("A vector holds NaN or infinity", line=int(infinite[0]) + 1)
    large = np.flatnonzero((np.abs(values) > LARGEST).any(axis=1))
    if len(large):
        raise Faulty(
            "A vector holds a number too large to measure with",
            line=int(large[0]) + 1,
            accepted=[f"-{LARGEST:,.0f} to {LARGEST:,.0f}"],
        )
    kept = values.astype(np.float32)
    if len(kept) > 1 and (kept == kept[0]).all():
        raise Faulty("All vectors are the same: the extractor saw nothing of the images")
    return kept


def _read_columns(path: Path) -> tuple[list[str], Floats]:
    table = read_table(path)
    sample = one_of(table, SAMPLE)
    if sample is None:
        raise Faulty("No column names the sample", accepted=list(SAMPLE))
    names = [name for name in table.names if name != sample]
    samples = table.texts(sample, required=True).to_list()
    if len(names) == 1:
        column = table.columns[names[0]]
        if isinstance(column.dtype, pl.List | pl.Array):
            return samples, _stacked(column, names[0])
    if not names:
        raise Faulty("It has no vectors", accepted=list(ARRAYS))
    columns: list[Floats] = []
    for name in names:
        values, blank = table.numbers(name)
        table.refuse(blank, "A number is missing", name)
        columns.append(values)
    return samples, np.stack(columns, axis=1)


def _stacked(column: pl.Series, name: str) -> Floats:
    try:
        lists = column.cast(pl.List(pl.Float64))
    except pl.exceptions.PolarsError as error:
        raise Faulty("Its lists do not hold numbers", column=name) from error
    lengths = lists.list.len()
    odd = np.flatnonzero((lengths.fill_null(0) != lengths[0]).to_numpy())
    if len(odd):
        raise Faulty("Its vector has another length", column=name, line=int(odd[0]) + 1)
    flat = lists.explode()
    if flat.null_count():
        raise Faulty("A number is missing", column=name)
    return flat.to_numpy().reshape(len(lists), -1)


def _read_npz(path: Path) -> tuple[list[str], Floats]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(each.file_size for each in archive.infolist()) > UNPACKED_LIMIT:
                raise _too_large()
        with np.load(path, allow_pickle=False) as arrays:
            samples = _array(arrays, SAMPLE)
            values = _array(arrays, ARRAYS)
    except MemoryError as error:  # so large as it says that it is; what it holds was looked at
        raise _too_large() from error
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        if isinstance(error, Faulty):
            raise
        raise Faulty("It is a damaged npz file, or one of Python objects") from error
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise Faulty("Its vectors are not numbers", column=ARRAYS[0])
    if samples.size > ROW_LIMIT or values.size * NUMBER_BYTES > UNPACKED_LIMIT:
        raise _too_large()  # an array of empty texts takes no room in a file
    return [str(each) for each in samples.ravel()], values.astype(np.float64)


def _too_large() -> Faulty:
    return Faulty(f"At most {ROW_LIMIT} samples and {UNPACKED_LIMIT >> 30} GiB unpacked")


def _array(arrays: Any, names: tuple[str, ...]) -> NDArray[Any]:
    found = [name for name in names if name in arrays]
    if not found:
        raise Faulty("It lacks an array", accepted=list(names))
    return arrays[found[0]]
