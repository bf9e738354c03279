"""Rows 31 and 32: one person cannot take the house from the others, nor fill it without end."""

from uuid import UUID

from services.kit.jobs import Lease
from services.kit.worker import runner
from tests.faults.house import House


def serve(house: House, slots: int) -> list[UUID]:
    """Whose slices ran, in order, in so many slots of one worker in this process."""
    order: list[UUID] = []

    def handler(lease: Lease) -> None:
        order.append(lease.caller.person)
        with lease.finishing():
            pass

    worker = runner(house.adapters, "stub", "stub", {"quick": handler})
    for _ in range(slots):
        assert worker.run_one()
    return order


def test_row_31_five_hundred_against_one(house) -> None:
    many = house.caller
    for _ in range(500):
        house.submit({}, kind="quick")
    assert set(serve(house, 5)) == {many.person}
    one = house.enrol("bob")
    job = house.submit({}, caller=one, kind="quick")
    assert one.person in serve(house, 2)
    house.finish(job)


def test_row_31_five_hundred_slices_of_one_job(house) -> None:
    house.submit(*[{}] * 500, kind="quick")
    serve(house, 5)
    one = house.enrol("bob")
    house.submit({}, caller=one, kind="quick")
    assert one.person in serve(house, 2)


def test_row_32_over_the_queued_cap(house) -> None:
    url = house.web(queued_cap=3)
    with house.http(url) as http:
        for _ in range(3):
            house.accept(http.post("/orders", json=house.order({})))
        refused = http.post("/orders", json=house.order({}))
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.headers["content-type"] == "application/problem+json"
        assert "at most 3" in refused.json()["accepted"]
        http.post(f"/orders/{house.accepted[0]}/cancel")
        house.accept(http.post("/orders", json=house.order({})))
    house.enrol("bob")
    with house.http(url) as other:
        house.accept(other.post("/orders", json=house.order({})))
