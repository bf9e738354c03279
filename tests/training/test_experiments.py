"""Asking for experiments over HTTP: what is planned, what is refused, and how it says so."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from sqlalchemy import text

from api_schemas.accounts import Scope
from api_schemas.base import JobState
from api_schemas.findings import Finding
from api_schemas.generation import GenerateRequest
from services.training.main import compose
from tests.training.conftest import HELD, KNOWN, SIZE_PX, TRAIN
from tests.training.manifests import alternating, both, manifest
from tests.training.standins import job_view


def refused(http, body: dict[str, Any], status: int, field: str) -> dict[str, Any]:
    """The problem of a refused request; nothing half-done is left behind."""
    answer = http.post("/experiments", json=body)
    problem = answer.json()
    assert (answer.status_code, problem.get("field")) == (status, field), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert http.get("/experiments").json()["items"] == []
    return problem


def small(count: int, prefix: str, finding=Finding.EDEMA, labels=None, **more: Any):
    """A manifest without stored images."""
    names = [f"{prefix}-{i}" for i in range(count)]
    labels = labels or {finding: alternating(count)}
    return manifest(names, labels, prefix=prefix, **more)


def with_column(table: pa.Table, name: str, values: list[str]) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, table[name].type))


def ref(reference) -> dict[str, Any]:
    return reference.model_dump(mode="json")


# ---------------------------------------------------------------- what is planned


def test_an_experiment_is_accepted_and_planned(http, body, verdicts) -> None:
    answer = http.post("/experiments", json=body)
    made = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/experiments/{made['id']}"
    assert made["job"]["state"] == "queued"
    assert made["labels"] == ["Fracture", "Edema"]  # in the order of the findings
    assert http.get(f"/experiments/{made['id']}").json() == made

    arms = {a["arm"]["name"]: a for a in http.get(f"/experiments/{made['id']}/arms").json()}
    assert [a["images"] for a in arms.values()] == [12, 12, 24, 48, 36, 48]
    assert [a["steps"] for a in arms.values()] == [2, 5, 5, 5, 5, 5]
    assert {r["state"] for a in arms.values() for r in a["runs"]} == {"queued"}
    assert made["job"]["total"] == 2 * 27


def test_the_plan_is_registered_before_anything_trains(http, body, verdicts, real, cohort) -> None:
    made = http.post("/experiments", json=body).json()
    (plan,) = verdicts.plans
    assert str(plan.experiment) == made["id"]
    assert made["plan"] == made["id"]  # the stand-in's plan id
    assert (plan.reference, plan.primary, plan.margin) == ("real_equal_steps", "real+300%", 0.005)
    assert [arm.dose for arm in plan.arms] == [0, 0, 1, 3, None, None]
    assert plan.seeds == [0, 1]
    assert plan.labels == [Finding.FRACTURE, Finding.EDEMA]
    assert plan.waived == []
    assert (plan.contact_sheet.real, plan.contact_sheet.synthetic) == (real, cohort)
    assert [(t.name, t.data, t.split) for t in plan.tests] == [("internal", real, "test")]


def test_a_key_used_again_gives_the_first_experiment(http, body, verdicts, shelf) -> None:
    key = {"Idempotency-Key": "one"}
    first = http.post("/experiments", json=body, headers=key)
    reads = shelf.reads
    shelf.views.clear()  # the data may be gone by then
    second = http.post("/experiments", json=body, headers=key)
    assert second.status_code == 202
    assert second.json() == first.json()
    assert len(verdicts.plans) == 1
    assert shelf.reads == reads
    other = http.post("/experiments", json={**body, "name": "other"}, headers=key)
    assert other.status_code == 422


def test_declared_labels_are_taken_as_they_are(http, body, verdicts) -> None:
    made = http.post("/experiments", json={**body, "labels": ["Edema"]}).json()
    assert made["labels"] == ["Edema"]
    assert verdicts.plans[0].labels == [Finding.EDEMA]


def test_a_label_that_validation_lacks_stays(http, body, shelf) -> None:
    labels = {
        Finding.EDEMA: alternating(HELD),
        Finding.FRACTURE: [0] * HELD,
    }
    held = shelf.add_dataset(
        small(HELD, "held", labels=labels, split="validation"), size_px=SIZE_PX
    )
    body["validation"] = {"data": ref(held), "split": "validation"}
    assert http.post("/experiments", json=body).json()["labels"] == ["Fracture", "Edema"]


def test_experiments_belong_to_their_project(http, body, adapters, browse, stranger, enrol) -> None:
    made = http.post("/experiments", json=body).json()["id"]
    with adapters.db.transaction() as tx:
        assert tx.session.scalar(text("SELECT count(*) FROM training.runs")) == 12
    elsewhere = {"headers": stranger.headers}
    for path in ("", "/arms", "/events"):
        assert http.get(f"/experiments/{made}{path}", **elsewhere).status_code == 404
    assert http.post(f"/experiments/{made}/cancel", **elsewhere).status_code == 404
    assert http.get("/experiments", **elsewhere).json()["items"] == []
    colleague = {"headers": enrol("bob", "lab", Scope.READ).headers}
    assert http.get(f"/experiments/{made}", **colleague).status_code == 200
    assert http.post("/experiments", json=body, **colleague).status_code == 403
    assert http.get("/experiments", headers={"Authorization": ""}).status_code == 401
    assert http.get(f"/classifiers/{uuid4()}").status_code == 404


def test_lists_page_from_the_newest(http, body) -> None:
    made = [http.post("/experiments", json=body).json()["id"] for _ in range(3)]
    first = http.get("/experiments", params={"limit": 2}).json()
    rest = http.get("/experiments", params={"limit": 2, "cursor": first["next"]}).json()
    assert [e["id"] for e in first["items"] + rest["items"]] == made[::-1]
    assert rest["next"] is None


def test_cancelled_is_cancelled(http, body) -> None:
    made = http.post("/experiments", json=body).json()["id"]
    for _ in range(2):
        answer = http.post(f"/experiments/{made}/cancel")
        assert answer.status_code == 200
        assert answer.json()["job"]["state"] == "cancelled"
    arms = http.get(f"/experiments/{made}/arms").json()
    assert {r["state"] for a in arms for r in a["runs"]} == {"cancelled"}
    assert "cancelled" in http.get(f"/experiments/{made}/events").text


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"plan": {"reference": "nobody"}}, "plan.reference"),
        ({"plan": {"primary": "nobody"}}, "plan.primary"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds": []}, "seeds"),
        ({"preset": {"name": "magic"}}, "preset.name"),
        ({"preset": []}, "preset"),
        ({"arms": []}, "arms"),
        ({"surprise": 1}, "surprise"),
        ({"labels": ["Broken Heart"]}, "labels.0"),
    ],
)
def test_nonsense_is_refused(http, body, verdicts, change, field) -> None:
    refused(http, {**body, **change}, 422, field)
    assert verdicts.plans == []


def test_test_sets_have_names_of_their_own(http, body) -> None:
    problem = refused(http, {**body, "tests": body["tests"] * 2}, 422, "tests")
    assert problem["detail"] == "tests: each at most once; tests.1 stands before it too"


def test_a_test_set_is_named_once(http, body) -> None:
    again = [*body["tests"], {**body["tests"][0], "name": "same"}]
    problem = refused(http, {**body, "tests": again}, 422, "tests")
    assert "tests: each at most once" in problem["detail"]


def test_unknown_and_foreign_data_look_alike(http, body, browse, adapters, shelf, stranger) -> None:
    nobody = {"dataset": str(uuid4())}
    unknown = refused(http, {**body, "tests": [{"name": "t", "data": nobody}]}, 404, "tests.0.data")
    preset = {**body["preset"], "synthetic": {"generation": str(uuid4())}}
    refused(http, {**body, "preset": preset}, 404, "preset.synthetic")
    part = compose(adapters, datasets=shelf, generations=shelf, evaluation=None)
    theirs = browse(part.router, member=stranger)
    foreign = refused(theirs, body, 404, "preset.real")
    assert {**foreign, "field": 0} == {**unknown, "field": 0}


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.QUARANTINED])
def test_data_that_failed_is_refused(http, body, shelf, real_table, state) -> None:
    dead = shelf.add_dataset(real_table, size_px=SIZE_PX, job=job_view(state))
    problem = refused(
        http, {**body, "tests": [{"name": "t", "data": ref(dead)}]}, 409, "tests.0.data"
    )
    assert state in problem["detail"]


def test_a_table_without_images_is_refused(http, body, shelf, real_table) -> None:
    table = shelf.add_dataset(real_table, size_px=SIZE_PX, has_images=False)
    body["preset"]["real"] = ref(table)
    problem = refused(http, body, 422, "preset.real")
    assert problem["type"].endswith("data-without-images")


def test_sizes_must_agree(http, body, shelf) -> None:
    large = shelf.add_dataset(small(8, "large", split="test"), size_px=64)
    problem = refused(
        http, {**body, "tests": [{"name": "t", "data": ref(large)}]}, 422, "tests.0.data"
    )
    assert problem["accepted"] == SIZE_PX


def test_an_empty_split_is_refused(http, body, cohort) -> None:
    tests = [*body["tests"], {"name": "synthetic", "data": ref(cohort), "split": "test"}]
    refused(http, {**body, "tests": tests}, 422, "tests.1.split")


@pytest.mark.parametrize("labels", [{}, {Finding.EDEMA: [1] * 8}, {Finding.EDEMA: [1, -1] * 4}])
def test_a_test_set_needs_a_label_with_both_classes(http, body, shelf, labels) -> None:
    poor = shelf.add_dataset(
        small(8, "poor", labels=labels or {Finding.EDEMA: [None] * 8}, split="test"),
        size_px=SIZE_PX,
    )
    tests = [*body["tests"], {"name": "poor", "data": ref(poor)}]
    refused(http, {**body, "tests": tests}, 422, "tests.1")


def test_validation_needs_one_too(http, body, shelf) -> None:
    other = small(8, "held", finding=Finding.PNEUMONIA, split="validation")
    held = shelf.add_dataset(other, size_px=SIZE_PX)
    body["validation"] = {"data": ref(held), "split": "validation"}
    refused(http, body, 422, "validation")


def test_declared_labels_that_a_test_set_lacks_are_named(http, body) -> None:
    problem = refused(http, {**body, "labels": ["Edema", "Pneumonia"]}, 422, "labels")
    assert "Pneumonia" in problem["detail"]
    assert "Edema" not in problem["detail"]
    assert problem["accepted"] == ["Fracture", "Edema"]


def test_declared_labels_that_nothing_could_learn_are_named(http, body, shelf) -> None:
    """A finding of which no training source has both classes; one source with them is enough."""
    heart = shelf.add_dataset(
        small(12, "heart", labels={f: alternating(12) for f in (*KNOWN, Finding.CARDIOMEGALY)}),
        size_px=SIZE_PX,
    )
    tests = [*body["tests"], {"name": "heart", "data": ref(heart), "split": "all"}]
    problem = refused(
        http, {**body, "tests": tests, "labels": ["Edema", "Cardiomegaly"]}, 422, "labels"
    )
    assert problem["detail"] == "No training source has both classes of: Cardiomegaly"
    assert problem["accepted"] == ["Fracture", "Edema"]
    some = {f: alternating(TRAIN) for f in (*KNOWN, Finding.CARDIOMEGALY)}
    cohort = shelf.add_cohort(small(TRAIN, "drawn", labels=some), size_px=SIZE_PX)
    preset = {**body["preset"], "synthetic": ref(cohort), "ratios": [1]}
    asked = {**body, "tests": tests, "preset": preset, "labels": ["Edema", "Cardiomegaly"]}
    assert http.post("/experiments", json=asked).status_code == 202


def test_a_preset_needs_two_kinds_of_data(http, body) -> None:
    preset = {**body["preset"], "synthetic": body["preset"]["real"]}
    refused(http, {**body, "preset": preset}, 422, "preset.synthetic")


def test_an_unknown_regime_is_told_which_there_are(http, body) -> None:
    problem = refused(http, {**body, "preset": {**body["preset"], "name": "x"}}, 422, "preset.name")
    for known in ("supplement", "synthetic_only", "mix_sites", "pretrain_finetune"):
        assert known in problem["accepted"]


def test_no_common_label_is_refused(http, body, shelf) -> None:
    other = small(8, "other", finding=Finding.PNEUMONIA, split="test")
    far = shelf.add_dataset(other, size_px=SIZE_PX)
    tests = [*body["tests"], {"name": "far", "data": ref(far)}]
    problem = refused(http, {**body, "tests": tests}, 422, "tests.1")
    assert problem["accepted"] == ["Fracture", "Edema"]


def test_no_label_that_can_be_learnt_is_refused(http, body, shelf) -> None:
    """The test set knows Pneumonia only, the training sources never heard of it."""
    far = shelf.add_dataset(small(8, "far", finding=Finding.PNEUMONIA, split="test"), size_px=16)
    refused(http, {**body, "tests": [{"name": "far", "data": ref(far)}]}, 422, "labels")


def test_a_label_that_one_test_set_lacks_is_told_not_dropped(http, body, shelf, verdicts) -> None:
    far = shelf.add_dataset(small(8, "far", split="test"), size_px=SIZE_PX)  # knows Edema only
    tests = [*body["tests"], {"name": "far", "data": ref(far)}]
    for declared in (None, ["Fracture", "Edema"]):
        made = http.post("/experiments", json={**body, "tests": tests, "labels": declared}).json()
        assert made["labels"] == ["Fracture", "Edema"]
        assert made["not_estimable"] == {"far": ["Fracture"]}
    assert len(made["left_out"]) == 0  # they were declared
    assert verdicts.plans[0].labels == [Finding.FRACTURE, Finding.EDEMA]


def test_a_cohort_must_hold_what_is_asked(http, body) -> None:
    body["preset"]["ratios"] = [1, 4]
    problem = refused(http, body, 422, "preset.synthetic")
    assert f"asks for {4 * TRAIN} images" in problem["detail"]
    assert "replicas missing: 1" in problem["detail"]
    assert problem["accepted"] == 3 * TRAIN


def test_the_request_that_would_make_a_cohort_large_enough_comes_with_the_refusal(
    http, body, shelf, real, cohort
) -> None:
    """Of the same generator, seed and sampler; it mirrors what the cohort mirrors."""
    view = shelf.views[cohort.generation]()
    more = view.model_copy(update={"replicas": 3, "seed": 7, "mirror": real})
    shelf.views[cohort.generation] = lambda: more
    body["preset"]["ratios"] = [4.5]
    problem = refused(http, body, 422, "preset.synthetic")
    assert "replicas missing: 2" in problem["detail"]
    order = GenerateRequest.model_validate(problem["generate"])
    assert (order.generator, order.mirror) == (view.generator, real)
    assert (order.replicas, order.seed) == (5, 7)
    body["preset"]["ratios"] = [100]
    unmirrored = view.model_copy(update={"replicas": 101})
    shelf.views[cohort.generation] = lambda: unmirrored
    assert "generate" not in refused(http, body, 422, "preset.synthetic")


def test_a_selection_that_nobody_meets_is_refused(http, body, real) -> None:
    nobody = {"data": ref(real), "where": {"race": ["Asian"]}}
    everybody = {"data": ref(real)}

    def arm(name: str, source: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "stages": [{"sources": [source]}]}

    del body["preset"]
    body |= {"arms": [arm("a", everybody), arm("b", nobody)]}
    body |= {"plan": {"reference": "a", "primary": "b"}}
    problem = refused(http, body, 422, "arms.0.stages.0.sources.0.data")
    assert "'b'" in problem["detail"]


def test_training_patients_must_not_be_tested(http, body, shelf, real_table) -> None:
    everyone = [{"name": "all", "data": body["preset"]["real"], "split": "all"}]
    problem = refused(http, {**body, "tests": everyone, "allow_leakage": True}, 409, "tests.0")
    assert f"{TRAIN} of its {TRAIN + 2 * HELD} patients" in problem["detail"]


def test_validation_patients_must_not_be_tested(http, body) -> None:
    again = [{"name": "again", "data": body["preset"]["real"], "split": "validation"}]
    problem = refused(http, {**body, "tests": again}, 409, "tests.0")
    assert f"{HELD} of its {HELD} patients are in validation" in problem["detail"]


def test_a_generator_must_not_have_seen_those_who_are_tested(
    http, body, shelf, cohort_table, verdicts
) -> None:
    saw = [f"real-{i}" for i in range(TRAIN + HELD, TRAIN + HELD + 3)]
    leaky = shelf.add_cohort(cohort_table, saw=saw, size_px=SIZE_PX)
    body["preset"]["synthetic"] = ref(leaky)
    problem = refused(http, body, 409, "tests.0")
    assert f"saw 3 of the {HELD} patients" in problem["detail"]
    assert verdicts.plans == []

    allowed = http.post("/experiments", json={**body, "allow_leakage": True}).json()
    assert len(allowed["waived"]) == 1
    assert "saw 3 of" in allowed["waived"][0]
    assert verdicts.plans[0].waived == allowed["waived"]


def test_a_generator_may_have_seen_those_who_are_tested_when_nobody_knows(
    http, body, shelf, cohort_table
) -> None:
    """An imported checkpoint whose owner has not named its training set."""
    body["preset"]["synthetic"] = ref(shelf.add_cohort(cohort_table, saw=None, size_px=SIZE_PX))
    problem = refused(http, body, 409, "validation")
    assert "nobody knows whom" in problem["detail"]
    allowed = http.post("/experiments", json={**body, "allow_leakage": True}).json()
    assert len(allowed["waived"]) == 2  # validation and the test set
    assert all("nobody knows whom" in words for words in allowed["waived"])


def test_nothing_is_waived_that_was_not_found(http, body) -> None:
    made = http.post("/experiments", json={**body, "allow_leakage": True}).json()
    assert made["waived"] == []


def test_explicit_arms_with_impossible_steps(http, body, real) -> None:
    def arm(name: str, steps: int) -> dict[str, Any]:
        return {"name": name, "stages": [{"sources": [{"data": ref(real)}], "steps": steps}]}

    del body["preset"], body["classifier"]["epochs"]
    body |= {"arms": [arm("a", 10), arm("b", 11)], "plan": {"reference": "a", "primary": "b"}}
    refused(http, body, 422, "arms")


# ---------------------------------------------------------------- data in the making


def finish(lease) -> None:
    with lease.finishing():
        pass


def test_data_in_the_making_blocks_the_job(
    http, body, shelf, cohort_table, making, work, handler, engine, verdicts
) -> None:
    body["preset"]["synthetic"] = ref(shelf.add_cohort(cohort_table, size_px=SIZE_PX, job=making))
    made = http.post("/experiments", json=body).json()
    assert made["job"]["state"] == "blocked"
    assert made["job"]["waits_for"] == [str(making)]
    assert made["labels"] is None
    assert verdicts.plans[0].labels is None
    assert http.get(f"/experiments/{made['id']}/arms").json()[0]["steps"] is None
    assert work("training", "training", {"experiment": handler(engine)}) == 0

    work("stub", "stub", {"stub": finish})
    assert work("training", "training", {"experiment": handler(engine)}) == 1 + 12
    done = http.get(f"/experiments/{made['id']}").json()
    assert done["job"]["state"] == "succeeded"
    assert done["labels"] == ["Fracture", "Edema"]


def test_what_only_the_data_shows_fails_the_job_with_the_same_problem(
    http, body, shelf, real_table, making, work, handler, engine
) -> None:
    """The validation set is still being imported. It holds a patient of the training set."""
    patients = real_table["patient_id"].to_pylist()
    patients[TRAIN] = patients[0]
    shared = with_column(real_table, "patient_id", patients)
    imported = ref(shelf.add_dataset(shared, size_px=SIZE_PX, job=making))
    body["validation"] = {"data": imported, "split": "validation"}
    made = http.post("/experiments", json=body).json()["id"]
    work("stub", "stub", {"stub": finish})
    work("training", "training", {"experiment": handler(engine)})
    job = http.get(f"/experiments/{made}").json()["job"]
    assert job["state"] == "failed"
    assert (job["problem"]["status"], job["problem"]["field"]) == (409, "validation")
    assert "1 of its 8 patients are in preset.real" in job["problem"]["detail"]
    arms = http.get(f"/experiments/{made}/arms").json()
    assert {r["state"] for a in arms for r in a["runs"]} == {"cancelled"}
    assert engine.specs == []


# ------------------------------------------------- what is known while the cohort is being made

RUNNING = job_view(JobState.RUNNING)


@pytest.fixture
def ordered(shelf, body, cohort_table, real, making) -> Callable[..., dict[str, Any]]:
    """The request with a cohort that is still being rendered, by default three mirrors of `real`
    by a generator trained on it.
    """

    def order(**more: Any) -> dict[str, Any]:
        about = {"trained_on": real, "mirror": real, "replicas": 3, "size_px": SIZE_PX} | more
        cohort = shelf.add_cohort(cohort_table, job=making, **about)
        body["preset"]["synthetic"] = ref(cohort)
        return body

    return order


def refused_at_once(
    http, body: dict[str, Any], verdicts, status: int, field: str
) -> dict[str, Any]:
    """The same refusal from the order and from the dry run; nothing is registered."""
    problem = refused(http, body, status, field)
    assert http.post("/experiments", json={**body, "dry_run": True}).json() == problem
    assert verdicts.plans == []
    return problem


def test_an_order_that_can_succeed_waits_for_its_cohort(http, ordered) -> None:
    made = http.post("/experiments", json=ordered()).json()
    assert (made["job"]["state"], made["labels"]) == ("blocked", None)


@pytest.mark.parametrize("mirrored", [True, False])
def test_ratios_beyond_the_ordered_replicas_are_refused_at_once(
    http, ordered, verdicts, mirrored
) -> None:
    """The size of an order is known whether it mirrors a dataset or lists conditions."""
    body = ordered() if mirrored else ordered(mirror=None, replicas=1)
    body["preset"]["ratios"] = [1, 4]
    problem = refused_at_once(http, body, verdicts, 422, "preset.synthetic")
    assert f"asks for {4 * TRAIN} images" in problem["detail"]
    assert f"will hold {3 * TRAIN}" in problem["detail"]
    assert problem["accepted"] == 3 * TRAIN


def test_a_selection_of_the_mirror_is_counted_at_once(http, ordered, verdicts, real) -> None:
    """The mirror has the site of the generator, and the findings of the mirrored images."""
    body = ordered()
    synthetic = {
        "data": body["preset"]["synthetic"],
        "multiple": 2,
        "where": {"present": ["Edema"], "site": ["phantom-a"]},
    }
    del body["preset"]
    everybody = {"data": ref(real)}
    body["arms"] = [
        {"name": "a", "stages": [{"sources": [everybody]}]},
        {"name": "b", "stages": [{"sources": [everybody, synthetic]}]},
    ]
    body["plan"] = {"reference": "a", "primary": "b"}
    synthetic["where"]["site"] = ["elsewhere"]
    place = "arms.1.stages.0.sources.1"
    problem = refused_at_once(http, body, verdicts, 422, f"{place}.where.site")
    assert problem["accepted"] == ["phantom-a"]
    synthetic["where"] = {"present": ["Pneumonia"]}
    refused_at_once(http, body, verdicts, 422, f"{place}.data")


def test_a_test_on_the_training_split_is_refused_at_once(http, ordered, verdicts, real) -> None:
    body = ordered() | {"tests": [{"name": "again", "data": ref(real), "split": "train"}]}
    problem = refused_at_once(http, body, verdicts, 409, "tests.0")
    assert f"{TRAIN} of its {TRAIN} patients are in preset.real" in problem["detail"]


def test_patients_shared_with_training_are_refused_at_once(
    http, ordered, verdicts, shelf, real_table
) -> None:
    copy = shelf.add_dataset(real_table, size_px=SIZE_PX)
    body = ordered() | {"validation": {"data": ref(copy), "split": "all"}}
    refused_at_once(http, body, verdicts, 409, "validation")


@pytest.mark.parametrize("training", [None, RUNNING], ids=["trained", "being trained"])
def test_patients_that_the_generator_sees_are_refused_at_once(
    http, ordered, verdicts, shelf, real_table, training
) -> None:
    """Those that a trained one saw, and those of whom one in training will have seen."""
    everyone = shelf.add_dataset(
        with_column(real_table, "split", ["train"] * len(real_table)), size_px=SIZE_PX
    )
    saw = real_table["patient_id"].to_pylist()
    body = ordered(saw=saw, trained_on=everyone, training=training)
    problem = refused_at_once(http, body, verdicts, 409, "validation")
    assert f"saw {HELD} of the {HELD} patients" in problem["detail"]
    assert http.post("/experiments", json={**body, "allow_leakage": True}).status_code == 202


def test_labels_that_a_site_never_states_are_refused_at_once(
    http, ordered, verdicts, shelf, real
) -> None:
    """Neither the hospital nor its mirror can teach them, though a test set knows them."""
    patients = [f"far-{i}" for i in range(HELD)]
    far = manifest(patients, both(HELD, Finding.PNEUMONIA), split="test", prefix="far")
    body = ordered() | {"labels": ["Pneumonia"]}
    problem = refused_at_once(http, body, verdicts, 422, "labels")
    assert "No test set has both classes of: Pneumonia" in problem["detail"]
    body["tests"] = [{"name": "far", "data": ref(shelf.add_dataset(far, size_px=SIZE_PX))}]
    problem = refused_at_once(http, body, verdicts, 422, "labels")
    assert "No training source has both classes of: Pneumonia" in problem["detail"]
    del body["labels"]
    refused_at_once(http, body, verdicts, 422, "labels")


def test_labels_that_only_the_cohort_can_teach_wait_for_it(http, ordered, shelf) -> None:
    """Nobody knows yet what conditions were ordered, or what a dataset that is being imported
    holds.
    """
    patients = [f"far-{i}" for i in range(HELD)]
    known = both(HELD, Finding.PNEUMONIA, Finding.EDEMA)
    far = manifest(patients, known, split="test", prefix="far")
    body = ordered(mirror=None) | {"labels": ["Pneumonia", "Edema"]}
    body["tests"] = [{"name": "far", "data": ref(shelf.add_dataset(far, size_px=SIZE_PX))}]
    assert http.post("/experiments", json=body).status_code == 202


def test_steps_that_cannot_be_are_refused_at_once(http, ordered, verdicts, real) -> None:
    body = ordered()
    synthetic = {"data": body["preset"]["synthetic"]}
    del body["preset"], body["classifier"]["epochs"]

    def arm(name: str, source: dict[str, Any], steps: int) -> dict[str, Any]:
        return {"name": name, "stages": [{"sources": [source], "steps": steps}]}

    body["arms"] = [arm("a", {"data": ref(real)}, 10), arm("b", synthetic, 11)]
    body["plan"] = {"reference": "a", "primary": "b"}
    refused_at_once(http, body, verdicts, 422, "arms")
