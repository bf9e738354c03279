"""A list asks the database as often for many rows as for one."""

from tests.counting import counted
from tests.gateway.everything import accepted_request, address, operations, things_of

ROWS = 6
A_FEW = 2
"""Queries that depend on what is in the rows and not on how many there are: what blocked jobs
wait for.
"""
MANY = {
    *("/keys", "/datasets", "/withdrawals", "/evaluations", "/exports", "/features", "/overlaps"),
    *("/qualities", "/generations", "/generators", "/experiments", "/scorings"),
}
"""Lists of what people make."""
ORDERS = {"/generations": "/generate"}


def test_no_list_asks_for_each_row(adapters, http, run, study) -> None:
    things = things_of(http, run, study)
    asked = {(verb, path): each for verb, path, each in operations(http.app)}
    for path in MANY:
        order = ORDERS.get(path, path)
        request = accepted_request(http.app, order, asked["POST", order], things)
        for _ in range(ROWS):
            answer = http.post(order, **request)
            assert answer.is_success, (order, answer.text)
    lists = [
        path
        for (verb, path), each in asked.items()
        if verb == "GET" and "limit" in {p["name"] for p in each.get("parameters", [])}
    ]
    assert set(lists) >= MANY
    for path in lists:
        place, numbers = address(path, things), []
        for limit in (1, 1000):
            with counted(adapters.db.engine) as queries:
                answer = http.get(place, params={"limit": limit})
            assert answer.status_code == 200, (path, answer.text)
            numbers.append(len(queries))
        rows = len(answer.json()["items"])
        assert path not in MANY or rows >= ROWS, path
        assert numbers[1] <= numbers[0] + A_FEW, (path, numbers, rows)
