"""What is mistyped on the command line is said in one line, before anything is started."""

from pathlib import Path

import pytest

from services.local.__main__ import demo, import_generator


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        import_generator(tmp_path / "gone.ckpt", name="g", state=tmp_path / "state")
    told = capsys.readouterr().out
    assert "There is no file" in told
    assert "gone.ckpt" in told.replace("\n", "")
    assert not (tmp_path / "state").exists()


def test_a_table_that_is_not_there_is_named(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        demo(state=tmp_path / "state", data=tmp_path / "gone.csv")
    assert "There is no" in capsys.readouterr().out
    assert not (tmp_path / "state").exists()
