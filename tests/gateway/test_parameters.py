"""A filter that a route does not have is refused: nobody takes an answer for that to another
question.
"""

import re

from tests.gateway.everything import GONE, operations


def test_every_route_refuses_a_parameter_that_it_does_not_have(http) -> None:
    for verb, path, operation in operations(http.app):
        place = re.sub(r"{\w+}", GONE, path)
        answer = http.request(verb, place, params={"favourite": "x", "site_name": "y"})
        assert answer.status_code == 422, (verb, path, answer.text)
        problem = answer.json()
        named = [fault["field"] for fault in problem["errors"]]
        assert named == ["favourite", "site_name"], (verb, path)
        query = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
        assert problem["accepted"] == (", ".join(sorted(query)) or "none"), (verb, path)


def test_a_list_says_which_filters_it_has(http) -> None:
    problem = http.get("/datasets", params={"name": "CheXpert"}).json()
    assert (problem["field"], problem["accepted"]) == ("name", "cursor, limit")
    assert "CheXpert" not in str(problem)
