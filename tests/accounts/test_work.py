"""Jobs of every service over HTTP: look, attempts, retry, priority, the queue, shares, events."""

from uuid import UUID, uuid4

import pytest

from api_schemas.accounts import InstallationRole, KeyRequest, Scope
from services.accounts.main import compose
from services.kit.jobs import Lease, NewJob, Released


@pytest.fixture
def job(adapters, ada) -> UUID:
    """A job of ada's in two parts."""
    new = NewJob("stub", "stub", "stub", ada.caller, uuid4(), {"secret": "42"}, [{}, {}])
    with adapters.db.transaction() as tx:
        return adapters.jobs.submit(tx, new)


@pytest.fixture
def administrator(accounts, ada) -> None:
    """Ada runs the installation."""
    request = KeyRequest(name="test", scopes=list(Scope))
    accounts.mint("ada", "lab", request, InstallationRole.ADMIN)


@pytest.fixture
def http(adapters, browse, ada):
    return browse(compose(adapters).router, member=ada)


def finish(lease: Lease) -> None:
    if lease.attempt == 1:
        raise Released("others went first")
    with lease.finishing():
        pass


def test_attempts_tell_who_and_why(http, job, work) -> None:
    work("stub", "stub", {"stub": finish})
    assert http.get(f"/jobs/{job}").json()["state"] == "succeeded"
    attempts = http.get(f"/jobs/{job}/attempts").json()
    assert [(a["slice"], a["number"], a["outcome"], a["reason"]) for a in attempts] == [
        (0, 1, "released", "others went first"),
        (0, 2, "done", ""),
        (1, 1, "released", "others went first"),
        (1, 2, "done", ""),
    ]
    assert attempts[0]["about"]["device"] == "cpu"
    assert attempts[0]["about"]["python"]
    assert attempts[0]["ended_at"]


def test_a_stranger_finds_nothing(adapters, browse, job, stranger) -> None:
    http = browse(compose(adapters).router, member=stranger)
    unknown = http.get(f"/jobs/{uuid4()}")
    for method, path in [
        ("GET", ""),
        ("GET", "/attempts"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ]:
        answer = http.request(method, f"/jobs/{job}{path}")
        assert (answer.status_code, answer.json()) == (404, unknown.json())
    assert "42" not in http.get("/queue").text
    assert [p["yours"] for q in http.get("/queue").json() for p in q["places"]] == [False]


def test_cancel_and_retry_answer_what_fits(http, job) -> None:
    refused = http.post(f"/jobs/{job}/retry")
    assert refused.status_code == 409
    assert refused.json()["accepted"] == "a quarantined job"
    assert http.post(f"/jobs/{job}/cancel").json()["state"] == "cancelled"
    assert http.post(f"/jobs/{job}/cancel").status_code == 200


def test_to_go_first_takes_an_administrator_of_the_installation(
    adapters, browse, enrol, http, job, accounts
) -> None:
    member = browse(compose(adapters).router, member=enrol("ada", "lab", Scope.READ, Scope.WRITE))
    assert member.put(f"/jobs/{job}/priority", json={"priority": -3}).json()["priority"] == -3
    for mere in (member, http):  # http is an administrator of the project
        refused = mere.put(f"/jobs/{job}/priority", json={"priority": 1})
        assert (refused.status_code, refused.json()["field"]) == (403, "priority")
    request = KeyRequest(name="test", scopes=list(Scope))
    accounts.mint("ada", "lab", request, InstallationRole.ADMIN)
    assert member.put(f"/jobs/{job}/priority", json={"priority": 1}).status_code == 403
    assert http.put(f"/jobs/{job}/priority", json={"priority": 1}).json()["priority"] == 1
    assert http.put(f"/jobs/{job}/priority", json={"priority": 11}).status_code == 422


def test_an_administrator_of_a_project_has_no_say_over_the_machines(
    adapters, browse, stranger, http, ada, enrol
) -> None:
    """Neither over people of other projects nor over their own."""
    theirs = browse(compose(adapters).router, member=stranger)
    bob = enrol("bob", "lab", Scope.READ, Scope.WRITE)
    before = http.get(f"/shares/{ada.caller.person}").json()
    for person in (ada, stranger, bob):
        path = f"/shares/{person.caller.person}"
        for client in (theirs, http):
            refused = client.put(path, json={"weight": 100})
            assert refused.status_code == 403
            assert "administrator of the installation" in refused.json()["detail"]
    assert theirs.get(f"/shares/{ada.caller.person}").status_code == 404
    assert http.get(f"/shares/{bob.caller.person}").status_code == 404
    assert http.get(f"/shares/{ada.caller.person}").json() == before
    assert http.get("/me").json()["installation_role"] == "none"


def test_shares_are_granted_and_seen(adapters, browse, enrol, http, ada, administrator) -> None:
    assert http.get("/me").json()["installation_role"] == "admin"
    bob = enrol("bob", "lab", Scope.READ, Scope.WRITE)
    path = f"/shares/{bob.caller.person}"
    assert http.put(path, json={"weight": 2, "queued_cap": 0}).json()["weight"] == 2
    his = browse(compose(adapters).router, member=bob)
    assert his.get(path).json()["queued_cap"] == 0
    assert his.get(f"/shares/{ada.caller.person}").status_code == 404
    assert his.put(path, json={"weight": 100}).status_code == 403
    assert http.get(f"/shares/{uuid4()}").status_code == 404
    assert http.put(path, json={"weight": 0}).status_code == 422


def test_over_the_cap_is_429_and_says_when_to_come_back(
    adapters, browse, enrol, http, ada, administrator
) -> None:
    http.put(f"/shares/{ada.caller.person}", json={"queued_cap": 0})
    new = NewJob("stub", "stub", "stub", ada.caller, uuid4(), {}, [{}])

    def post() -> None:
        with adapters.db.transaction() as tx:
            adapters.jobs.submit(tx, new)

    http.app.add_api_route("/orders", post, methods=["POST"])
    answer = http.post("/orders")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["accepted"] == "at most 0 unfinished jobs in queue 'stub'"


def test_events_go_on_behind_the_last_one_seen(http, job, work) -> None:
    work("stub", "stub", {"stub": finish})

    def ids(**headers: str) -> list[int]:
        lines = http.get(f"/jobs/{job}/events", headers=headers).text.splitlines()
        return [int(line.removeprefix("id:")) for line in lines if line.startswith("id:")]

    everything = ids()
    assert len(everything) >= 4
    assert ids(**{"Last-Event-ID": str(everything[1])}) == everything[2:]
