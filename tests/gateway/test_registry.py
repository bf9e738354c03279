"""Through the whole suite in one process: everything that takes a dataset takes a view, and a
withdrawn patient, a licence and a deletion reach everything that was made.
"""

import io
import zipfile
from typing import Any

import polars as pl
import pytest

from api_schemas.manifest import MANIFEST, from_parquet
from tests.gateway.conftest import PHANTOMS

WITHDRAWN = "withdrawn-patients"


@pytest.fixture
def post(http):
    def send(path: str, **body: Any) -> str:
        answer = http.post(path, json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    return send


def table(http, dataset: str) -> pl.DataFrame:
    content = http.get(f"/datasets/{dataset}/manifest").content
    return pl.DataFrame(pl.from_arrow(from_parquet(content, MANIFEST)))


def test_a_whole_study_on_a_view(http, post, run) -> None:
    """All of it is ordered before the import has begun: each part waits for what it needs."""
    base = post("/datasets", name="here", site="phantom-a", **PHANTOMS)
    splits = {"kind": "new", "validation": 0.25, "test": 0.25, "seed": 3}
    view = post(f"/datasets/{base}/views", name="adults", where={"age_from": 18}, splits=splits)
    generator = post("/generators", name="g", dataset=view, preset="tiny-32", steps=15)
    cohort = post("/generate", generator=generator, mirror={"dataset": view})
    real = {"dataset": view}
    experiment = post(
        "/experiments",
        name="on a view",
        preset={"name": "supplement", "real": real, "synthetic": {"generation": cohort}},
        seeds=[0],
        classifier={"epochs": 0.1},
        validation={"data": real, "split": "validation"},
        tests=[{"name": "internal", "data": real}],
    )
    run()
    made = http.get(f"/experiments/{experiment}").json()
    # so few patients calibrate no screening
    assert (made["job"]["state"], made["flags"]) == ("succeeded", ["uncalibrated"])
    rows = table(http, view)
    saw = http.get(f"/generators/{generator}/seen").json()
    trained = rows.filter(pl.col("split") == "train")
    assert set(saw["patients"]) == set(trained["patient_id"])
    assert set(saw["images"]) == set(trained["pixel_sha256"])
    arms = http.get(f"/experiments/{experiment}/arms").json()
    assert arms[0]["images"] == trained.height


def test_a_withdrawal_flags_all_that_was_made_and_nothing_else(http, post, run, study) -> None:
    rows = table(http, study.dataset)
    arms = http.get(f"/experiments/{study.experiment}/arms").json()
    classifier = f"/classifiers/{arms[0]['runs'][0]['classifier']}"
    derived = [*(f"/{kind}/{made}" for kind, made in study.derived), classifier]
    flagged = [WITHDRAWN in http.get(path).json()["flags"] for path in derived]
    assert flagged == [False] * 4
    untouched = post("/generators", name="o", dataset=study.other, preset="tiny-32", steps=5)
    post("/withdrawals", patients=[rows["patient_id"][0]])
    run()
    flagged = [WITHDRAWN in http.get(path).json()["flags"] for path in derived]
    assert flagged == [True] * 4
    assert http.get(f"/generators/{untouched}").json()["flags"] == []


def test_the_strictest_licence_reaches_export_and_classifier(http, post, run, study) -> None:
    strict = {"name": "Agreement", "may_export": False, "may_share_derived": False}
    cohort = {"set": {"data": {"generation": study.cohort}}, "format": "png_csv"}
    export = post("/exports", **cohort)
    run()
    content = http.get(f"/exports/{export}/files/export.zip").content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert len(archive.namelist()) == http.get(f"/exports/{export}").json()["images"] + 3
    http.put(f"/datasets/{study.dataset}/licence", json=strict)
    for kind, made in study.derived:
        assert http.get(f"/{kind}/{made}").json()["licence"]["may_share_derived"] is False
    refused = http.post("/exports", json=cohort)
    assert (refused.status_code, refused.json()["type"].split(":")[-1]) == (403, "export-forbidden")
    assert http.get(f"/exports/{export}/files/export.zip").status_code == 403
    allowed = {"set": {"data": {"dataset": study.other}}, "format": "seeded_csv"}
    assert http.post("/exports", json=allowed).status_code == 202


def test_a_measured_cohort_goes_with_the_cohort(http, post, run, study) -> None:
    cohort = {"generation": study.cohort}
    asked = post("/qualities", cohort=cohort)
    run()
    told = http.get(f"/qualities/{asked}").json()
    assert told["request"]["reference"]["data"] == {"dataset": study.dataset}
    assert told["result"]["cohort"]["images"] > 0
    page = http.get(f"/qualities/{asked}/page").text
    likest = http.get(f"/generations/{study.cohort}/likest").json()
    assert page.count("data:image/png") == 2 * len(likest) == 24
    refused = http.delete(f"/generations/{study.cohort}").json()
    assert refused["counts"]["quality"] == 1
    http.delete(f"/generations/{study.cohort}", params={"derived": True})
    assert http.get(f"/qualities/{asked}").status_code == 404
    assert http.get(f"/qualities/{asked}/page").status_code == 404
    run()
    assert http.get(f"/generations/{study.cohort}/deletion").json()["job"]["state"] == "succeeded"


def test_a_withdrawn_patient_is_on_no_page(http, post, run, study) -> None:
    asked = post("/qualities", cohort={"generation": study.cohort})
    run()
    rows = table(http, study.dataset)
    whose = dict(zip(rows["sample_id"], rows["patient_id"], strict=True))
    likest = http.get(f"/generations/{study.cohort}/likest").json()
    patient = whose[likest[0]["nearest"]]
    shown = sum(whose[each["nearest"]] == patient for each in likest)
    post("/withdrawals", patients=[patient])
    run()
    page = http.get(f"/qualities/{asked}/page").text
    assert page.count("data:image/png") == 2 * len(likest) - shown
    assert page.count(">gone<") == shown


def test_views_overlaps_and_exports_go_with_their_data(http, post, run, study) -> None:
    view = post(f"/datasets/{study.other}/views", name="v")
    nested = post(f"/datasets/{view}/views", name="w")
    run()
    sets = [{"data": {"dataset": d}} for d in (view, study.dataset)]
    overlap = post("/overlaps", first=sets[0], second=sets[1])
    export = post("/exports", set=sets[0], format="croissant")
    run()
    assert http.get(f"/overlaps/{overlap}").json()["result"]["shared_patients"] == 0
    refused = http.delete(f"/datasets/{view}").json()
    assert refused["counts"] == {"dataset": 1, "export": 1, "overlap": 1}
    http.delete(f"/datasets/{view}", params={"derived": True})
    gone = (
        f"/datasets/{view}",
        f"/datasets/{nested}",
        f"/overlaps/{overlap}",
        f"/exports/{export}",
    )
    assert [http.get(path).status_code for path in gone] == [404] * 4
    run()
    assert http.get(f"/datasets/{view}/deletion").json()["job"]["state"] == "succeeded"
    assert http.get(f"/datasets/{study.other}/summary").status_code == 200
    first = table(http, study.other)["sample_id"][0]
    png = http.get(f"/datasets/{study.other}/samples/{first}.png")
    assert png.status_code == 200  # a view owns no image
