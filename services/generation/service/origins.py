"""What is known by now of the datasets that generators and cohorts were made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from api_schemas.datasets import DatasetView
from api_schemas.generation import GenerationView
from api_schemas.generators import GeneratorView
from api_schemas.provenance import SYNTHETIC_TRAINING
from api_schemas.terms import UNCHECKED, WITHDRAWN, Licence, strictest
from services.generation.ports.providers import Datasets
from services.generation.service.problems import NOT_FOUND
from services.kit.auth import Caller
from services.kit.errors import ProblemError, Unavailable

View = TypeVar("View", GeneratorView, GenerationView)


@dataclass(frozen=True)
class _Source:
    """A dataset, the version of its manifest that was used, and its licence as it was then.

    No dataset where nobody knows it: the training set of an imported generator. Nobody knows its
    licence then either.
    """

    dataset: UUID | None
    manifest: UUID | None
    licence: Licence


class Origins:
    """Adds to a view what only the datasets service can say. Ask it outside transactions."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets

    def of_generator(self, caller: Caller, view: GeneratorView) -> GeneratorView:
        """With the dataset's licence as it is now, and flags."""
        return self._with(caller, view, [_of(view)])

    def of_generation(
        self, caller: Caller, view: GenerationView, generator: GeneratorView
    ) -> GenerationView:
        """With the strictest licence of the generator's dataset and a mirrored one, and flags:
        of the data, and that a finished cohort is unscreened or uncalibrated.
        """
        sources = [_of(generator)]
        if view.mirror is not None:
            sources.append(_Source(view.mirror.dataset, view.mirror_manifest, view.licence))
        known = self._with(caller, view, sources)
        state = view.screening.state
        if view.manifest is None or state == "screened":
            return known
        return known.model_copy(update={"flags": sorted({*(known.flags or ()), state})})

    def _with(self, caller: Caller, view: View, sources: Sequence[_Source]) -> View:
        flags: set[str] = set()
        licences: list[Licence] = []
        for source in sources:
            try:
                now = self._look(caller, source)
            except Unavailable:
                now = None
                flags.add(UNCHECKED)
            licences.append(source.licence if now is None else now.licence)
            if now is not None and now.holds_synthetic:
                flags.add(SYNTHETIC_TRAINING)
            newest = now.manifest if now is not None else None
            if newest is not None and source.manifest not in {None, newest.id}:
                flags.add(WITHDRAWN)
        told = {"licence": strictest(licences), "flags": sorted(flags)}
        return view.model_copy(update=told)

    def _look(self, caller: Caller, source: _Source) -> DatasetView | None:
        """The dataset; None once it has been deleted, and where nobody knows which it is."""
        if source.dataset is None:
            return None
        try:
            return self._datasets.dataset(caller, source.dataset)
        except ProblemError as error:
            if error.problem.status != NOT_FOUND:
                raise
            return None


def _of(view: GeneratorView) -> _Source:
    manifest = view.training.manifest if view.training else None
    return _Source(view.dataset, manifest, view.licence)
