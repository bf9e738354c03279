"""A report keeps its numbers and loses its images when a patient leaves their data."""

from typing import Any

import pytest

from api_schemas.terms import Licence
from services.evaluation.reports.page import render

IMAGE = "data:image/png;base64,"


@pytest.fixture
def shown(registered, send_all, evaluate, shelf, ada, data) -> dict[str, Any]:
    """A plan whose report shows images of the dataset `data`."""
    sheet = {"real": {"dataset": str(data)}, "synthetic": None}
    made = registered(contact_sheet=sheet)
    send_all(made["id"])
    assert evaluate(render) == 1
    return made


def change(shelf, data, **update: Any) -> None:
    caller, view, table = shelf.datasets[data]
    shelf.datasets[data] = (caller, view.model_copy(update=update), table)


def withdraw(shelf, data) -> None:
    manifest = shelf.datasets[data][1].manifest
    change(shelf, data, manifest=manifest.model_copy(update={"digest": "8" * 64}))


def test_a_withdrawn_patients_images_leave_the_report_and_the_store(
    http, shown, shelf, data, adapters, ada
) -> None:
    where = f"/reports/{shown['experiment']}"
    before = http.get(where).text
    assert before.count(IMAGE) == 12
    assert http.get(where).text == before
    withdraw(shelf, data)
    after = http.get(where)
    assert after.status_code == 200
    assert IMAGE not in after.text
    assert "The images were taken out" in after.text
    assert after.text.startswith(before.split("<!-- images -->")[0])
    assert after.text.endswith(before.split("<!-- /images -->")[1])
    assert http.get(where).text == after.text
    folder = f"projects/{ada.caller.project}/plans/{shown['id']}/reports/"
    stored = [adapters.store.get(key).decode() for key in adapters.store.keys(folder)]
    assert stored == [after.text]


def test_deleted_data_takes_its_images_along(http, shown, shelf, data) -> None:
    del shelf.datasets[data]
    assert IMAGE not in http.get(f"/reports/{shown['experiment']}").text


def test_the_report_says_what_the_strictest_terms_are(
    registered, send_all, evaluate, shelf, data, http
) -> None:
    change(shelf, data, licence=Licence(name="Agreement", may_share_derived=False))
    made = registered()
    send_all(made["id"])
    evaluate(render)
    page = http.get(f"/reports/{made['experiment']}").text
    assert "Agreement. Images: nobody has said." in page
    assert "this report included: may not be passed on." in page
