"""Nobody reads or touches what is another project's: every route of the whole suite, with every
kind of key. A new route is asked too; one that names something new fails until that is made here.
"""

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api_schemas.accounts import InstallationRole, KeyRequest, Scope
from services.gateway.main import compose
from services.kit.auth import KEY_PREFIX, checksum
from tests.gateway.everything import GONE, NUMBERS, Ids, address, example, operations, things_of

NOT_FOUND = 404
FORBIDDEN = 403
OF_THE_INSTALLATION = {("PUT", "/shares/{person}")}
"""Only an administrator of the installation grants shares of the machines, whoever's they are."""
OF_THE_PERSON = {("GET", "/shares/{person}")}
"""Ada finds her own share with a key of any project of hers."""


@pytest.fixture
def app(adapters) -> FastAPI:
    return compose(adapters)


@pytest.fixture
def as_member(app) -> Callable[..., TestClient]:
    def client(member=None) -> TestClient:
        headers = member.headers if member else {}
        return TestClient(app, headers=headers, raise_server_exceptions=False)

    return client


@pytest.fixture
def ours(http, run, study) -> Ids:
    """Something of every kind in Ada's project."""
    return things_of(http, run, study)


def test_what_is_another_projects_does_not_exist(
    app, as_member, ours, stranger, enrol, accounts
) -> None:
    """For a stranger who may do everything at home, and for Ada herself in another project, the
    answer is word for word that of what nobody has; in her own project she finds all of it.
    """
    elsewhere = [as_member(stranger), as_member(enrol("ada", "elsewhere"))]
    nobodys = dict.fromkeys(ours, GONE) | NUMBERS
    asked = [each for each in operations(app) if "{" in each[1]]
    leaks = []
    for verb, path, operation in asked:
        expected = FORBIDDEN if (verb, path) in OF_THE_INSTALLATION else NOT_FOUND
        request = example(app, operation)
        for http in elsewhere[:1] if (verb, path) in OF_THE_PERSON else elsewhere:
            answer = http.request(verb, address(path, ours), **request)
            unknown = http.request(verb, address(path, nobodys), **request)
            if answer.status_code != expected or answer.json() != unknown.json():
                leaks.append((verb, path, answer.status_code, answer.text))
    assert leaks == []
    everything = KeyRequest(name="test", scopes=list(Scope))
    accounts.mint("ada", "lab", everything, InstallationRole.ADMIN)
    home = as_member(enrol("ada"))
    asked.sort(key=lambda each: ["GET", "POST", "PUT", "DELETE"].index(each[0]))
    lost, of_training = [], set()
    for verb, path, operation in asked:
        if verb == "GET" and path.endswith("/events"):
            continue  # they stream until the job ends
        answer = home.request(verb, address(path, ours), **example(app, operation))
        if answer.status_code == 403 and "only-training-tells" in answer.text:
            of_training.add(path)
        elif answer.status_code in {401, 403, NOT_FOUND} or answer.is_server_error:
            lost.append((verb, path, answer.text))
    assert lost == []
    assert of_training == {"/plans/{plan}/absences", "/plans/{plan}/particulars"}


def test_lists_hold_what_is_ones_own(app, as_member, ours, stranger, enrol) -> None:
    """No id of Ada's project stands in any list that a stranger gets."""
    lists = [path for verb, path, _ in operations(app) if verb == "GET" and "{" not in path]
    known = {each for name, each in ours.items() if name not in NUMBERS}
    shown: set[str] = set()
    for path in lists:
        if path == "/shifts":
            continue  # no list: it names two sets
        theirs = as_member(stranger).get(path)
        assert theirs.status_code == 200, path
        assert not [each for each in known if each in theirs.text], path
        mine = as_member(enrol("ada")).get(path).text
        shown |= {each for each in known if each in mine}
    assert len(shown) > 10


LOOKS = {"/datasets/{dataset}/lookups"}
"""A POST that changes nothing: what it is asked is too long for an address."""


def test_a_key_does_what_its_scopes_say(app, as_member, ours, enrol) -> None:
    """With a key that only reads nothing is changed, with one that only writes nothing is read,
    and a well-formed key that nobody has been given opens nothing.
    """
    secret = "A" * 43
    made_up = {"Authorization": f"Bearer {KEY_PREFIX}{secret}{checksum(secret)}"}
    reads, writes = enrol("ada", "lab", Scope.READ), enrol("ada", "lab", Scope.WRITE)
    for verb, path, operation in operations(app):
        request, place = example(app, operation), address(path, ours)
        answer = as_member().request(verb, place, **request, headers=made_up)
        assert answer.status_code == 401, (verb, path)
        forbidden = writes if verb == "GET" or path in LOOKS else reads
        answer = as_member(forbidden).request(verb, place, **request)
        assert answer.status_code == 403, (verb, path)
