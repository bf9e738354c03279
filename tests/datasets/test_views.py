"""Views over datasets: cheap datasets of the same image objects, made by a job."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import polars as pl
import pytest
from fastapi.testclient import TestClient

from api_schemas.datasets import DatasetView
from api_schemas.manifest import MANIFEST, content_digest, from_parquet
from services.datasets.main import compose
from services.kit.adapters import Adapters

REQUEST = {
    "name": "PA, women, one image a patient",
    "where": {"view": ["PA"], "sex": ["Female"]},
    "one_image_a_patient": True,
    "splits": {"kind": "new", "validation": 0.2, "test": 0.3, "seed": 1},
    "seed": 2,
}
PHANTOM = {
    "format": "phantom",
    "name": "P",
    "site": "phantom-a",
    "patients": 20,
    "size_px": 16,
}


def order(http: TestClient, base: UUID, body: dict[str, Any], **headers: str) -> DatasetView:
    answer = http.post(f"/datasets/{base}/views", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/datasets/{answer.json()['id']}"
    return DatasetView.model_validate(answer.json())


def look(http: TestClient, dataset: UUID) -> DatasetView:
    return DatasetView.model_validate(http.get(f"/datasets/{dataset}").json())


def table(http: TestClient, dataset: UUID) -> pl.DataFrame:
    content = http.get(f"/datasets/{dataset}/manifest").content
    return pl.DataFrame(pl.from_arrow(from_parquet(content, MANIFEST)))


def test_a_view_is_a_dataset_of_the_same_image_objects(
    http: TestClient,
    ingest: Callable[..., int],
    phantoms: Callable[..., DatasetView],
    adapters: Adapters,
    ada: Any,
) -> None:
    base = phantoms()
    before = set(adapters.store.keys(f"projects/{ada.caller.project}/"))
    asked = order(http, base.id, REQUEST)
    assert (asked.job.kind, asked.manifest) == ("view", None)
    assert ingest() == 1
    made = look(http, asked.id)
    assert made.manifest is not None
    assert (made.kind, made.format, made.site, made.size_px, made.terms, made.licence) == (
        base.kind,
        "view",
        base.site,
        base.size_px,
        base.terms,
        base.licence,
    )
    assert made.view is not None
    assert made.view.base == base.id
    assert made.view.request.model_dump(mode="json", exclude_defaults=True) == REQUEST | {
        "splits": {"kind": "new", "validation": 0.2, "test": 0.3, "seed": 1}
    }
    new = set(adapters.store.keys(f"projects/{ada.caller.project}/")) - before
    assert new == {made.manifest.key}

    all_rows, rows = table(http, base.id), table(http, made.id)
    wanted = all_rows.filter((pl.col("view") == "PA") & (pl.col("sex") == "Female"))
    assert sorted(rows["patient_id"]) == sorted(wanted["patient_id"].unique())
    kept = rows.drop("split").join(all_rows, on="sample_id", how="left", maintain_order="left")
    assert rows.drop("split").equals(kept.select(rows.drop("split").columns))
    assert set(rows["split"]) == {"train", "validation", "test"}

    first = http.get(f"/datasets/{made.id}/samples", params={"limit": 1}).json()["items"][0]
    png = http.get(f"/datasets/{made.id}/samples/{first['sample_id']}.png")
    assert png.status_code == 200
    assert png.content == http.get(f"/datasets/{base.id}/samples/{first['sample_id']}.png").content
    assert http.get(f"/datasets/{made.id}/summary").json()["images"] == rows.height


def test_the_same_view_has_the_same_digest_and_a_view_has_views(
    http: TestClient, ingest: Callable[..., int], phantoms: Callable[..., DatasetView]
) -> None:
    base = phantoms()
    first, again = order(http, base.id, REQUEST), order(http, base.id, REQUEST)
    other = order(http, base.id, REQUEST | {"seed": 3})
    ingest()
    digests = [m.digest for d in (first, again, other) if (m := look(http, d.id).manifest)]
    assert digests[0] == digests[1] != digests[2]
    nested = order(http, first.id, {"name": "its test set", "where": {"split": ["test"]}})
    ingest()
    made = look(http, nested.id)
    assert set(table(http, nested.id)["split"]) == {"test"}
    assert made.view is not None
    assert made.view.base == first.id


def test_a_view_waits_for_its_base_and_is_ready_with_it(
    http: TestClient, ingest: Callable[..., int]
) -> None:
    base = DatasetView.model_validate(http.post("/datasets", json=PHANTOM).json())
    asked = order(http, base.id, {"name": "test set", "where": {"split": ["test"]}})
    assert asked.job.state == "blocked"
    assert asked.job.waits_for == [base.job.id]
    ingest()
    assert look(http, asked.id).job.state == "succeeded"


def test_a_filter_that_nothing_meets_is_refused_or_fails_the_job(
    http: TestClient, ingest: Callable[..., int]
) -> None:
    nobody = {"name": "none", "where": {"age_from": 120}}
    base = DatasetView.model_validate(http.post("/datasets", json=PHANTOM).json())
    early = order(http, base.id, nobody)
    ingest()
    failed = look(http, early.id).job
    assert failed.problem is not None
    assert (failed.state, failed.problem.type.split(":")[-1]) == ("failed", "nothing-chosen")
    late = http.post(f"/datasets/{base.id}/views", json=nobody)
    assert (late.status_code, late.json()["field"]) == (422, "where.age_from")
    of_failed = http.post(f"/datasets/{early.id}/views", json=REQUEST)
    assert (of_failed.status_code, of_failed.json()["type"].split(":")[-1]) == (409, "base-failed")


def test_an_idempotency_key_is_for_one_view_of_one_base(
    http: TestClient, phantoms: Callable[..., DatasetView]
) -> None:
    one, other = phantoms(seed=1), phantoms(seed=2)
    key = {"Idempotency-Key": "once"}
    assert order(http, one.id, REQUEST, **key).id == order(http, one.id, REQUEST, **key).id
    assert http.post(f"/datasets/{other.id}/views", json=REQUEST, headers=key).status_code == 422


def test_nobody_else_makes_a_view_of_a_dataset(
    http: TestClient, strange_http: TestClient, phantoms: Callable[..., DatasetView]
) -> None:
    base = phantoms()
    theirs = strange_http.post(f"/datasets/{base.id}/views", json=REQUEST)
    unknown = strange_http.post(f"/datasets/{uuid4()}/views", json=REQUEST)
    assert (theirs.status_code, theirs.json()) == (404, unknown.json())


def test_other_services_take_a_view_as_any_dataset(
    http: TestClient,
    ingest: Callable[..., int],
    phantoms: Callable[..., DatasetView],
    adapters: Adapters,
    ada: Any,
) -> None:
    provider = compose(adapters).provider
    asked = order(http, phantoms().id, REQUEST)
    ingest()
    view = provider.dataset(ada.caller, asked.id)
    assert view.manifest is not None
    assert content_digest(provider.dataset_manifest(ada.caller, asked.id)) == view.manifest.digest


def test_the_licence_is_the_imports_and_can_be_stated_later(
    http: TestClient,
    strange_http: TestClient,
    ingest: Callable[..., int],
    phantoms: Callable[..., DatasetView],
) -> None:
    base = phantoms()
    assert base.licence.may_export
    asked = order(http, base.id, REQUEST)
    ingest()
    licence = {"name": "Agreement", "may_export": False, "url": "https://example.org/terms"}
    of_view = http.put(f"/datasets/{asked.id}/licence", json=licence)
    assert (of_view.status_code, of_view.json()["accepted"]) == (409, str(base.id))
    assert strange_http.put(f"/datasets/{base.id}/licence", json=licence).status_code == 404
    stated = http.put(f"/datasets/{base.id}/licence", json=licence).json()["licence"]
    assert (stated["name"], stated["may_export"], stated["may_share_derived"]) == (
        "Agreement",
        False,
        None,
    )
    assert http.get(f"/datasets/{asked.id}").json()["licence"] == stated


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"splits": {"kind": "fold"}}, "splits.kind"),
        ({"splits": {"kind": "fold", "validation": 3, "test": 4}}, "splits.kind"),
        ({"splits": {"kind": "new", "stratify": ["ethnicity"]}}, "splits.stratify"),
        ({"where": {"fold": [0]}}, "where.fold"),
        ({"where": {"site": ["phantom-a", "phantom-x"]}}, "where.site"),
        ({"where": {"ethnicity": ["Hispanic or Latino"]}}, "where.ethnicity"),
        ({"where": {"view": ["LATERAL"]}}, "where.view"),
        ({"where": {"age_from": 119, "sex": ["Female"]}}, "where.age_from"),
        ({"seed": 7}, "seed"),
        ({"splits": {"kind": "new", "folds": 3, "validation": 0.2}}, "splits.new.validation"),
    ],
)
def test_an_option_that_cannot_act_on_the_base_is_refused_and_named(
    http: TestClient,
    phantoms: Callable[..., DatasetView],
    body: dict[str, Any],
    field: str,
) -> None:
    base = phantoms()
    answer = http.post(f"/datasets/{base.id}/views", json={"name": "v", **body})
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"].replace(".new.", ".") == field.replace(".new.", ".")


def test_what_cannot_act_fails_the_job_where_the_base_was_still_in_the_making(
    http: TestClient, ingest: Callable[..., int]
) -> None:
    base = DatasetView.model_validate(http.post("/datasets", json=PHANTOM).json())
    asked = order(http, base.id, {"name": "folds", "splits": {"kind": "fold"}})
    ingest()
    failed = look(http, asked.id).job
    assert failed.problem is not None
    assert (failed.state, failed.problem.type.split(":")[-1]) == ("failed", "folds-missing")
    assert failed.problem.field == "splits.kind"


def test_a_view_by_fold_names_folds_that_are_there(
    http: TestClient, ingest: Callable[..., int], phantoms: Callable[..., DatasetView]
) -> None:
    base = phantoms()
    dealt = order(http, base.id, {"name": "five", "splits": {"kind": "new", "folds": 5}})
    ingest()
    for splits, field in (
        ({"kind": "fold", "validation": 5}, "splits.validation"),
        ({"kind": "fold", "validation": 1, "test": 9}, "splits.test"),
    ):
        answer = http.post(f"/datasets/{dealt.id}/views", json={"name": "v", "splits": splits})
        assert (answer.status_code, answer.json()["field"]) == (422, field)
        assert answer.json()["accepted"] == [0, 1, 2, 3, 4]
    made = order(
        http, dealt.id, {"name": "v", "splits": {"kind": "fold", "validation": 1, "test": 2}}
    )
    ingest()
    rows = table(http, made.id).filter(pl.col("fold").is_not_null())
    splits = {fold: set(part["split"]) for (fold,), part in rows.group_by("fold")}
    assert splits == {0: {"train"}, 1: {"validation"}, 2: {"test"}, 3: {"train"}, 4: {"train"}}
