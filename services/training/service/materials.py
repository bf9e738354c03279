"""What a run is made of: samples of its sources, and their pixels from the packed cache."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from api_schemas.arms import Arm, Stage
from api_schemas.base import DataRef, EvaluationSplit
from api_schemas.training import ClassifierSettings, ExperimentRequest, LabelPolicy
from services.kit.auth import Caller
from services.kit.errors import Conflict, Unprocessable
from services.kit.objects import DigestMismatch, ObjectMissing, ObjectStore
from services.training.ports.engine import (
    ImageMismatchError,
    PackedSources,
    Part,
    Pixels,
    RunSpec,
    StageSpec,
)
from services.training.service.arms import expand
from services.training.service.blueprint import ArmBlueprint, Blueprint
from services.training.service.catalogue import Catalogue, ref_key
from services.training.service.pools import pool
from services.training.service.pretrained import PretrainedFiles
from services.training.service.samples import (
    Labels,
    Rows,
    Samples,
    columns,
    listing,
    read_samples,
    shuffled,
    targets,
    truth,
)

MANIFESTS_KEPT = 8
VALIDATIONS = 20
"""At most so many in a `fast` run whose request does not say how often."""


class ManifestChanged(Conflict):
    slug = "manifest-changed"
    title = "The data is no longer what the experiment was planned on"


class ImageDamaged(Unprocessable):
    slug = "image-damaged"
    title = "An image is missing or is not what its manifest says"


@dataclass(frozen=True)
class Held:
    """Some split of some data: its rows, and their pixels in the same order."""

    samples: Samples
    rows: Rows
    pixels: Pixels

    @property
    def labels(self) -> Labels:
        return self.samples.labels[self.rows]

    @property
    def everything(self) -> Rows:
        """Every place in `pixels`."""
        return np.arange(len(self.rows))


class Materials:
    """Reads manifests and images for runs; keeps a few manifests in memory."""

    def __init__(
        self,
        catalogue: Catalogue,
        store: ObjectStore,
        packed: PackedSources,
        pretrained: PretrainedFiles,
    ) -> None:
        self.pretrained = pretrained
        self._catalogue = catalogue
        self._store = store
        self._packed = packed
        self._samples: OrderedDict[str, Samples] = OrderedDict()

    def held(
        self,
        caller: Caller,
        blueprint: Blueprint,
        ref: DataRef,
        split: EvaluationSplit,
        between: Callable[[], None],
    ) -> Held:
        """`between` is called between images and may raise to stop."""
        samples = self._read(caller, blueprint, ref)
        rows = samples.split(split)
        digest = blueprint.manifests[ref_key(ref)]

        def read(place: int) -> bytes:
            between()
            row = int(rows[place])
            try:
                return self._store.get(samples.keys[row], samples.digests[row])
            except (ObjectMissing, DigestMismatch) as error:
                raise ImageDamaged(f"Sample {samples.ids[row]} of {ref_key(ref)}") from error

        name = f"{digest}-{split}-{blueprint.size_px}"
        try:
            pixels = self._packed.open(name, len(rows), blueprint.size_px, read)
        except ImageMismatchError as error:
            raise ImageDamaged(f"In {ref_key(ref)} {error}") from error
        return Held(samples, rows, pixels)

    def _read(self, caller: Caller, blueprint: Blueprint, ref: DataRef) -> Samples:
        """The samples that were planned on; asks each time whether they still are the data's, for
        a patient may have been withdrawn.
        """
        planned = blueprint.manifests[ref_key(ref)]
        if self._catalogue.look(caller, ref, ref_key(ref)).digest != planned:
            raise ManifestChanged(f"{ref_key(ref)} has another manifest than was planned on")
        if planned not in self._samples:
            self._samples[planned] = read_samples(self._catalogue.manifest(caller, ref))
        self._samples.move_to_end(planned)
        while len(self._samples) > MANIFESTS_KEPT:
            self._samples.popitem(last=False)
        return self._samples[planned]


def run_spec(
    request: ExperimentRequest,
    blueprint: Blueprint,
    arm_name: str,
    seed: int,
    held: Callable[[DataRef, EvaluationSplit], Held],
    pretrained: PretrainedFiles,
) -> RunSpec:
    """One run, ready for the engine. A function of the blueprint and the manifests alone."""
    arm = next(arm for arm in expand(request) if arm.name == arm_name)
    planned = blueprint.arms[arm_name]
    settings = request.classifier
    places = columns(blueprint.labels)
    sources = {
        source.data: held(source.data, "train") for stage in arm.stages for source in stage.sources
    }
    validation = held(request.validation.data, request.validation.split)
    stages = _stages(arm, planned, sources, blueprint, request.label_policy, seed)
    return RunSpec(
        labels=tuple(blueprint.labels),
        size_px=blueprint.size_px,
        seed=seed,
        stages=stages,
        validation=Part(
            validation.pixels,
            validation.everything,
            truth(validation.labels)[:, places],
        ),
        preset=settings.preset,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        validate_every=cadence(settings, sum(planned.steps)),
        early_stopping=settings.early_stopping,
        keep=settings.keep,
        keep_from=settings.keep_from or 0.0,
        monitor=settings.monitor or "loss",
        precision=settings.precision,
        positive_weights=balanced(stages) if settings.class_weights == "balanced" else None,
        pretrained=settings.pretrained and pretrained.weights(settings.pretrained),
    )


def cadence(settings: ClassifierSettings, steps: int) -> int:
    """Steps between two validations of a run. Arms of as many steps validate as often."""
    if settings.validate_every is not None:
        return settings.validate_every
    validations = VALIDATIONS if settings.preset == "fast" else max(1, round(settings.epochs))
    return ceil(steps / validations)


def balanced(stages: Sequence[StageSpec]) -> tuple[float, ...]:
    """Negatives a positive, by label, as far as they are known in all that a run trains on; 1
    where a class is missing.
    """
    parts = [part.targets for stage in stages for part in stage.parts]
    positives = sum((told == 1).sum(axis=0) for told in parts)
    negatives = sum((told == 0).sum(axis=0) for told in parts)
    both = zip(np.atleast_1d(positives).tolist(), np.atleast_1d(negatives).tolist(), strict=True)
    return tuple(n / p if n and p else 1.0 for p, n in both)


def _stages(
    arm: Arm,
    planned: ArmBlueprint,
    sources: Mapping[DataRef, Held],
    blueprint: Blueprint,
    policy: LabelPolicy,
    seed: int,
) -> tuple[StageSpec, ...]:
    return tuple(
        StageSpec(_parts(stage, number, listed, sources, blueprint, policy, seed), steps)
        for number, (stage, listed, steps) in enumerate(
            zip(arm.stages, planned.listed, planned.steps, strict=True)
        )
    )


def _parts(
    stage: Stage,
    number: int,
    listed: list[int],
    sources: Mapping[DataRef, Held],
    blueprint: Blueprint,
    policy: LabelPolicy,
    seed: int,
) -> tuple[Part, ...]:
    parts: list[Part] = []
    for place, (source, count) in enumerate(zip(stage.sources, listed, strict=True)):
        held = sources[source.data]
        rows = listing(pool(held.samples, source), count)
        told = targets(held.labels, policy)[rows][:, columns(blueprint.labels)]
        if source.shuffled:
            told = shuffled(told, seed, number, place)
        parts.append(Part(held.pixels, rows, told))
    return tuple(parts)
