"""Data is scored by a trained classifier: leaks refused, predictions kept and evaluated."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from sqlalchemy import text

from api_schemas.evaluations import EvaluationPost, EvaluationRequest, EvaluationView
from api_schemas.manifest import MANIFEST, PREDICTIONS, from_parquet
from services.evaluation.service import JUDGE, Evaluations, Judge, Stock
from services.evaluation.service import KEPT as KEPT_EVALUATIONS
from services.kit.auth import Caller
from services.kit.deletion import Delete
from services.kit.errors import Unavailable
from services.kit.jobs import Lease, NewJob
from services.kit.jobs.lineage import DELETE
from services.kit.objects import sha256
from services.kit.pseudonyms import Pseudonyms
from services.training.classifier.cache import SourceCache
from services.training.main import compose
from services.training.service.catalogue import Catalogue
from services.training.service.keeping import KEPT, NAMED, tidy
from services.training.service.materials import Materials
from services.training.service.pretrained import PretrainedFiles
from services.training.service.scoring import ScoreData
from services.training.service.scorings import SCORE
from tests.training.conftest import HELD, SIZE_PX, image_table
from tests.training.standins import StubEngine


def _png() -> bytes:
    sink = io.BytesIO()
    Image.new("L", (SIZE_PX, SIZE_PX)).save(sink, "PNG")
    return sink.getvalue()


PNG = _png()


@dataclass
class InProcess:
    """The evaluation service behind training's port, without HTTP between."""

    evaluations: Evaluations
    posts: list[EvaluationPost] = field(default_factory=list)
    outages: int = 0

    def evaluate(self, caller: Caller, post: EvaluationPost, file: Path) -> EvaluationView:
        self.posts.append(post)
        if self.outages:
            self.outages -= 1
            raise Unavailable("away")
        request = EvaluationRequest(**post.model_dump(), sha256=sha256(file.read_bytes()))
        key = f"scoring/{post.scoring}"
        return self.evaluations.order(caller, request, {"file": file}, key)


@pytest.fixture
def verdict(adapters, shelf) -> InProcess:
    stock = Stock(adapters.store, shelf, shelf)
    names = Pseudonyms(b"pseudonym-key-of-the-tests")
    return InProcess(Evaluations(adapters.db, adapters.jobs, adapters.store, stock, names))


@pytest.fixture
def packed(tmp_path) -> SourceCache:
    return SourceCache(tmp_path / "scored", 10**9)


@pytest.fixture
def score(adapters, shelf, verdict, work, engine, packed, tmp_path):
    """Run the worker until nothing is left, evaluations included."""

    def run(engine: StubEngine = engine) -> None:
        catalogue = Catalogue(shelf, shelf)
        handler = ScoreData(
            adapters.db,
            adapters.store,
            engine,
            catalogue,
            Materials(catalogue, adapters.store, packed, PretrainedFiles([], tmp_path)),
            verdict,
            scratch=tmp_path / "training",
        )
        work("training", "training", {SCORE: handler})
        work("evaluation", "evaluation", {JUDGE: Judge(adapters.db, adapters.store)})

    return run


@pytest.fixture
def elsewhere(adapters, shelf):
    """A dataset of people whom nobody has seen."""
    names = [f"other-{i // 2}" for i in range(20)]
    table = image_table(adapters, "elsewhere", names, ["test"] * len(names))
    return shelf.add_dataset(table, size_px=SIZE_PX)


def ask(http, classifier: str, data: Any, **more: Any):
    body = {"classifier": classifier, "data": data.model_dump(mode="json")} | more
    return http.post("/scorings", json=body)


def test_any_data_is_scored_and_evaluated(
    http, classifier, elsewhere, score, shelf, verdict, ada
) -> None:
    answer = ask(http, classifier, elsewhere)
    assert answer.status_code == 202, answer.text
    place = answer.headers["Location"]
    assert http.get(f"{place}/predictions").status_code == 409
    score()
    view = http.get(place).json()
    assert view["job"]["state"] == "succeeded", view
    assert (view["job"]["done"], view["images"], view["leakage"]) == (20, 20, [])
    table = from_parquet(http.get(f"{place}/predictions").content, PREDICTIONS)
    rows = shelf.tables[elsewhere.dataset].to_pylist()
    assert table["sample_id"].to_pylist()[::2] == [row["sample_id"] for row in rows]
    assert table["patient_id"].to_pylist()[::2] == [row["patient_id"] for row in rows]
    assert set(table["label"].to_pylist()) == set(view["labels"])
    evaluation = verdict.evaluations.evaluation(ada.caller, UUID(view["evaluation"]))
    assert str(evaluation.request.classifier) == classifier
    assert str(evaluation.request.scoring) == view["id"]
    assert evaluation.result.patients == 10
    (edema,) = [r for r in evaluation.result.rows if (r.label, r.group) == ("Edema", None)]
    mine = [r for r in table.to_pylist() if r["label"] == "Edema"]
    present, absent = ([r["score"] for r in mine if r["truth"] == t] for t in (1, 0))
    pairs = [(p > a) + (p == a) / 2 for p in present for a in absent]
    assert edema.auroc == pytest.approx(np.mean(pairs))


def test_what_training_saw_is_refused_unless_allowed(
    http, classifier, real, cohort, score, verdict
) -> None:
    for data, split, what in (
        (real, "train", "patients are in training source 1"),
        (real, "all", "patients are in training source 1"),
        (real, "validation", "patients are in its validation set"),
        (cohort, "all", "patients are in training source 2"),
    ):
        answer = ask(http, classifier, data, split=split)
        assert (answer.status_code, answer.json()["field"]) == (409, "data"), answer.text
        assert answer.json()["type"].endswith("leakage-found")
        assert what in answer.json()["detail"]
    assert http.get("/scorings").json()["items"] == []
    held = ask(http, classifier, real, split="test").json()
    assert (held["leakage"], held["images"]) == ([], HELD)
    allowed = ask(http, classifier, real, split="train", allow_leakage=True)
    assert allowed.status_code == 202
    assert len(allowed.json()["leakage"]) == 2  # itself, and through the generator
    score()
    assert [post.leakage is None for post in verdict.posts] == [True, False]
    assert "generator" in verdict.posts[1].leakage


def test_a_cohort_of_a_generator_that_shares_the_patients_is_scored_and_warned_of(
    http, classifier, adapters, shelf, score, verdict
) -> None:
    names = [f"drawn-{i}" for i in range(8)]
    said: list[list[str]] = []
    for word, saw in (("shares", ["real-0", "real-1", "new"]), ("strange", ["new"])):
        table = image_table(adapters, word, names, ["test"] * 8)
        made = shelf.add_cohort(table, saw=saw, size_px=SIZE_PX)
        answer = ask(http, classifier, made)
        assert answer.status_code == 202, answer.text
        said.append(answer.json()["leakage"])
    (shared,), strange = said
    assert shared.endswith("and the classifier were trained on the same 2 patients")
    assert strange == []
    score()
    assert [post.leakage for post in verdict.posts] == [shared, None]


def test_patients_of_a_generator_are_a_leak(http, classifier, adapters, shelf) -> None:
    """Nobody of these was in a training source; the cohort's generator saw one of them."""
    table = image_table(adapters, "seen", ["real-3", "new"] * 2, ["test"] * 4)
    shelf.tables = {
        ref: each.filter([p != "real-3" for p in each["patient_id"].to_pylist()])
        for ref, each in shelf.tables.items()
    }
    answer = ask(http, classifier, shelf.add_dataset(table, size_px=SIZE_PX))
    assert answer.status_code == 409
    assert "saw 1 of the 2 patients" in answer.json()["detail"]


def test_data_that_is_gone_may_have_held_anybody(http, classifier, elsewhere, shelf, real) -> None:
    del shelf.views[real.dataset]
    answer = ask(http, classifier, elsewhere)
    assert answer.status_code == 409
    assert "nobody knows whom it held" in answer.json()["detail"]
    assert ask(http, classifier, elsewhere, allow_leakage=True).status_code == 202


def test_what_cannot_be_scored_is_refused(http, classifier, elsewhere, shelf, adapters) -> None:
    def refused(classifier: str, data: Any, **more: Any) -> tuple[int, str, str]:
        told = ask(http, classifier, data, **more).json()
        return told["status"], told["type"].split(":")[-1], told["field"]

    larger = shelf.add_dataset(shelf.tables[elsewhere.dataset], size_px=32)
    assert refused(classifier, larger) == (422, "sizes-differ", "data")
    assert refused(classifier, elsewhere, split="train") == (422, "no-images", "split")
    assert refused(str(uuid4()), elsewhere) == (404, "not-found", "classifier")
    gone = elsewhere.model_copy(update={"dataset": uuid4()})
    assert refused(classifier, gone) == (404, "data-unknown", "data")


def test_data_in_the_making_is_checked_when_it_is_there(
    http, classifier, shelf, adapters, ada, score, work
) -> None:
    """It turns out to hold a training patient: the job fails as the request would have."""
    new = NewJob("datasets", "import", "cpu", ada.caller, uuid4(), {}, [{}])
    with adapters.db.transaction() as tx:
        making = adapters.jobs.submit(tx, new)
    names = ["real-3", *(f"n{i}" for i in range(9))]
    table = image_table(adapters, "later", names, ["test"] * 10)
    data = shelf.add_dataset(table, size_px=SIZE_PX, job=making)
    asked, allowed = (ask(http, classifier, data, allow_leakage=a).json() for a in (False, True))
    assert (asked["job"]["state"], asked["leakage"]) == ("blocked", None)
    work("datasets", "cpu", {"import": finish})
    score()
    problem = http.get(f"/scorings/{asked['id']}").json()["job"]["problem"]
    assert problem["type"].endswith("leakage-found")
    view = http.get(f"/scorings/{allowed['id']}").json()
    assert view["job"]["state"] == "succeeded"
    assert view["leakage"][0].startswith("1 of the 10 patients")


def finish(lease: Lease) -> None:
    with lease.finishing():
        pass


def test_data_without_both_classes_is_scored_and_not_evaluated(
    http, classifier, elsewhere, shelf, score
) -> None:
    rows = shelf.tables[elsewhere.dataset].to_pylist()
    blank = [row | {"Edema": None, "Fracture": None} for row in rows]
    data = shelf.add_dataset(pa.Table.from_pylist(blank, schema=MANIFEST), size_px=SIZE_PX)
    place = ask(http, classifier, data).headers["Location"]
    score()
    view = http.get(place).json()
    assert view["job"]["state"] == "succeeded"
    assert view["evaluation"] is None
    assert "no label of the file has both classes" in view["not_evaluated"]
    assert http.get(f"{place}/predictions").status_code == 200


def test_scores_are_pushed_again_but_never_made_again(
    http, classifier, elsewhere, score, verdict, adapters
) -> None:
    scored: list[int] = []

    class Counting(StubEngine):
        def score(self, classifier, images, rows):
            scored.append(len(rows))
            return np.random.default_rng(0).random((len(rows), 2))

    verdict.outages = 1
    place = ask(http, classifier, elsewhere).headers["Location"]
    score(Counting())
    assert http.get(place).json()["evaluation"] is None
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE jobs.slices SET not_before = now() WHERE state = 'queued'"))
    score(Counting())
    assert http.get(place).json()["job"]["state"] == "succeeded"
    assert (scored, len(verdict.posts)) == ([20], 2)


def test_data_that_changed_since_it_was_asked_for(
    http, classifier, elsewhere, score, shelf, adapters
) -> None:
    place = ask(http, classifier, elsewhere).headers["Location"]
    fewer = shelf.add_dataset(shelf.tables[elsewhere.dataset][:10], size_px=SIZE_PX)
    shelf.views[elsewhere.dataset] = shelf.views[fewer.dataset]
    score()
    assert http.get(place).json()["job"]["problem"]["type"].endswith("manifest-changed")


def test_images_of_a_scoring_to_come_stay_packed(
    http, classifier, elsewhere, score, adapters, packed, tmp_path
) -> None:
    ask(http, classifier, elsewhere)
    with adapters.db.transaction() as tx:
        (digest,) = tx.session.scalars(text("SELECT manifest FROM training.scorings"))
    packed.open(f"{digest}-all-{SIZE_PX}", 20, SIZE_PX, lambda _: PNG)
    tidy(adapters.db, packed)
    assert len(list((tmp_path / "scored").iterdir())) == 1
    score()
    tidy(adapters.db, packed)
    assert list((tmp_path / "scored").iterdir()) == []


def test_a_scoring_goes_with_its_evaluation(
    http, classifier, elsewhere, score, adapters, ada, verdict, work
) -> None:
    made = ask(http, classifier, elsewhere).json()["id"]
    score()
    folder = f"projects/{ada.caller.project}/scorings/"
    keys = list(adapters.store.keys(folder))
    with adapters.db.transaction() as tx:
        assert NAMED["scorings"](tx, UUID(made), keys) == set(keys) != set()
    place = f"/scorings/{made}"
    derived = http.get(f"{place}/deletion").json()["derived"]
    assert [each["kind"] for each in derived] == ["evaluation"]
    assert http.delete(place).json()["type"].endswith("has-derived-data")
    experiment = http.get(f"/classifiers/{classifier}").json()["experiment"]
    made_of_it = http.get(f"/experiments/{experiment}/deletion").json()["derived"]
    assert {each["kind"] for each in made_of_it} >= {"scoring", "evaluation"}
    assert http.delete(place, params={"derived": True}).status_code == 202
    assert http.get(place).status_code == 404
    work("evaluation", "evaluation", {DELETE: Delete(adapters.erasure, KEPT_EVALUATIONS)})
    work("training", "training", {DELETE: Delete(adapters.erasure, KEPT)})
    assert list(adapters.store.keys(folder)) == []
    with adapters.db.transaction() as tx:
        assert tx.session.scalar(text("SELECT count(*) FROM training.scorings")) == 0
        assert tx.session.scalar(text("SELECT count(*) FROM evaluation.judgements")) == 0


def test_scorings_are_cancelled_listed_and_belong_to_their_project(
    http, classifier, elsewhere, adapters, shelf, verdicts, browse, stranger
) -> None:
    asked = ask(http, classifier, elsewhere, name="first").json()
    headers = {"Idempotency-Key": "once"}
    body = {"classifier": classifier, "data": elsewhere.model_dump(mode="json")}
    first, again = (http.post("/scorings", json=body, headers=headers).json() for _ in range(2))
    assert first["id"] == again["id"]
    assert [each["name"] for each in http.get("/scorings").json()["items"]] == [
        "real+100%, seed 0",
        "first",
    ]
    place = f"/scorings/{asked['id']}"
    for _ in range(2):
        assert http.post(f"{place}/cancel").json()["job"]["state"] == "cancelled"
    part = compose(adapters, datasets=shelf, generations=shelf, evaluation=verdicts)
    elsewhere_http = browse(part.router, member=stranger)
    for path in (place, f"{place}/predictions", f"{place}/events", f"{place}/deletion"):
        assert elsewhere_http.get(path).status_code == 404
    assert elsewhere_http.get("/scorings").json()["items"] == []
    assert ask(elsewhere_http, classifier, elsewhere).status_code == 404
