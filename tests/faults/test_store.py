"""Rows 28 to 30: an object store that is busy or returns half of an object; a full disk."""

import pytest

from tests.faults.house import until


@pytest.mark.slow
def test_row_28_object_store_answers_503(house) -> None:
    house.worker(**house.through("store"))
    house.control()
    house.store.answer_503()
    job = house.submit({})
    until(lambda: house.slices(job)[0].attempts >= 2, "a second attempt")
    house.store.heal()
    house.finish(job)
    assert house.slices(job)[0].crashes == 0
    assert house.noted("drew") == [0]


def test_row_29_a_broken_off_body_is_never_served(house) -> None:
    house.worker()
    job = house.submit({})
    house.finish(job)
    url = house.web(**house.through("store"))
    with house.http(url) as http:
        whole = http.get(f"/orders/{job}/images/0")
        assert whole.status_code == 200
        house.store.truncate()
        broken = http.get(f"/orders/{job}/images/0")
        assert broken.status_code == 503
        assert broken.headers["content-type"] == "application/problem+json"
        house.store.heal()
        assert http.get(f"/orders/{job}/images/0").content == whole.content


def test_row_29_other_bytes_are_never_served(house) -> None:
    house.worker()
    job = house.submit({})
    house.finish(job)
    (image,) = house.query("SELECT key FROM stub.images")
    content = house.adapters.store.get(image.key)
    house.adapters.store.put(image.key, content[: len(content) // 2])
    with house.http(house.web()) as http:
        broken = http.get(f"/orders/{job}/images/0")
    assert broken.status_code == 500
    assert broken.json()["type"] == "urn:synthorax:problem:digest-mismatch"
    house.adapters.store.put(image.key, content)
