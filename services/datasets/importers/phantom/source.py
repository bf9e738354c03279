"""The phantom population as a source of samples."""

import json
from collections.abc import Iterator, Sequence

from api_schemas.imports import PhantomImport
from services.datasets.importers.images import picture
from services.datasets.importers.phantom.drawing import draw
from services.datasets.importers.phantom.population import PhantomSample, patient
from services.datasets.importers.source import Decoders, Entry, Picture

DRAWN_AT_ONCE = 32
STATEMENT = "Drawn chest X-ray phantom: no patient, no radiograph."


class PhantomSource:
    """Patients of one phantom site; a place is `seed/patient/image`."""

    def __init__(self, request: PhantomImport) -> None:
        self._request = request

    def entries(self, decoders: Decoders) -> Iterator[Entry]:  # noqa: ARG002 - nothing to decode
        line = 0
        for index in range(self._request.patients):
            for sample in patient(self._request.site, index, self._request.seed):
                line += 1
                yield Entry(
                    line=line,
                    place=f"{self._request.seed}/{sample.patient}/{sample.image}",
                    patient=sample.patient_id,
                    age=sample.age,
                    sex=sample.sex,
                    race=sample.race,
                    view=sample.view,
                    labels=sample.labels,
                )

    def pictures(self, places: Sequence[str], decoders: Decoders) -> Iterator[Picture]:  # noqa: ARG002 - likewise
        text = self._inscription()
        for i in range(0, len(places), DRAWN_AT_ONCE):
            samples = [self._sample(place) for place in places[i : i + DRAWN_AT_ONCE]]
            for pixels in draw(samples, self._request.size_px):
                yield picture(pixels, text)

    def remarks(self) -> list[str]:
        return [STATEMENT]

    def _inscription(self) -> dict[str, str]:
        told = {
            "phantom": True,
            "synthetic": False,
            "site": self._request.site,
            "seed": self._request.seed,
            "statement": STATEMENT,
        }
        return {"synthorax": json.dumps(told, sort_keys=True)}

    def _sample(self, place: str) -> PhantomSample:
        _, index, image = (int(part) for part in place.split("/"))
        return patient(self._request.site, index, self._request.seed)[image]
