"""The page on which an API is read and tried. A hospital's browser need not reach the internet:
all that the page loads comes from the app itself.
"""

import asyncio
import json

from anyio import to_thread
from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

FILES = "/docs/files"
DOCUMENT = "/openapi.json"
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""The page starts itself by a script inside it; its document holds no text of users."""


def add_docs_page(app: FastAPI) -> None:
    """`/docs`, where a key can be entered; it is forgotten when the page is closed."""
    writing: dict[str, asyncio.Task[bytes]] = {}

    def write(below: str) -> bytes:
        document = app.openapi() | ({"servers": [{"url": below}]} if below else {})
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    @app.get(DOCUMENT, include_in_schema=False)
    async def document(request: Request) -> Response:
        """Written once, which takes seconds: in a thread, so that other requests are answered."""
        below = request.scope.get("root_path", "")
        if below not in writing:
            writing[below] = asyncio.create_task(to_thread.run_sync(write, below))
        written = await asyncio.shield(writing[below])  # another who asks waits for it too
        return Response(written, media_type="application/json")

    app.mount(FILES, StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        below = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{below}{DOCUMENT}",
            title=app.title,
            swagger_js_url=f"{below}{FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{below}{FILES}/swagger-ui.css",
            swagger_favicon_url=f"{below}{FILES}/favicon-32x32.png",
            swagger_ui_parameters={"filter": True, "docExpansion": "list"},
        )
        page.headers["Content-Security-Policy"] = POLICY
        return page
