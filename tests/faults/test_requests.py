"""Rows 1 to 4: a request that is repeated, doubled, or whose process dies half way."""

from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

KEY = {"Idempotency-Key": "one"}


def post_to_the_dying(house, failpoint: str) -> None:
    """Send an order to a web process that is killed while it takes it."""
    url = house.web(fail=f"{failpoint}:kill")
    with house.http(url) as http, pytest.raises(httpx2.TransportError):
        http.post("/orders", json=house.order({}), headers=KEY)


def test_row_01_api_killed_before_the_commit(house) -> None:
    post_to_the_dying(house, "after_submit")
    assert house.query("SELECT id FROM jobs.jobs") == []
    with house.http(house.web()) as http:
        jobs = {
            house.accept(http.post("/orders", json=house.order({}), headers=KEY)) for _ in range(2)
        }
    assert {row.id for row in house.query("SELECT id FROM jobs.jobs")} == jobs
    assert len(jobs) == 1


def test_row_02_api_killed_between_commit_and_bell(house) -> None:
    house.control()
    post_to_the_dying(house, "before_bell")
    (row,) = house.query("SELECT id FROM jobs.jobs")
    house.accepted.append(row.id)
    with house.http(house.web()) as http:
        again = http.post("/orders", json=house.order({}), headers=KEY)
    assert again.json()["id"] == str(row.id)
    house.worker()
    house.finish(row.id)


def test_row_03_fifty_parallel_posts_with_one_key(house) -> None:
    urls = [house.web(), house.web(log_level="WARNING")]

    def post(number: int) -> httpx2.Response:
        with house.http(urls[number % 2]) as http:
            return http.post("/orders", json=house.order({}), headers=KEY)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(post, range(50)))
    assert {a.status_code for a in answers} <= {202, 409}
    made = {house.accept(a) for a in answers if a.status_code == 202}
    assert {row.id for row in house.query("SELECT id FROM jobs.jobs")} == made
    assert len(made) == 1


def test_row_04_the_same_key_with_another_body(house) -> None:
    with house.http(house.web()) as http:
        house.accept(http.post("/orders", json=house.order({}), headers=KEY))
        other = http.post("/orders", json=house.order({}, {}), headers=KEY)
    assert other.status_code == 422
    assert other.json()["field"] == "Idempotency-Key"
    assert len(house.query("SELECT id FROM jobs.jobs")) == 1
