"""What is known by now of the data behind experiments and classifiers."""

from collections.abc import Mapping

from api_schemas.screening import WITHHELD
from api_schemas.terms import UNCHECKED, WITHDRAWN, Licence, strictest
from api_schemas.training import ClassifierView, ExperimentView
from services.kit.auth import Caller
from services.kit.errors import Conflict, NotFound, Unavailable
from services.training.service.catalogue import Catalogue, ref_of


class Origins:
    """Adds to a view what only the makers of the data can say. Ask it outside transactions."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def of_experiment(
        self, caller: Caller, view: ExperimentView, manifests: Mapping[str, str]
    ) -> ExperimentView:
        """`manifests` are the digests it was planned on, by reference."""
        licence, flags = self._look(caller, manifests)
        return view.model_copy(update={"licence": licence, "flags": flags})

    def of_classifier(
        self, caller: Caller, view: ClassifierView, manifests: Mapping[str, str]
    ) -> ClassifierView:
        licence, flags = self._look(caller, manifests)
        return view.model_copy(update={"licence": licence, "flags": flags})

    def _look(self, caller: Caller, manifests: Mapping[str, str]) -> tuple[Licence, list[str]]:
        flags: set[str] = set()
        licences: list[Licence] = []
        for key, planned in manifests.items():
            try:
                listed = self._catalogue.look(caller, ref_of(key), key)
            except (NotFound, Conflict):
                continue  # deleted since: nobody can ask
            except Unavailable:
                flags.add(UNCHECKED)
                continue
            licences.append(listed.licence)
            flags.update(listed.flags)
            if listed.digest != planned:
                flags.add(WITHDRAWN if listed.generator is None else WITHHELD)
        return strictest(licences), sorted(flags)
