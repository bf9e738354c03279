"""The page `/docs`: every route with its words, its parameters and an example, from the document
that FastAPI makes. It loads nothing from elsewhere and runs nothing: somebody's key is near.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"
VERBS = ("get", "post", "put", "delete")


@dataclass(frozen=True)
class Entry:
    """One route. `examples` are bodies as JSON, `parts` the types of bodies that are none."""

    tag: str
    verb: str
    path: str
    words: str
    parameters: list[dict[str, Any]]
    examples: list[str]
    parts: list[str]


def handbook(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document, as HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    title = document["info"]["title"]
    return environment.get_template("handbook.html").render(
        title=title, entries=sorted(_entries(document), key=lambda entry: entry.tag)
    )


def _entries(document: dict[str, Any]) -> Iterator[Entry]:
    for path, item in document["paths"].items():
        for verb in VERBS:
            if verb not in item:
                continue
            told = item[verb]
            content: dict[str, Any] = told.get("requestBody", {}).get("content", {})
            yield Entry(
                tag=told.get("tags", [""])[0],
                verb=verb.upper(),
                path=path,
                words=told.get("description", told.get("summary", "")),
                parameters=[p for p in told.get("parameters", []) if p["in"] != "path"],
                examples=list(_examples(document, content)),
                parts=[kind for kind in content if kind != "application/json"],
            )


def _examples(document: dict[str, Any], content: dict[str, Any]) -> Iterator[str]:
    schema: dict[str, Any] = content.get("application/json", {}).get("schema", {})
    for option in schema.get("oneOf", [schema]):
        name = option.get("$ref", "").rpartition("/")[2]
        model = document["components"]["schemas"].get(name, {})
        yield from (json.dumps(example, indent=2) for example in model.get("examples", [])[:1])
