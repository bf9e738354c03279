"""What of a classifier leaves the suite: weights, an ONNX model, a card; or what forbids it."""

from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from api_schemas.base import DatasetRef, DataSplit
from api_schemas.evaluation import ResultRow
from api_schemas.evaluations import Evaluated, EvaluatedRow, EvaluationRequest, EvaluationView
from api_schemas.shifts import ComparedSet
from api_schemas.terms import Licence
from services.kit.deletion import Delete
from services.kit.errors import Unavailable
from services.kit.jobs.lineage import DELETE
from services.kit.objects import sha256
from services.training.main import compose
from services.training.service.handing_out import ONNX, MakeOnnx
from services.training.service.keeping import KEPT, NAMED
from tests.training.standins import NOW, job_view


@pytest.fixture
def make_onnx(adapters, work):
    """Run the worker, with a stand-in for the exporter."""

    def export(folder: Path) -> bytes:
        return b"onnx of " + (folder / "tensors.safetensors").read_bytes()

    return lambda: work(
        "training",
        "training",
        {ONNX: MakeOnnx(adapters.db, adapters.store, export, scratch=adapters.settings.scratch)},
    )


def forbid(shelf, ref: DatasetRef, **terms: bool) -> None:
    view = shelf.views[ref.dataset]()
    licence = Licence(name="Closed", notes="Ask first.", **terms)
    shelf.views[ref.dataset] = lambda: view.model_copy(update={"licence": licence})


def test_weights_are_those_that_were_trained(http, classifier) -> None:
    answer = http.get(f"/classifiers/{classifier}/model.safetensors")
    assert answer.status_code == 200
    digest = http.get(f"/classifiers/{classifier}").json()["digest"]
    assert sha256(answer.content) == digest
    assert f"{classifier}.safetensors" in answer.headers["Content-Disposition"]


def test_an_onnx_model_is_made_once(http, classifier, make_onnx, adapters) -> None:
    place = f"/classifiers/{classifier}/model.onnx"
    answer = http.get(place)
    assert (answer.status_code, answer.json()["accepted"]) == (409, f"POST {place}")
    first, again = http.post(place), http.post(place)
    assert first.status_code == 202
    assert first.headers["Location"] == place
    assert first.json()["id"] == again.json()["id"]
    assert "queued" in http.get(place).json()["detail"]
    assert make_onnx() == 1
    weights = http.get(f"/classifiers/{classifier}/model.safetensors").content
    assert http.get(place).content == b"onnx of " + weights
    assert http.post(place).json()["state"] == "succeeded"
    assert make_onnx() == 0


def test_one_that_failed_is_made_anew(http, classifier, make_onnx, adapters) -> None:
    place = f"/classifiers/{classifier}/model.onnx"
    first = http.post(place).json()
    with adapters.db.transaction() as tx:
        adapters.jobs.cancel(tx, UUID(first["id"]))
    assert http.post(place).json()["id"] != first["id"]
    assert make_onnx() == 1
    assert http.get(place).status_code == 200


def test_terms_that_forbid_it_keep_it_in(http, classifier, shelf, real, make_onnx) -> None:
    http.post(f"/classifiers/{classifier}/model.onnx")
    make_onnx()
    forbid(shelf, real, may_share_derived=False)
    for path in ("model.safetensors", "model.onnx"):
        answer = http.get(f"/classifiers/{classifier}/{path}")
        assert (answer.status_code, answer.json()["field"]) == (403, "classifier")
        assert answer.json()["type"].endswith("export-forbidden")
        assert "'Closed'" in answer.json()["detail"]
    assert http.post(f"/classifiers/{classifier}/model.onnx").status_code == 403
    card = http.get(f"/classifiers/{classifier}/card.md").text
    assert "is forbidden" in card
    assert "Ask first." in card


def test_terms_that_cannot_be_asked_keep_it_in_for_now(http, classifier, shelf, real) -> None:
    def away():
        raise Unavailable("away")

    shelf.views[real.dataset] = away
    assert http.get(f"/classifiers/{classifier}/model.safetensors").status_code == 503


def _numbers(auroc: float) -> dict:
    nothing = dict.fromkeys(("difference", "difference_low", "difference_high", "p", "dof"))
    told = {"label": "macro", "group": None, "images": 8, "positives": None, "patients": 8}
    return nothing | told | {"auroc": auroc, "low": auroc - 0.1, "high": auroc + 0.1}


def test_the_card_says_what_it_is_and_what_it_is_not_for(
    http, classifier, real, cohort, verdicts, shelf, adapters, ada
) -> None:
    forbid(shelf, real, may_export=False)
    other = {"experiment": uuid4(), "test": "internal", "seeds": 2, "reference": "real"}
    verdicts.lines = [
        ResultRow(**_numbers(0.81), **other, arm="real+100%", p_holm=None, flags=["few_seeds"]),
        ResultRow(**_numbers(0.61), **other, arm="shuffled", p_holm=None),
    ]
    scored = http.post(
        "/scorings",
        json={"classifier": classifier, "data": real.model_dump(mode="json"), "split": "test"},
    ).json()["id"]
    evaluation = uuid4()
    with adapters.db.transaction() as tx:
        tx.session.execute(
            text("UPDATE training.scorings SET evaluation = :e WHERE id = :s"),
            {"e": evaluation, "s": scored},
        )
    before = http.get(f"/classifiers/{classifier}/card.md").text  # that evaluation is gone
    row = EvaluatedRow(
        **_numbers(0.72), reference_auroc=None, reference_low=None, reference_high=None
    )
    data = ComparedSet(
        set=DataSplit(data=real, split="test"),
        name="a | b",
        manifest="5" * 64,
        images=8,
        patients=8,
    )
    verdicts.evaluations[evaluation] = EvaluationView(
        id=evaluation,
        name="x",
        request=EvaluationRequest(name="x", sha256="0" * 64),
        created_at=NOW,
        job=job_view(),
        result=Evaluated(
            method="m",
            images=8,
            patients=8,
            labels=[],
            data=data,
            digest="0" * 64,
            reference_digest=None,
            rows=[row],
        ),
    )
    answer = http.get(f"/classifiers/{classifier}/card.md")
    assert answer.headers["Content-Type"].startswith("text/markdown")
    card = answer.text
    view = http.get(f"/classifiers/{classifier}").json()
    for words in (
        "must not be used",
        "16 x 16 px",
        "Fracture, Edema",
        view["digest"],
        f"dataset/{real.dataset}",
        f"generation/{cohort.generation}",
        "| its arm, 2 seeds | internal | 8, 8 | 0.810 | 0.710 to 0.910 | few_seeds |",
        "| this classifier | a \\| b (test) | 8, 8 | 0.720 | 0.620 to 0.820 |",
        "Closed",
        "is not stated",
        "| epochs | 0.8 |",
    ):
        assert words in card, words
    assert "0.610" not in card
    assert "0.720" not in before
    with adapters.db.transaction() as tx:
        blueprint = tx.session.scalar(text("SELECT blueprint FROM training.experiments"))
    for digest in blueprint["manifests"].values():
        assert digest in card


def test_an_onnx_model_goes_with_its_experiment(
    http, classifier, make_onnx, adapters, ada, work
) -> None:
    http.post(f"/classifiers/{classifier}/model.onnx")
    make_onnx()
    experiment = http.get(f"/classifiers/{classifier}").json()["experiment"]
    folder = f"projects/{ada.caller.project}/experiments/{experiment}/"
    keys = list(adapters.store.keys(folder))
    assert sum("/onnx/" in key for key in keys) == 1
    with adapters.db.transaction() as tx:
        assert NAMED["experiments"](tx, UUID(experiment), keys) == set(keys)
    http.delete(f"/experiments/{experiment}")
    assert http.get(f"/classifiers/{classifier}/model.onnx").status_code == 404
    work("training", "training", {DELETE: Delete(adapters.erasure, KEPT)})
    assert list(adapters.store.keys(folder)) == []


def test_classifiers_of_others_are_not_handed_out(
    http, classifier, adapters, shelf, verdicts, browse, stranger
) -> None:
    part = compose(adapters, datasets=shelf, generations=shelf, evaluation=verdicts)
    elsewhere = browse(part.router, member=stranger)
    for path in ("model.safetensors", "model.onnx", "card.md"):
        assert elsewhere.get(f"/classifiers/{classifier}/{path}").status_code == 404
    assert elsewhere.post(f"/classifiers/{classifier}/model.onnx").status_code == 404
