"""Checkpoints sent over HTTP, imported by a worker, and asked for images; the engine is a stub."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from api_schemas.base import JobState
from api_schemas.findings import FINDINGS
from services.generation.main import compose
from services.generation.service import naming
from services.kit.jobs import Jobs
from services.kit.objects import sha256

PATIENT = {
    "age": 67,
    "sex": "Male",
    "race": "White",
    "findings": dict.fromkeys(map(str, FINDINGS), 0),
}
ROWS = [{"age": 60 + n, "sex": "Male", "race": "White", "Edema": n % 2} for n in range(10)]
ROWS += [{"age": 50, "sex": "Female"}, {"split": "test", "patient_id": "held out", **ROWS[0]}]


def send(http, content: bytes = b"checkpoint", headers: dict | None = None, **fields: str) -> Any:
    data = {"name": "the paper's", **fields}
    files = {"file": ("ddpm.ckpt", content)}
    return http.post("/generators/import", data=data, files=files, headers=headers)


@pytest.fixture
def generator(http, run) -> str:
    made = send(http)
    assert made.status_code == 202, made.text
    run()
    return made.json()["id"]


@pytest.fixture
def objects(adapters, ada) -> Callable[[], list[str]]:
    """The keys of all that is kept of the project's generators."""
    return lambda: list(adapters.store.keys(f"projects/{ada.caller.project}/generators/"))


@pytest.fixture
def nothing_kept(adapters, objects, http) -> Callable[[], bool]:
    def look() -> bool:
        rows = http.get("/generators").json()["items"]
        return not (rows or objects() or list(adapters.settings.scratch.glob("upload-*")))

    return look


def name_set(http, generator: str, dataset: object, **more: str) -> Any:
    body = {"dataset": str(dataset), **more}
    return http.put(f"/generators/{generator}/training-set", json=body)


# ---------------------------------------------------------------- sending


def test_an_imported_generator_says_where_it_comes_from(adapters, http, run, objects) -> None:
    answer = send(http, b"some weights")
    assert answer.status_code == 202
    made = answer.json()
    assert answer.headers["Location"] == f"/generators/{made['id']}"
    assert (made["job"]["kind"], made["job"]["state"]) == ("import-generator", "queued")
    assert (made["size_px"], made["encoder"], made["origin"], made["preset"]) == (None,) * 4
    run()
    view = http.get(f"/generators/{made['id']}").json()
    assert view["job"]["state"] == "succeeded"
    assert (view["size_px"], view["encoder"], view["training"]) == (32, "paper22", None)
    assert (view["licence"]["may_export"], view["flags"]) == (None, [])  # nobody knows
    assert view["origin"] == {
        "format": "stub",
        "sha256": sha256(b"some weights"),
        "weights": "ema",
        "parameters": 7,
        "architecture": {"channels": [1, 2]},
    }
    assert view["digest"] == sha256(b"weights of the stub")
    assert [key.split("/")[-1].split("-")[0] for key in objects()] == ["weights"]
    assert not list(adapters.settings.scratch.glob("upload-*"))


def test_raw_weights_when_they_are_asked_for(http, run) -> None:
    made = send(http, weights="raw").json()
    run()
    assert http.get(f"/generators/{made['id']}").json()["origin"]["weights"] == "raw"


def test_a_large_file_comes_through_whole(http, run) -> None:
    content = bytes(range(256)) * 40_000  # 10 MB, in parts on the way to the store
    made = send(http, content).json()
    run()
    view = http.get(f"/generators/{made['id']}").json()
    assert view["origin"]["sha256"] == sha256(content)


def test_one_idempotency_key_makes_one_generator(http, objects) -> None:
    key = {"Idempotency-Key": "k"}
    first, second = send(http, headers=key), send(http, headers=key)
    assert first.json()["id"] == second.json()["id"]
    assert send(http, b"another", key).status_code == 422
    assert len(http.get("/generators").json()["items"]) == 1
    assert len(objects()) == 1


def test_who_has_too_much_queued_leaves_no_file(adapters, browse, ada, shelf, nothing_kept) -> None:
    full = replace(adapters, jobs=Jobs(adapters.bell, queued_cap=0))
    http = browse(compose(full, datasets=shelf).router, member=ada)
    assert send(http).status_code == 429
    assert nothing_kept()


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"name": " "}, "name"), ({"weights": "best"}, "weights"), ({"colour": "grey"}, "colour")],
)
def test_bad_fields_are_named(http, fields, field, nothing_kept) -> None:
    answer = send(http, **fields)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert nothing_kept()


@pytest.mark.parametrize(
    "body",
    [
        {"json": {"name": "x"}},
        {"content": b"x", "headers": {"Content-Type": "application/octet-stream"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        {"data": {"name": "x"}, "files": {"other": ("a", b"x")}},
        {"data": {"name": "x"}, "files": [("file", ("a", b"x")), ("file", ("b", b"y"))]},
        {"data": {"name": "x" * 70_000}, "files": {"file": ("a", b"x")}},
        {"data": {"name": "x"}, "files": {}},
    ],
    ids=["json", "bytes", "no boundary", "other file", "two files", "long text", "no file"],
)
def test_what_is_no_form_with_a_file_is_refused(http, body, nothing_kept) -> None:
    answer = http.post("/generators/import", **body)
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:synthorax:problem:form-unusable"
    assert nothing_kept()


def test_a_form_that_was_cut_off_is_refused(http, nothing_kept) -> None:
    boundary = "frontier"
    whole = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\nx\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        f"{'w' * 1000}\r\n--{boundary}--\r\n"
    ).encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    for cut in (len(whole) - 8, len(whole) - 500, 100, 0):
        answer = http.post("/generators/import", content=whole[:cut], headers=headers)
        assert (answer.status_code, answer.json()["field"]) == (422, "file"), cut
    assert nothing_kept()
    assert http.post("/generators/import", content=whole, headers=headers).status_code == 202


def test_a_file_that_is_too_large_is_not_read_to_its_end(
    adapters, browse, ada, shelf, nothing_kept
) -> None:
    limit = 50_000
    settings = adapters.settings.model_copy(update={"checkpoint_limit_bytes": limit})
    router = compose(replace(adapters, settings=settings), datasets=shelf).router
    http = browse(router, member=ada)

    def endless() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(1000):
            yield b"w" * 10_000

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = http.post("/generators/import", content=endless(), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["accepted"] == f"at most {limit} bytes"
    assert nothing_kept()


def test_a_reader_may_not_import(adapters, browse, enrol, shelf) -> None:
    router = compose(adapters, datasets=shelf).router
    assert send(browse(router, member=enrol("eve", "lab", "read"))).status_code == 403
    assert send(browse(router)).status_code == 401


# ---------------------------------------------------------------- refusing


@pytest.mark.parametrize(
    ("refusal", "slug"),
    [
        (b"CheckpointUnreadable", "checkpoint-unreadable"),
        (b"CheckpointUnsafe", "checkpoint-unsafe"),
        (b"NetworkUnsupported", "network-unsupported"),
        (b"KeysDiffer", "keys-differ"),
        (b"WeightsNotFinite", "weights-not-finite"),
    ],
)
def test_a_refused_file_fails_the_job_and_leaves_nothing(
    http, run, tmp_path, refusal, slug, objects
) -> None:
    made = send(http, refusal).json()
    assert run() == 1  # and is not tried again
    view = http.get(f"/generators/{made['id']}").json()
    assert view["job"]["state"] == "failed"
    problem = view["job"]["problem"]
    assert problem["type"] == f"urn:synthorax:problem:{slug}"
    assert (problem["field"], problem["detail"]) == ("file", "because the stub was told so")
    assert (view["digest"], view["origin"]) == (None, None)
    assert objects() == []
    assert not list((tmp_path / "generators").iterdir())
    order = {"generator": made["id"], "recipes": [{"condition": PATIENT, "seed": 1}]}
    assert http.post("/generate", json=order).status_code == 409


def test_a_file_that_has_gone_fails_the_job(adapters, http, run, objects) -> None:
    made = send(http).json()
    adapters.store.remove(objects())
    run()
    job = http.get(f"/generators/{made['id']}").json()["job"]
    assert (job["state"], job["problem"]["type"]) == (
        "failed",
        "urn:synthorax:problem:upload-gone",
    )


def test_another_file_in_its_place_is_noticed(adapters, http, run, objects) -> None:
    made = send(http).json()
    adapters.store.put(objects()[0], b"another file")
    run()
    job = http.get(f"/generators/{made['id']}").json()["job"]
    assert job["problem"]["type"] == "urn:synthorax:problem:digest-mismatch"


# ---------------------------------------------------------------- asking for images


def test_whole_patients_can_be_ordered_of_nobody_knows_whom(http, run, generator) -> None:
    entry = {**PATIENT, "age": [60, 69], "count": 5}
    made = http.post("/generate", json={"generator": generator, "conditions": [entry]})
    assert made.status_code == 202, made.text
    run()
    view = http.get(f"/generations/{made.json()['id']}").json()
    assert view["job"]["state"] == "succeeded"
    images = http.get(f"/generations/{view['id']}/images").json()["items"]
    assert all(60 <= i["recipe"]["condition"]["age"] <= 69 for i in images)
    assert {i["recipe"]["condition"]["race"] for i in images} == {"White"}


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in PATIENT.items() if name != field}


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (without("race"), "conditions.1.race"),
        (without("age"), "conditions.1.age"),
        (PATIENT | {"findings": {"Pleural Other": 1}}, "conditions.1.findings.Fracture"),
    ],
)
def test_nothing_is_drawn_from_nobody_knows_whom(http, generator, entry, field) -> None:
    conditions = [{**PATIENT, "count": 1}, {**entry, "count": 1}]
    answer = http.post("/generate", json={"generator": generator, "conditions": conditions})
    assert (answer.status_code, answer.json()["field"]) == (409, field)
    assert answer.json()["type"] == "urn:synthorax:problem:training-set-unknown"
    assert http.get("/generations").json()["items"] == []


@pytest.mark.parametrize("field", ["age", "sex", "race", "findings"])
def test_an_encoder_without_a_word_for_unknown_says_so(http, generator, field) -> None:
    recipe = {"condition": without(field), "seed": 1}
    answer = http.post("/generate", json={"generator": generator, "recipes": [recipe]})
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:synthorax:problem:condition-incomplete"
    assert answer.json()["field"].startswith(f"recipes.0.condition.{field}")


def test_what_is_wrong_with_an_order_is_said_later_while_the_import_runs(http, run) -> None:
    generator = send(http).json()["id"]
    order = {"generator": generator, "conditions": [{"count": 1}]}
    made = http.post("/generate", json=order).json()
    assert made["job"]["state"] == "blocked"
    run()
    job = http.get(f"/generations/{made['id']}").json()["job"]
    assert (job["state"], job["problem"]["field"]) == ("failed", "conditions.0.age")


def test_a_mirror_needs_rows_that_say_everything(http, run, generator, put_dataset) -> None:
    order = {"generator": generator, "mirror": {"dataset": str(put_dataset(ROWS))}}
    problem = http.post("/generate", json=order).json()
    assert (problem["status"], problem["field"]) == (422, "mirror")
    assert "1 of 11 rows have no race" in problem["detail"]
    made = http.post(
        "/generate", json=order | {"mirror": {"dataset": str(put_dataset(ROWS[:10]))}}
    ).json()
    run()
    images = http.get(f"/generations/{made['id']}/images").json()["items"]
    findings = [i["recipe"]["condition"]["findings"] for i in images]
    assert [f["Edema"] for f in findings] == [0, 1] * 5
    assert all(len(f) == len(FINDINGS) for f in findings)  # what a row does not affirm is absent


# ---------------------------------------------------------------- naming the training set


def test_nobody_knows_whom_it_saw_until_its_owner_says(http, run, generator, put_dataset) -> None:
    path = f"/generators/{generator}/seen"
    unknown = http.get(path)
    assert unknown.status_code == 409
    assert unknown.json()["type"] == "urn:synthorax:problem:training-set-unknown"
    dataset = put_dataset(ROWS)
    answer = name_set(http, generator, dataset)
    assert answer.status_code == 200, answer.text
    training = answer.json()["training"]
    assert (training["stated"], training["images"]) == (True, 12)
    assert (training["terms"], answer.json()["dataset"]) == ("for tests only", str(dataset))
    assert "held out" in http.get(path).json()["patients"]
    order = {"generator": generator, "conditions": [{"findings": {"Edema": 1}, "count": 20}]}
    made = http.post("/generate", json=order).json()
    run()
    images = http.get(f"/generations/{made['id']}/images").json()["items"]
    conditions = [i["recipe"]["condition"] for i in images]
    assert {c["race"] for c in conditions} == {"White"}  # who has none lends nothing
    assert all(len(c["findings"]) == len(FINDINGS) for c in conditions)
    women = {"generator": generator, "conditions": [{"sex": "Female", "age": 50, "count": 1}]}
    refused = http.post("/generate", json=women)
    assert (refused.status_code, refused.json()["nearest"]) == (422, 11)


def test_a_part_of_a_dataset_can_be_named(http, generator, put_dataset) -> None:
    name_set(http, generator, put_dataset(ROWS), split="train")
    assert "held out" not in http.get(f"/generators/{generator}/seen").json()["patients"]


def test_what_was_said_stands(http, generator, put_dataset) -> None:
    dataset = put_dataset(ROWS)
    first, again = (name_set(http, generator, dataset) for _ in range(2))
    assert first.json() == again.json()
    other = name_set(http, generator, put_dataset(ROWS))
    assert (other.status_code, other.json()["field"]) == (409, "dataset")


def test_training_sets_that_cannot_be_named(
    adapters, browse, enrol, http, run, shelf, generator, put_dataset
) -> None:
    def refused(answer: Any) -> tuple[int, str]:
        return answer.status_code, answer.json()["field"]

    dataset = put_dataset(ROWS)
    assert refused(name_set(http, generator, uuid4())) == (404, "dataset")
    assert refused(name_set(http, generator, put_dataset(ROWS, size_px=64))) == (422, "dataset")
    assert refused(name_set(http, generator, put_dataset(ROWS, JobState.RUNNING))) == (
        409,
        "dataset",
    )
    only_test = put_dataset([{"split": "test"}])
    assert refused(name_set(http, generator, only_test, split="train")) == (422, "split")
    colleague = browse(compose(adapters, datasets=shelf).router, member=enrol("bob", "lab"))
    assert refused(name_set(colleague, generator, dataset)) == (403, "generator")
    trained = http.post(
        "/generators", json={"name": "g", "dataset": str(dataset), "preset": "tiny-32", "steps": 1}
    ).json()["id"]
    assert refused(name_set(http, trained, dataset)) == (409, "generator")
    unfinished = send(http).json()["id"]
    assert refused(name_set(http, unfinished, dataset)) == (409, "generator")
    assert http.get(f"/generators/{generator}").json()["training"] is None


def test_strangers_find_no_imported_generator(strangers_http, generator) -> None:
    assert name_set(strangers_http, generator, uuid4()).status_code == 404
    assert strangers_http.get(f"/generators/{generator}").status_code == 404


def test_deletion_follows_what_an_owner_said(adapters, http, generator, put_dataset) -> None:
    dataset = put_dataset(ROWS)
    name_set(http, generator, dataset)
    with adapters.db.transaction() as tx:
        uses = tx.session.execute(text("SELECT resource, uses FROM jobs.uses")).all()
    assert uses == [(UUID(generator), dataset)]


def test_an_import_that_was_cancelled_leaves_its_file_to_the_collector(
    adapters, http, work, ada, objects
) -> None:
    """Until then the file is named, so that a worker that is slow to start finds it."""
    generator = send(http).json()["id"]
    named = naming(adapters.jobs)["generators"]
    with adapters.db.transaction() as tx:
        assert named(tx, UUID(generator), []) == set(objects())
    http.post(f"/generators/{generator}/cancel")
    with adapters.db.transaction() as tx:
        assert named(tx, UUID(generator), []) == set()
