"""The page `docs/from-python.md` works as it is printed, against a server and workers."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import uvicorn

from services.gateway.main import compose

PAGE = Path(__file__).parents[2] / "docs" / "from-python.md"


@pytest.fixture
def url(adapters) -> Iterator[str]:
    """Of the whole suite, answering on a port of its own."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(compose(adapters), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def working(run: Callable[[], None]) -> Iterator[None]:
    """Workers that do what there is to do, until the test is over."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            run()
            time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.usefixtures("working")
def test_the_page_is_a_notebook_that_runs(url, ada, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNTHORAX_URL", url)
    monkeypatch.setenv("SYNTHORAX_KEY", ada.key)
    said: dict[str, Any] = {}
    for cell in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        exec(compile(cell, PAGE.name, "exec"), said)  # noqa: S102 - our own page
    said["lab"].close()
    assert list(said["arms"]["arm"]) == list(said["rows"]["arm"].unique())
    assert said["table"].shape == (len(said["arms"]), 3 * 2)
    assert isinstance(said["by_sex"], pd.DataFrame)
    assert set(said["by_sex"]["group"]) == {"sex: Female", "sex: Male"}
    assert (tmp_path / "report.html").read_text() == "a report"  # what `run` renders
    assert "seeds" in capsys.readouterr().out
