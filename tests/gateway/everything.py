"""Every route of the suite and every field that names something, from its own document; and
something of every kind, to ask for.
"""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import uuid4

import polars as pl
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.gateway.conftest import PHANTOMS, Study

VERBS = ("get", "post", "put", "patch", "delete")
GONE = str(uuid4())
"""What nobody has."""
TEST = "there"
"""The test set of the study."""
NUMBERS = {"index": "0", "step": "10"}

Ids = dict[str, str]
"""By the name that routes give it."""
Request = dict[str, Any]


def operations(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Verb, path and description of every route but `/health`."""
    for path, item in app.openapi()["paths"].items():
        for verb in VERBS:
            if verb in item and path != "/health":
                yield verb.upper(), path, item[verb]


def example(app: FastAPI, operation: dict[str, Any]) -> Request:
    """A body that the route takes, from its own documentation."""
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    if schema is None:
        return {}
    models = app.openapi()["components"]["schemas"]
    name = schema.get("oneOf", [schema])[0]["$ref"].rpartition("/")[2]
    return {"json": models[name]["examples"][0]}


def address(path: str, things: Ids) -> str:
    """The path of something of these. A kind that nobody has named is a `KeyError`."""
    run = f"/predictions?arm=real&seed=0&test={TEST}"
    files = {"/paper/{name}": "/paper/cxp_tr.csv", "/files/{name}": "/files/seeded.csv"}
    files["/experiments/{experiment}/predictions"] = f"/experiments/{{experiment}}{run}"
    for template, real in files.items():
        path = path.replace(template, real)
    if "/samples/" in path:
        path = path.replace("{dataset}", things["other"])
    return re.sub(r"{(\w+)}", lambda found: things[found[1]], path)


# ---------------------------------------------------------------- fields


def fields(app: FastAPI) -> Iterator[tuple[str, str, str]]:
    """Every field of a query or a body that names something by its id: verb, path and field."""
    document = app.openapi()
    for verb, path, operation in operations(app):
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query" and _is_name(parameter["schema"]):
                yield verb, path, parameter["name"]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            for field in sorted(set(_fields(document, content["schema"], ()))):
                yield verb, path, field


def _fields(document: Any, schema: Any, seen: tuple[str, ...], place: str = "") -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            inner = document["components"]["schemas"][name]
            yield from _fields(document, inner, (*seen, name), place)
        return
    if place and _is_name(schema):
        yield place
    for name, inner in schema.get("properties", {}).items():
        yield from _fields(document, inner, seen, f"{place}.{name}".lstrip("."))
    branches = [*schema.get("anyOf", []), *schema.get("oneOf", []), *schema.get("allOf", [])]
    for inner in [*branches, *([schema["items"]] if "items" in schema else [])]:
        yield from _fields(document, inner, seen, place)


def _is_name(schema: Any) -> bool:
    """An id, or `dataset/{id}`."""
    options = [schema, *schema.get("anyOf", [])]
    return any(
        each.get("format") == "uuid"
        or "(dataset|generation)/" in each.get("pattern", "")
        or "dataset/{id}" in each.get("description", "")
        for each in options
    )


# ---------------------------------------------------------------- things


def made_by(http: TestClient, path: str, status: int = 202, **request: Any) -> str:
    answer = http.post(path, **request)
    assert answer.status_code == status, answer.text
    return answer.json()["id"]


def things_of(http: TestClient, run: Callable[[], None], study: Study) -> Ids:
    """Something of every kind, in the project of whoever made the study."""

    def post(path: str, status: int = 202, **body: Any) -> str:
        return made_by(http, path, status, json=body)

    made = http.get(f"/experiments/{study.experiment}").json()
    arms = http.get(f"/experiments/{study.experiment}/arms").json()
    samples = http.get(f"/datasets/{study.other}/samples").json()["items"]
    sets = [{"data": {"dataset": each}} for each in (study.dataset, study.other)]
    plain = {"name": "shown", "dataset": study.dataset, "preset": "tiny-32", "steps": 10}
    found = {
        "generator": post("/generators", **plain, preview_every=5),
        "overlap": post("/overlaps", first=sets[0], second=sets[1]),
        "export": post("/exports", set=sets[0], format="seeded_csv"),
        "quality": post("/qualities", cohort={"generation": study.cohort}),
    }
    run()
    found |= {
        "dataset": study.dataset,
        "other": study.other,
        "sample_id": samples[0]["sample_id"],
        "generation": study.cohort,
        "experiment": study.experiment,
        "plan": made["plan"],
        "classifier": arms[0]["runs"][0]["classifier"],
        "job": made["job"]["id"],
        "person": http.get("/me").json()["person"],
        "key": post("/keys", 201, name="second", scopes=["read"]),
        "upload": made_by(http, "/uploads", 201, content=b"an archive"),
        "withdrawal": post("/withdrawals", samples=[samples[-1]["sample_id"]]),
        **NUMBERS,
    }
    scored = {"classifier": found["classifier"], "data": sets[1]["data"]}
    found["scoring"] = post("/scorings", **scored, allow_leakage=True)
    return found | tables_of(http, study.cohort)


def tables_of(http: TestClient, cohort: str) -> Ids:
    """An evaluation and features of a cohort, and the file of `scores` that was sent."""
    content = http.get(f"/generations/{cohort}/manifest").content
    names = pl.read_parquet(io.BytesIO(content))["sample_id"]
    labels = ["Edema", "Cardiomegaly", "Pleural Effusion", "Atelectasis", "No Finding"]
    scores = csv_of(["id", *(f"score_{label}" for label in labels)], names)
    vectors = csv_of(["sample_id", "a", "b"], names)
    about = {"name": "own", "data": f"generation/{cohort}"}
    versioned = about | {"version": "1"}
    return {
        "scores": scores,
        "evaluation": made_by(http, "/evaluations", data=about, files={"file": scores.encode()}),
        "table": made_by(http, "/features", 201, data=versioned, files={"file": vectors.encode()}),
    }


def csv_of(head: list[str], names: Iterable[str]) -> str:
    """A table whose first column holds the names, and the others some number."""
    rows = [[name, *[f"{n / 7}"] * (len(head) - 1)] for n, name in enumerate(names)]
    return "\n".join(",".join(row) for row in [head, *rows])


def accepted_request(app: FastAPI, path: str, operation: dict[str, Any], things: Ids) -> Request:
    """A request of these things that is accepted as often as it is sent."""
    real, cohort = {"dataset": things["dataset"]}, {"generation": things["generation"]}
    sets = [{"data": real}, {"data": {"dataset": things["other"]}}]
    about = {"name": "own", "data": f"generation/{things['generation']}"}
    bodies: dict[str, Any] = {
        "/datasets": {"name": "d", "site": "phantom-a", **PHANTOMS},
        "/datasets/{dataset}/views": {"name": "v"},
        "/withdrawals": {"samples": [f"nobody-{0:032x}"]},
        "/generators": {"name": "g", "dataset": things["dataset"], "preset": "tiny-32", "steps": 5},
        "/generate": {"generator": things["generator"], "conditions": [{"count": 1}]},
        "/overlaps": {"first": sets[0], "second": sets[1]},
        "/exports": {"set": sets[0], "format": "png_csv"},
        "/qualities": {"cohort": cohort},
        "/keys": {"name": "k", "scopes": ["read"]},
        "/plans": {
            "experiment": GONE,
            "name": "p",
            "arms": [{"name": "a"}, {"name": "b"}],
            "seeds": [0],
            "tests": [{"name": "t", "data": real, "split": "all"}],
            "reference": "a",
            "primary": "b",
            "margin": 0.01,
        },
        "/scorings": {
            "classifier": things["classifier"],
            "data": sets[1]["data"],
            "allow_leakage": True,
        },
        "/experiments": {
            "name": "e",
            "preset": {"name": "supplement", "real": real, "synthetic": cohort},
            "seeds": [0],
            "validation": {"data": real, "split": "validation"},
            "tests": [{"name": "t", "data": sets[1]["data"], "split": "all"}],
        },
    }
    if path in bodies:
        return {"json": bodies[path]}
    names = [line.partition(",")[0] for line in things["scores"].splitlines()[1:]]
    files = {
        "/evaluations": (about, things["scores"]),
        "/features": (about | {"version": "1"}, csv_of(["sample_id", "a", "b"], names)),
        "/generators/import": ({"name": "i"}, "no checkpoint"),
    }
    if path in files:
        data, content = files[path]
        return {"data": data, "files": {"file": content.encode()}}
    if path == "/uploads":
        return {"content": b"an archive"}
    return example(app, operation)
