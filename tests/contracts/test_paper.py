"""The paper's files: what a spreadsheet would run is only text."""

import pyarrow as pa

from api_schemas.findings import FINDINGS
from api_schemas.manifest import MANIFEST
from api_schemas.paper import PaperFile, paper_file


def test_a_cell_that_looks_like_a_formula_is_quoted() -> None:
    row = {
        **dict.fromkeys(MANIFEST.names),
        **dict.fromkeys(map(str, FINDINGS), -1),
        "sample_id": "=cmd()",
        "patient_id": "@sum",
        "site": "s",
        "split": "test",
    }
    table = pa.Table.from_pylist([row], schema=MANIFEST)
    assert paper_file(table, PaperFile.TEST_LIST) == "Path,PID\n'=cmd(),'@sum\n"
    line = paper_file(table, PaperFile.TABLE).splitlines()[1]
    assert line.startswith("'=cmd(),'@sum,")
    assert ",-1,-1," in line
