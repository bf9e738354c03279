"""Small files that hold more than any machine has: none of them is unpacked."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.evaluation.importers import parquet
from services.evaluation.importers.faults import Faulty
from services.evaluation.importers.parquet import read_bounded
from services.evaluation.importers.tables import read_table
from services.evaluation.importers.vectors import read_vectors


def written(table: pa.Table, path: Path) -> Path:
    pq.write_table(table, path, dictionary_pagesize_limit=1 << 30)
    return path


def repeated(text: str, rows: int) -> pa.Array:
    """One text in every row, which a file holds once."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), [text])


@pytest.fixture
def limit(monkeypatch) -> int:
    """The limit, small enough that a test may go beyond it."""
    monkeypatch.setattr(parquet, "UNPACKED_LIMIT", 10 << 20)
    return 10 << 20


def test_a_text_that_stands_in_every_row_is_counted_in_every_row(tmp_path, limit) -> None:
    table = pa.table({"id": repeated("x" * 100_000, 1000), "score_Edema": np.arange(1000.0)})
    path = written(
        table.cast(pa.schema({"id": pa.string(), "score_Edema": pa.float64()})), tmp_path / "a"
    )
    assert path.stat().st_size < limit / 10
    for read in (read_table, read_vectors, read_bounded):
        with pytest.raises(Faulty, match="unpacked"):
            read(path)


def test_a_number_that_stands_in_every_row_is_counted_in_every_row(tmp_path, limit) -> None:
    path = written(pa.table({"id": np.zeros(2_000_000)}), tmp_path / "a")
    assert path.stat().st_size < limit / 100
    with pytest.raises(Faulty, match="unpacked"):
        read_table(path)


def test_lists_without_end_are_counted(tmp_path, limit) -> None:
    lists = pa.array([np.zeros(1_000_000)] * 2)
    path = written(pa.table({"sample_id": ["a", "b"], "vector": lists}), tmp_path / "a")
    assert path.stat().st_size < limit / 100
    with pytest.raises(Faulty, match="unpacked"):
        read_vectors(path)


def test_what_fits_is_read_as_it_was_written(tmp_path) -> None:
    """Whatever is plain or a dictionary in the file, with and without null, over row groups."""
    table = pa.table(
        {
            "id": [f"{n:05d}" for n in range(5000)],
            "label": pa.array(["Edema", None] * 2500),
            "site": repeated("here", 5000).cast(pa.string()),
            "score": np.linspace(0, 1, 5000),
            "truth": pa.array([1, None] * 2500, pa.int8()),
            "vector": pa.array([[1.0, 2.0]] * 5000),
        }
    )
    pq.write_table(table, tmp_path / "a", row_group_size=700)
    assert read_bounded(tmp_path / "a").equals(table)


@pytest.mark.parametrize(
    "samples",
    [
        b"{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,), }",
        b"{'descr': '<U9', 'fortran_order': False, 'shape': (100000000000000,), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    ],
    ids=["empty texts without end", "more than there is", "an object"],
)
@pytest.mark.timeout(60)
def test_an_array_that_says_it_is_endless_is_refused(tmp_path, samples: bytes) -> None:
    header = samples + b" " * (118 - len(samples)) + b"\n"
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "sample_id.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        )
        sink = io.BytesIO()
        np.save(sink, np.zeros((1, 2)))
        archive.writestr("vector.npy", sink.getvalue())
    with pytest.raises(Faulty):
        read_vectors(path)
