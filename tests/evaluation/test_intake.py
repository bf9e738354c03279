"""Plans and predictions as they come in: once, in agreement, and nothing half-done."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pyarrow as pa
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api_schemas.manifest import PREDICTIONS, to_parquet
from services.evaluation.api import studies
from services.evaluation.importers import parquet
from tests.evaluation.study import ARMS, LABELS, SEEDS, TESTS, content, plan, predictions

EXPECTED = len(ARMS) * len(SEEDS) * len(TESTS)


def test_a_plan_is_registered_once_and_for_all(http, data) -> None:
    body = plan(uuid4(), data)
    first = http.post("/plans", json=body)
    assert first.status_code == 201
    assert first.headers["location"] == f"/plans/{first.json()['id']}"
    assert (first.json()["received"], first.json()["expected"]) == (0, EXPECTED)
    assert first.json()["job"] is None
    again = http.post("/plans", json=body)
    assert (again.status_code, again.json()) == (201, first.json())
    other = http.post("/plans", json=body | {"margin": 0.01})
    assert other.status_code == 409
    assert other.json()["type"].endswith("plan-registered")
    assert http.get(f"/plans/{first.json()['id']}").json() == first.json()


def test_a_registered_plan_cannot_be_changed_in_the_database(adapters, registered) -> None:
    registered()
    with pytest.raises(DBAPIError, match="never changed"), adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE evaluation.plans SET digest = 'other'"))


def own(*references: str | None) -> list[dict]:
    """The arms with a reference each."""
    return [{"name": n, "reference": r} for n, r in zip(ARMS, references, strict=True)]


def question(**changes: object) -> dict:
    asked = {"arm": "real+100%", "reference": "real", "kind": "noninferiority", "margin": 0.01}
    return asked | changes


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("reference", {"reference": "nobody"}),
        ("primary", {"primary": "nobody"}),
        ("primary", {"primary": "real_equal_steps"}),
        ("seeds", {"seeds": [1, 1]}),
        ("arms", {"arms": [{"name": "real"}, {"name": "real"}]}),
        ("arms", {"arms": [{"name": n} for n in (*ARMS, "macro")]}),
        ("arms", {"arms": [{"name": n, "dose": -1} for n in ARMS]}),
        ("arms.0.reference", {"arms": own("nobody", None, None)}),
        ("arms.2.reference", {"arms": own(None, None, "real")}),
        ("arms.0.reference", {"arms": own("real+100%", "real", None)}),
        ("arms.1.reference", {"arms": own(None, "real+100%", None)}),
        ("labels", {"labels": []}),
        ("labels", {"labels": ["Edema", "Edema"]}),
        ("labels.0", {"labels": ["Oedema"]}),
        ("margin", {"margin": 0}),
        ("questions", {"questions": [question(), question(margin=0.02)]}),
        ("questions.0.arm", {"questions": [question(arm="nobody")]}),
        ("questions.0.reference", {"questions": [question(reference="nobody")]}),
        ("questions.0.arm", {"questions": [question(arm="real")]}),
        ("questions.0.kind", {"questions": [question(kind="inferiority")]}),
        ("questions.0.margin", {"questions": [question(margin=None)]}),
        ("questions.0.margin", {"questions": [question(margin=1)]}),
        ("questions.0.margin", {"questions": [question(kind="superiority")]}),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(http, data, field, changes) -> None:
    answer = http.post("/plans", json=plan(uuid4(), data) | changes)
    assert answer.status_code == 422
    assert answer.json()["field"] == field


def test_a_plan_on_data_of_nobody_or_somebody_else_is_refused(http, shelf, stranger) -> None:
    for data in (uuid4(), shelf.add_dataset(stranger.caller)):
        assert http.post("/plans", json=plan(uuid4(), data)).status_code == 404


def test_predictions_are_counted_and_answered(registered, send, http) -> None:
    made = registered()
    answer = send(made["id"], "site-a", "real", 0)
    assert answer.status_code == 201
    view = answer.json()
    table = predictions("site-a", "real", 0)
    assert view["images"] == len(set(table["sample_id"].to_pylist()))
    assert view["patients"] == TESTS["site-a"]
    assert http.get(f"/plans/{made['id']}").json()["received"] == 1


def test_the_same_predictions_again_get_the_first_answer(registered, send) -> None:
    made = registered()
    first = send(made["id"], "site-a", "real", 0).json()
    shuffled = predictions("site-a", "real", 0)
    shuffled = shuffled.take(pa.array(range(shuffled.num_rows - 1, -1, -1)))
    again = send(made["id"], "site-a", "real", 0, to_parquet(shuffled))
    assert (again.status_code, again.json()) == (201, first)


def test_other_predictions_for_the_same_place_are_refused(
    adapters, ada, registered, send, http
) -> None:
    made = registered()
    first = send(made["id"], "site-a", "real", 0).json()
    answer = send(made["id"], "site-a", "real", 0, content("site-a", "real", 1))
    assert answer.status_code == 409
    assert first["digest"] in answer.json()["detail"]
    assert len(list(adapters.store.keys(f"projects/{ada.caller.project}/plans/"))) == 1
    assert http.get(f"/plans/{made['id']}").json()["received"] == 1


@pytest.mark.parametrize(
    ("field", "place", "accepted"),
    [
        ("arm", ("site-a", "nobody", 0), list(ARMS)),
        ("seed", ("site-a", "real", 9), SEEDS),
        ("test", ("site-z", "real", 0), list(TESTS)),
    ],
)
def test_what_the_plan_does_not_have_is_refused(registered, send, field, place, accepted) -> None:
    body = content("site-a", "real", 0)
    answer = send(registered()["id"], *place, body)
    assert answer.status_code == 422
    assert (answer.json()["field"], answer.json()["accepted"]) == (field, accepted)


def test_labels_must_be_those_of_the_plan(registered, send) -> None:
    answer = send(registered(labels=["Edema"])["id"], "site-a", "real", 0)
    assert answer.status_code == 422
    assert answer.json()["accepted"] == ["Edema"]


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"patients": 40}, {"samples", "patients", "truth"}),
        ({"patient": "person"}, {"patients"}),
        ({"truth_seed": 5}, {"truth"}),
        ({"labels": ("Edema", "Fracture")}, {"labels"}),
    ],
)
def test_predictions_must_agree_on_the_test_set(registered, send, changes, differs) -> None:
    made = registered()
    send(made["id"], "site-a", "real", 0)
    answer = send(made["id"], "site-a", "real", 1, content("site-a", "real", 1, **changes))
    assert answer.status_code == 409
    assert differs <= set(answer.json()["differs"])
    assert all(fact in answer.json()["detail"] for fact in differs)
    assert send(made["id"], "site-b", "real", 1).status_code == 201  # another set is free


def broken(column: str, value: object) -> bytes:
    rows = predictions("site-a", "real", 0).to_pylist()
    rows[3][column] = value
    return to_parquet(pa.Table.from_pylist(rows, schema=PREDICTIONS))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no parquet",
        content("site-a", "real", 0)[:-10],
        to_parquet(predictions("site-a", "real", 0).drop_columns("truth")),
        to_parquet(PREDICTIONS.empty_table()),
        broken("score", float("nan")),
        broken("truth", 7),
        broken("sample_id", "a stray one"),
    ],
)
def test_what_is_no_table_of_predictions_is_refused(registered, send, body, http) -> None:
    made = registered()
    answer = send(made["id"], "site-a", "real", 0, body)
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("predictions-unusable")
    assert answer.json()["field"] == "body"
    assert http.get(f"/plans/{made['id']}").json()["received"] == 0


def test_too_large_a_body_is_refused(registered, send, monkeypatch) -> None:
    made = registered()
    monkeypatch.setattr(parquet, "ROW_LIMIT", 10)
    assert send(made["id"], "site-a", "real", 0).status_code == 413
    monkeypatch.setattr(studies, "BODY_LIMIT", 100)
    assert send(made["id"], "site-a", "real", 0).status_code == 413


def test_strangers_find_nothing(registered, part, browse, stranger) -> None:
    made = registered()
    theirs = browse(part.router, member=stranger)
    assert theirs.get(f"/plans/{made['id']}").status_code == 404
    place = {"plan": made["id"], "arm": "real", "seed": 0, "test": "site-a"}
    body = content("site-a", "real", 0)
    assert theirs.post("/predictions", params=place, content=body).status_code == 404
    assert theirs.get("/results", params={"experiment": made["experiment"]}).status_code == 404
    assert theirs.get("/comparisons", params={"experiment": made["experiment"]}).status_code == 404
    assert theirs.get(f"/reports/{made['experiment']}").status_code == 404


def test_the_last_set_submits_the_evaluation_once(registered, send_all, send, http) -> None:
    made = registered()
    send_all(made["id"])
    view = http.get(f"/plans/{made['id']}").json()
    assert view["received"] == view["expected"] == EXPECTED
    assert (view["job"]["kind"], view["job"]["state"]) == ("evaluate", "queued")
    assert (view["job"]["total"], view["job"]["unit"]) == (EXPECTED, "prediction sets")
    send(made["id"], "site-b", "real", 1)
    assert http.get(f"/plans/{made['id']}").json()["job"]["id"] == view["job"]["id"]


def test_sets_that_arrive_together_submit_one_evaluation(adapters, registered, send) -> None:
    arms = [{"name": name} for name in ("real_equal_steps", "real+100%")]
    made = registered(arms=arms, seeds=[0, 1], labels=list(LABELS))
    places = [(t, a["name"], s) for t in TESTS for a in arms for s in (0, 1)] * 2
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda place: send(made["id"], *place), places))
    assert {a.status_code for a in answers} == {201}
    with adapters.db.transaction() as tx:
        assert tx.session.scalar(text("SELECT count(*) FROM evaluation.predictions")) == 8
        assert tx.session.scalar(text("SELECT count(*) FROM jobs.jobs")) == 1
