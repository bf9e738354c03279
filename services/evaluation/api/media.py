"""What evaluation answers with beside JSON."""

from typing import Any

from services.evaluation.reports.policy import CONTENT_SECURITY_POLICY

PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"
HTML = "text/html"
SVG = "image/svg+xml"
TEX = "application/x-tex"

REPORT_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}


def shown_as(media_type: str) -> dict[int | str, dict[str, Any]]:
    """The answer of a route whose answer is a text of this kind."""
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}}
