"""Keys over HTTP: shown once, deny by default, refused when revoked or mistyped."""

import pytest
from sqlalchemy import text

from api_schemas.accounts import KeyRequest, Scope
from services.accounts.main import compose


@pytest.fixture
def http(adapters, browse, ada):
    return browse(compose(adapters).router, member=ada)


def test_a_key_works_until_it_is_revoked(http) -> None:
    made = http.post("/keys", json={"name": "notebook"}).json()
    mine = {"Authorization": f"Bearer {made['key']}"}
    assert http.get("/me", headers=mine).json()["person_name"] == "ada"
    assert http.delete(f"/keys/{made['id']}").status_code == 204
    answer = http.get("/me", headers=mine)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


def test_all_keys_of_a_person_can_be_ended(adapters, browse, enrol) -> None:
    """In every project, and nobody else's: as when a notebook was lost."""
    lost, elsewhere, kept = enrol("bob"), enrol("bob", "elsewhere"), enrol("eve")
    accounts = compose(adapters)
    assert accounts.provider.revoke_all("bob") == 2
    assert accounts.provider.revoke_all("bob") == 0
    told = [
        browse(accounts.router, member=m).get("/me").status_code for m in (lost, elsewhere, kept)
    ]
    assert told == [401, 401, 200]


@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer", "Bearer sx_wrong", "Basic abc", "Bearer sx_" + "A" * 51, "Service wrong"],
)
def test_no_valid_key_no_answer(http, authorization) -> None:
    headers = {"Authorization": authorization or ""}
    assert http.get("/me", headers=headers).status_code == 401


def test_one_wrong_letter_is_refused(http, ada) -> None:
    flipped = "B" if ada.key[10] != "B" else "C"
    headers = {"Authorization": f"Bearer {ada.key[:10]}{flipped}{ada.key[11:]}"}
    answer = http.get("/me", headers=headers)
    assert answer.status_code == 401
    assert "checksum" in answer.json()["detail"]


def test_an_expired_key_is_refused(adapters, http) -> None:
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE accounts.keys SET expires_at = now() - interval '1 s'"))
    assert http.get("/me").status_code == 401


def test_a_reader_makes_no_keys(adapters, browse, enrol) -> None:
    reader = browse(compose(adapters).router, member=enrol("bob", "lab", Scope.READ))
    assert reader.get("/me").status_code == 200
    assert reader.post("/keys", json={"name": "more"}).status_code == 403


def test_no_key_gives_more_than_it_has(adapters, browse, enrol) -> None:
    limited = browse(compose(adapters).router, member=enrol("bob", "lab", Scope.ADMIN))
    answer = limited.post("/keys", json={"name": "more", "scopes": ["write"]})
    assert answer.status_code == 403
    assert answer.json()["field"] == "scopes"


def test_the_key_is_nowhere_in_the_database(adapters, ada) -> None:
    with adapters.db.transaction() as tx:
        rows = tx.session.execute(text("SELECT k::text FROM accounts.keys k")).scalars().all()
    assert rows
    assert not any(ada.key in row or ada.key[3:46] in row for row in rows)


def test_strangers_see_only_their_own(adapters, browse, ada, stranger) -> None:
    mine = browse(compose(adapters).router, member=ada)
    theirs = browse(compose(adapters).router, member=stranger)
    key = mine.get("/keys").json()["items"][0]["id"]
    assert theirs.delete(f"/keys/{key}").status_code == 404
    assert [k["id"] for k in theirs.get("/keys").json()["items"]] != [key]


def test_bad_bodies_name_the_field_and_echo_nothing(http) -> None:
    answer = http.post("/keys", json={"name": "x", "scopes": ["rule"], "secret": "s3cret"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    fields = {fault["field"] for fault in answer.json()["errors"]}
    assert fields == {"scopes.0", "secret"}
    assert "s3cret" not in answer.text


def test_pages_follow_one_another(adapters, http, ada) -> None:
    accounts = compose(adapters).provider
    for n in range(5):
        accounts.make_key(ada.caller, KeyRequest(name=f"key {n}"))
    names, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        part = http.get("/keys", params=params).json()
        names += [k["name"] for k in part["items"]]
        cursor = part["next"]
        if cursor is None:
            break
    assert names == ["test"] + [f"key {n}" for n in range(5)]
    assert http.get("/keys", params={"cursor": "nonsense!"}).status_code == 422


def test_services_act_on_behalf_of_a_person(http, ada, adapters) -> None:
    secret = adapters.settings.service_secret.get_secret_value()
    headers = {
        "Authorization": f"Service {secret}",
        "Synthorax-Person": str(ada.caller.person),
        "Synthorax-Project": str(ada.caller.project),
    }
    assert http.get("/me", headers=headers).json()["person_name"] == "ada"
    headers["Authorization"] = "Service wrong"
    assert http.get("/me", headers=headers).status_code == 401


def test_health_needs_no_key(http) -> None:
    assert http.get("/health", headers={"Authorization": ""}).json() == {"status": "ok"}


def test_unknown_paths_are_problems(http) -> None:
    answer = http.get("/nowhere")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
