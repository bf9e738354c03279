"""Through the whole suite in one process: a dataset goes with everything that was made from it,
and the collector takes nothing that any service still names.
"""

from datetime import timedelta

from services.gateway.worker import collector


def test_a_dataset_goes_with_everything_made_from_it(
    http, run, study, adapters, ada, tmp_path
) -> None:
    project = f"projects/{ada.caller.project}/"
    query = {"experiment": study.experiment, "limit": 1000}
    results = http.get("/results", params=query).json()
    foreseen = http.get(f"/datasets/{study.dataset}/deletion").json()
    kinds = [each["kind"] for each in foreseen["derived"]]
    assert kinds == ["plan", "experiment", "generation", "generator"]
    refused = http.delete(f"/datasets/{study.dataset}")
    assert (refused.status_code, refused.json()["accepted"]) == (409, "?derived=true")
    assert refused.json()["derived"] == foreseen["derived"]
    arms = http.get(f"/experiments/{study.experiment}/arms").json()
    classifier = arms[0]["runs"][0]["classifier"]

    asked = http.delete(f"/datasets/{study.dataset}", params={"derived": True})
    assert asked.status_code == 202
    gone = [("datasets", study.dataset), *study.derived, ("reports", study.experiment)]
    for path, made in (*gone, ("classifiers", classifier)):
        assert http.get(f"/{path}/{made}").status_code == 404, path
    order = {"generator": study.generator, "conditions": [{"count": 1}]}
    assert http.post("/generate", json=order).status_code == 404

    run()
    job = http.get(f"/datasets/{study.dataset}/deletion").json()["job"]
    assert job["state"] == "succeeded"
    assert {key.split("/")[3] for key in adapters.store.keys(project)} == {study.other}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert http.get(f"/datasets/{study.other}/summary").status_code == 200
    assert http.get("/results", params=query).json() == results
    assert results["items"]


def test_the_collector_takes_nothing_that_is_named(http, study, adapters, ada) -> None:
    project = f"projects/{ada.caller.project}/"
    before = set(adapters.store.keys(project))
    folders = {key.split("/")[2] for key in before}
    assert folders == {"datasets", "generators", "generations", "experiments", "plans"}
    orphans = set()
    more_than_a_round = range(1 + sum(1 for _ in adapters.store.keys("")) // 100)
    for folder in folders:
        beside = next(key for key in before if f"/{folder}/" in key)
        place = "/".join(beside.split("/")[:4]) + "/images/0000"
        orphans |= {f"{place}/{n:06}-0123456789abcdef.png" for n in more_than_a_round}
    for each in orphans:
        adapters.store.put(each, b"x")

    walks = collector(adapters)
    assert walks.collect().removed == 0  # all of it is young
    walks._grace = timedelta(hours=-1)
    assert walks.collect().removed == 0  # so many leftovers are none, until somebody says so
    walks.collect(most=1_000_000)
    left = set(adapters.store.keys(project))
    assert orphans & left == set()
    (rows,) = before - left  # what a finished training read
    assert "training-rows" in rows
    for path in (f"datasets/{study.dataset}", f"generations/{study.cohort}"):
        assert http.get(f"/{path}/manifest").status_code == 200
    assert http.get(f"/generations/{study.cohort}/images/0.png").status_code == 200
    assert http.get(f"/reports/{study.experiment}").status_code == 200
