"""The page of the API works where the internet does not."""

import re

from fastapi import APIRouter
from fastapi.testclient import TestClient

from services.kit.http import web_app


def test_all_that_the_page_loads_comes_from_the_app(adapters) -> None:
    http = TestClient(web_app("suite", [APIRouter()], adapters))
    page = http.get("/docs")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert not re.search(r"https?://|['\"]//", page.text)
    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(loaded) == 3
    for file in [*loaded, "/openapi.json"]:
        assert http.get(file).status_code == 200, file
