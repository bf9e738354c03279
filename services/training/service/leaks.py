"""What a trained classifier has seen of some data: itself, or through a generator."""

from collections.abc import Iterator
from uuid import UUID

from api_schemas.base import DataRef, EvaluationSplit
from api_schemas.training import Arm, ExperimentRequest
from services.kit.auth import Caller
from services.kit.errors import Conflict, NotFound
from services.training.models import Classifier, Experiment
from services.training.service import checks
from services.training.service.arms import sources
from services.training.service.catalogue import Catalogue, Listed
from services.training.service.samples import Rows, Samples, read_samples


class Leaks:
    """Looks up everything that an arm was trained on and chosen by."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def of(
        self,
        caller: Caller,
        classifier: Classifier,
        experiment: Experiment,
        samples: Samples,
        rows: Rows,
    ) -> Iterator[str]:
        """In words and with counts, what had been seen of `rows`. Data that is gone may have held
        anybody.
        """
        generators: set[UUID] = set()
        for ref, split, what in _seen_by(classifier, experiment):
            try:
                listed = self._catalogue.look(caller, ref, "classifier")
                theirs = read_samples(self._catalogue.manifest(caller, ref))
            except (NotFound, Conflict):
                yield f"{what} is gone: nobody knows whom it held"
                continue
            yield from _shared(samples, rows, theirs, theirs.split(split), what)
            generators |= self._catalogue.generators(caller, [listed])
        yield from self._through_generators(caller, generators, samples, rows)

    def shared_with_generator(
        self, caller: Caller, classifier: Classifier, experiment: Experiment, listed: Listed
    ) -> Iterator[str]:
        """In words, what the classifier and a generator that made the images have both been
        trained on. It leaks nothing of a patient in the data, for there is none, and is not
        refused; but such images look familiar to such a classifier.
        """
        generators = self._catalogue.generators(caller, [listed])
        saw = {each: self._catalogue.seen(caller, each) for each in sorted(generators)}
        trained: set[str] = set()
        behind: set[UUID] = set()
        for ref, split, _ in _seen_by(classifier, experiment):
            try:
                source = self._catalogue.look(caller, ref, "classifier")
                theirs = read_samples(self._catalogue.manifest(caller, ref))
            except (NotFound, Conflict):
                continue  # told as data that is gone
            trained |= set(theirs.patients[theirs.split(split)].tolist())
            behind |= self._catalogue.generators(caller, [source])
        for generator, seen in saw.items():
            if seen is None:
                yield f"nobody knows whom generator {generator}, which made it, was trained on"
            elif shared := len(trained & set(seen.patients)):
                yield (
                    f"generator {generator}, which made it, and the classifier were trained on the"
                    f" same {shared} patients"
                )
            elif generator in behind:
                yield f"the classifier was trained on other images of generator {generator}"

    def _through_generators(
        self, caller: Caller, generators: set[UUID], samples: Samples, rows: Rows
    ) -> Iterator[str]:
        saw = {each: self._catalogue.seen(caller, each) for each in sorted(generators)}
        mine, pictures = _distinct(samples, rows)
        for generator, seen in saw.items():
            if seen is None:
                yield f"generator {generator} saw nobody knows whom"
            elif shared := len(mine & set(seen.patients)):
                yield f"generator {generator} saw {shared} of the {len(mine)} patients"
            elif shared := len(pictures & set(seen.images)):
                yield f"generator {generator} saw {shared} of the {len(pictures)} pictures"


def _seen_by(
    classifier: Classifier, experiment: Experiment
) -> Iterator[tuple[DataRef, EvaluationSplit, str]]:
    """The data behind a classifier, each once: its arm's sources, and what it was chosen by."""
    arms = [Arm.model_validate(each) for each in experiment.arms]
    request = ExperimentRequest.model_validate(experiment.request)
    trained = [each for each in arms if each.name == classifier.arm]
    refs = dict.fromkeys(source.data for source in sources(trained))
    for number, ref in enumerate(refs, 1):
        yield ref, "train", f"training source {number}"
    yield request.validation.data, request.validation.split, "its validation set"


def _shared(
    samples: Samples, rows: Rows, theirs: Samples, their_rows: Rows, what: str
) -> Iterator[str]:
    mine, pictures = _distinct(samples, rows)
    seen, seen_pictures = _distinct(theirs, their_rows)
    if shared := len(mine & seen):
        yield f"{shared} of the {len(mine)} patients are in {what}"
    elif shared := len(pictures & seen_pictures):
        yield f"{shared} of the {len(pictures)} pictures are in {what}"


def _distinct(samples: Samples, rows: Rows) -> tuple[set[str], set[str]]:
    return set(samples.patients[rows].tolist()), set(samples.pixels[rows].tolist())


def refuse(found: list[str]) -> None:
    """Raises `LeakageFound` (409) naming the first count."""
    if found:
        raise checks.LeakageFound(
            f"Of this data, {found[0]}", field="data", accepted='{"allow_leakage": true}'
        )
