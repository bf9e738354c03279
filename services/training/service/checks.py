"""What must hold of an experiment's data before anything trains. Each refusal names the count.

Knows samples as arrays; asks nobody for anything.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from api_schemas.arms import Arm
from api_schemas.base import DataRef, DatasetRef
from api_schemas.datasets import DatasetKind
from api_schemas.findings import FINDINGS, Finding
from api_schemas.generators import Seen
from api_schemas.provenance import ImageOrigins
from api_schemas.screening import UNSCREENED
from api_schemas.training import ClassifierSettings, ExperimentRequest, LabelPolicy
from services.kit.errors import Conflict, Unprocessable
from services.training.service.catalogue import Listed
from services.training.service.pools import selected
from services.training.service.power import FEWEST_PATIENTS
from services.training.service.presets import preset_field
from services.training.service.samples import (
    Labels,
    Rows,
    Samples,
    both_classes,
    columns,
    targets,
    truth,
)


class SizesDiffer(Unprocessable):
    slug = "sizes-differ"
    title = "The data of one experiment has one image size"


class ImagesTooSmall(Unprocessable):
    slug = "images-too-small"
    title = "The classifier's network does not fit images of this size"


class NoImages(Unprocessable):
    slug = "no-images"
    title = "A set has no images"


class LabelsUnusable(Unprocessable):
    slug = "labels-unusable"
    title = "AUROC needs images with and without a finding"


class CohortTooSmall(Unprocessable):
    slug = "cohort-too-small"
    title = "A cohort holds fewer images than an arm asks for"


class LeakageFound(Conflict):
    slug = "leakage-found"
    title = "Patients of an evaluation set have been seen in training"


PAPER_PX = 32
"""The stem of the preset `paper` and its three halvings leave one pixel of so many."""

MADE = frozenset({DatasetKind.SYNTHETIC, DatasetKind.MIXED})
"""Kinds of data with images that a generative model made."""

Sets = Mapping[str, tuple[DataRef, Rows]]
"""Training sources, or validation and test sets, by the field of the request they stand in."""


def one_size(listed: Sequence[Listed]) -> int | None:
    """The size all data has, None while no size is known yet; raises `SizesDiffer`."""
    known = [each for each in listed if each.size_px is not None]
    if not known:
        return None
    first = known[0]
    for other in known[1:]:
        if other.size_px != first.size_px:
            raise SizesDiffer(
                f"Images are {other.size_px} px here and {first.size_px} px in {first.field}",
                field=other.field,
                accepted=first.size_px,
            )
    return first.size_px


def large_enough(settings: ClassifierSettings, size_px: int) -> None:
    """Raises `ImagesTooSmall` when the last stage of the network would see less than a pixel."""
    if settings.preset == "paper" and size_px < PAPER_PX:
        raise ImagesTooSmall(
            f"The preset 'paper' takes {PAPER_PX} px or more, the images have {size_px}",
            field="classifier.preset",
            accepted=["fast"],
        )


def known_places(request: ExperimentRequest, samples: Mapping[DataRef, Samples]) -> None:
    """Raises `NoImages` for a site or fold that a source names and that its data does not have."""
    for i, arm in enumerate(request.arms or []):
        for j, stage in enumerate(arm.stages):
            for k, source in enumerate(stage.sources):
                if source.where is None or source.data not in samples:
                    continue
                held = samples[source.data]
                folds = [int(fold) for fold in np.unique(held.folds) if fold >= 0]
                sites = sorted(set(held.stated["site"].tolist()))
                asked = (("fold", source.where.fold, folds), ("site", source.where.site, sites))
                for name, wanted, there in asked:
                    if not set(wanted) <= set(there):
                        raise NoImages(
                            f"The data has no such {name}",
                            field=f"arms.{i}.stages.{j}.sources.{k}.where.{name}",
                            accepted=there,
                        )


def evaluation_sets(
    request: ExperimentRequest, samples: Mapping[DataRef, Samples]
) -> dict[str, tuple[DataRef, Rows]]:
    """The rows of validation and of every test set whose samples are known; raises `NoImages`."""
    tests = [(f"tests.{i}", test) for i, test in enumerate(request.tests)]
    found: dict[str, tuple[DataRef, Rows]] = {}
    for field, each in [("validation", request.validation), *tests]:
        if each.data not in samples:
            continue
        rows = samples[each.data].split(each.split)
        if not len(rows):
            raise NoImages(f"Split '{each.split}' of it is empty", field=f"{field}.split")
        found[field] = (each.data, rows)
    return found


@dataclass(frozen=True)
class Choice:
    """The one list of labels of an experiment, and what cannot be said with them.

    `left_out` gives the reason by label, `not_estimable` the labels that lack a class by test set.
    """

    labels: list[Finding]
    left_out: dict[Finding, str]
    not_estimable: dict[str, list[Finding]]


@dataclass(frozen=True)
class Taught:
    """What an arm's sources leave by `where` and `fraction`: which labels have an image with the
    finding and which one without, under the policy; how many images and patients are real.
    """

    positive: NDArray[np.bool_]
    negative: NDArray[np.bool_]
    images: int
    patients: int

    @property
    def both(self) -> NDArray[np.bool_]:
        return self.positive & self.negative


def taught(
    arms: Sequence[Arm], samples: Mapping[DataRef, Samples], policy: LabelPolicy
) -> dict[str, Taught]:
    """By arm, of those of which all samples are known."""
    found: dict[str, Taught] = {}
    known: dict[str, tuple[DataRef, Rows]] = {}
    for arm in arms:
        sources = [source for stage in arm.stages for source in stage.sources]
        if any(source.data not in samples for source in sources):
            continue
        parts: dict[str, tuple[DataRef, Rows]] = {}
        for source in sources:
            what = source.model_dump_json(exclude={"multiple", "shuffled"})
            if what not in known:
                known[what] = source.data, selected(samples[source.data], source)
            parts[what] = known[what]
        if not all(len(rows) for _, rows in parts.values()):
            continue  # it is refused for that
        told = [targets(samples[ref].labels[rows], policy) for ref, rows in parts.values()]
        real = [
            samples[ref].patients[rows]
            for ref, rows in parts.values()
            if isinstance(ref, DatasetRef)
        ]
        found[arm.name] = Taught(
            np.logical_or.reduce([(each == 1).any(axis=0) for each in told]),
            np.logical_or.reduce([(each == 0).any(axis=0) for each in told]),
            sum(map(len, real)),
            len(frozenset[str]().union(*(each.tolist() for each in real))),
        )
    return found


def thin_arms(arms: Mapping[str, Taught], labels: Sequence[Finding]) -> Iterator[str]:
    """Words for a report on arms that see only one class of a label, or real images of a handful
    of patients.
    """
    for name, arm in arms.items():
        lacking = [label for label in labels if not arm.both[FINDINGS.index(label)]]
        if lacking:
            yield (
                f"training: the images of '{name}' have only one class of {', '.join(lacking)}:"
                " what it says of that was not learnt"
            )
        if 0 < arm.patients < FEWEST_PATIENTS:
            yield (
                f"training: '{name}' has {arm.images} real image{'s' * (arm.images != 1)} of"
                f" {arm.patients} patient{'s' * (arm.patients != 1)}"
            )


def choose_labels(
    request: ExperimentRequest,
    samples: Mapping[DataRef, Samples],
    training: Sets,
    held: Sets,
    arms: Mapping[str, Taught],
    *,
    complete: bool = True,
) -> Choice:
    """The declared labels, or every label that has both classes in each training source (under
    the policy), in the images of each arm, and in some test set. A declared one needs them in some
    source, and every arm needs some of the labels.

    A test set that is not among `held` may have every label, and so may the training sources that
    are missing where `training` is not `complete`: what is refused then is refused for good, what
    is chosen is not.

    Where a test set lacks a class of a label, nothing can be estimated of it there: that is told.
    Validation only chooses checkpoints, by the labels it can: a rare finding that it lacks stays
    in the analysis. Raises `LabelsUnusable`.
    """
    usable = {
        field: both_classes(truth(samples[ref].labels[rows])) for field, (ref, rows) in held.items()
    }
    tests = {field: has for field, has in usable.items() if field != "validation"}
    every = np.ones(len(FINDINGS), dtype=np.bool_)
    somewhere = np.logical_or.reduce(
        [*tests.values()] if len(tests) == len(request.tests) else [every]
    )
    told = {
        field: targets(samples[ref].labels[rows], request.label_policy)
        for field, (ref, rows) in training.items()
    }
    if request.labels is not None:
        learnable = np.logical_or.reduce(
            [both_classes(source) for source in told.values()] if complete else [every]
        )
        labels, left_out = _declared(request.labels, learnable, somewhere), {}
    else:
        labels, left_out = _common(told, arms, somewhere)
    for name, arm in arms.items():
        if not arm.both[columns(labels)].any():
            raise LabelsUnusable(
                f"The images of '{name}' have both classes of none of the experiment's labels:"
                " select more of them, or leave the arm out",
                field=_field_of(request, name),
                accepted=[FINDINGS[place] for place in np.flatnonzero(arm.both)],
            )
    strangers = [f for f in request.plan.averaged or [] if f not in labels]
    if strangers:
        raise LabelsUnusable(
            f"Not among the labels that are trained: {', '.join(strangers)}",
            field="plan.averaged",
            accepted=list(labels),
        )
    for field, has in usable.items():
        if not has[columns(labels)].any():
            raise LabelsUnusable(
                "None of the experiment's labels has both classes in this set",
                field=field,
                accepted=list(labels),
            )
    lacking = {
        test.name: [f for f in labels if not tests[f"tests.{i}"][FINDINGS.index(f)]]
        for i, test in enumerate(request.tests)
        if f"tests.{i}" in tests
    }
    return Choice(labels, left_out, {name: some for name, some in lacking.items() if some})


def _declared(
    labels: list[Finding], learnable: NDArray[np.bool_], somewhere: NDArray[np.bool_]
) -> list[Finding]:
    for has, who in ((somewhere, "test set"), (learnable, "training source")):
        lacking = [label for label in labels if not has[FINDINGS.index(label)]]
        if lacking:
            raise LabelsUnusable(
                f"No {who} has both classes of: {', '.join(lacking)}",
                field="labels",
                accepted=[FINDINGS[place] for place in np.flatnonzero(somewhere & learnable)],
            )
    return labels


def _field_of(request: ExperimentRequest, arm: str) -> str:
    """Where an arm stands in a request."""
    names = [each.name for each in request.arms or []]
    return f"arms.{names.index(arm)}" if arm in names else "preset"


def _common(
    told: Mapping[str, Labels], arms: Mapping[str, Taught], somewhere: NDArray[np.bool_]
) -> tuple[list[Finding], dict[Finding, str]]:
    """All labels that can be learnt and estimated, and why each of the others is left out."""
    seen = [
        (who, there, lacking)
        for who, positive, negative in (
            *((field, (t == 1).any(axis=0), (t == 0).any(axis=0)) for field, t in told.items()),
            *((f"arm '{name}'", arm.positive, arm.negative) for name, arm in arms.items()),
        )
        for there, lacking in (
            (positive, "with it"),
            (negative, "without it, under the label policy"),
        )
    ]
    left_out: dict[Finding, str] = {}
    for who, there, lacking in seen:
        for place in np.flatnonzero(~there):
            left_out.setdefault(FINDINGS[place], f"{who} has no image {lacking}")
    for place in np.flatnonzero(~somewhere):
        left_out.setdefault(FINDINGS[place], "no test set has both classes")
    labels = [f for f in FINDINGS if f not in left_out]
    if not labels:
        raise LabelsUnusable(
            "No label has both classes in every training source, in every arm and in some test"
            f" set: {_most_told(left_out)}",
            field="labels",
        )
    return labels, left_out


def _most_told(left_out: Mapping[Finding, str]) -> str:
    """The reason that most labels have."""
    reasons = list(left_out.values())
    return max(reasons, key=reasons.count)


def no_shared_patients(samples: Mapping[DataRef, Samples], training: Sets, held: Sets) -> None:
    """No patient of a training source or of validation is in a set that is evaluated later.

    Raises `LeakageFound`; nothing waives this.
    """
    earlier = {field: _patients(samples, ref, rows) for field, (ref, rows) in training.items()}
    for field, (ref, rows) in held.items():
        mine = _patients(samples, ref, rows)
        for name, theirs in earlier.items():
            shared = len(mine & theirs)
            if shared:
                raise LeakageFound(
                    f"{shared} of its {len(mine)} patients are in {name} too",
                    field=field,
                    accepted="a set of other patients",
                )
        if field == "validation":
            earlier["validation"] = mine


def shared_pictures(
    samples: Mapping[DataRef, Samples], training: Sets, held: Sets
) -> Iterator[tuple[str, str]]:
    """(field, what is shared) for every evaluation set with pictures that an earlier set has too,
    pixel for pixel, under whatever patient.
    """
    earlier = {field: _pictures(samples, ref, rows) for field, (ref, rows) in training.items()}
    for field, (ref, rows) in held.items():
        mine = _pictures(samples, ref, rows)
        for name, theirs in earlier.items():
            shared = len(mine & theirs)
            if shared:
                yield field, f"{shared} of the {len(mine)} pictures are in {name} too"
        if field == "validation":
            earlier["validation"] = mine


def seen_by_generators(
    samples: Mapping[DataRef, Samples],
    held: Sets,
    seen: Mapping[UUID, Seen | None],
) -> Iterator[tuple[str, str]]:
    """(field, what was seen) for every evaluation set with patients or pictures that a generator
    saw. One of which nobody knows whom it saw may have seen everybody.
    """
    known = {g: s and (frozenset(s.patients), frozenset(s.images)) for g, s in seen.items()}
    for field, (ref, rows) in held.items():
        patients, pictures = _patients(samples, ref, rows), _pictures(samples, ref, rows)
        for generator, saw in known.items():
            if saw is None:
                yield field, f"generator {generator} saw nobody knows whom"
            elif shared := len(patients & saw[0]):
                yield field, f"generator {generator} saw {shared} of the {len(patients)} patients"
            elif shared := len(pictures & saw[1]):
                yield field, f"generator {generator} saw {shared} of the {len(pictures)} pictures"


def extension(request: ExperimentRequest) -> Iterator[str]:
    """Words for a report on an experiment that was designed after results had been seen."""
    if request.extends is not None:
        yield f"extended: it extends experiment {request.extends}, whose results were known"


def unscreened(listed: Iterable[Listed]) -> Iterator[str]:
    """Words for a report on every cohort in which nobody has looked for copies."""
    for each in listed:
        if UNSCREENED in each.flags:
            yield f"screening: {each.field} was not searched for copies of training images"


def made_elsewhere(
    request: ExperimentRequest,
    training: Sets,
    listed: Mapping[DataRef, Listed],
    known: Collection[UUID],
) -> Iterator[str]:
    """Words for a report on synthetic images that are trained on and came as a dataset, unless all
    name a generator of the project (`known`).
    """
    as_synthetic = dict.fromkeys(each.synthetic for each in request.preset or ())
    for ref, _ in training.values():
        if not isinstance(ref, DatasetRef):
            continue
        synthetic = ref in as_synthetic or listed[ref].kind in MADE
        if synthetic and not _is_known_by(listed[ref].origins, known):
            yield (
                f"origin: {listed[ref].field} was made elsewhere. Nobody knows whose images its"
                " generator saw, or whether it holds copies of them"
            )


def _is_known_by(origins: ImageOrigins | None, known: Collection[UUID]) -> bool:
    if origins is None or not origins.generators or origins.generators_unnamed:
        return False
    return set(origins.generators) <= set(known)


def synthetic_in_place_of_real(
    request: ExperimentRequest, held: Sets, listed: Mapping[DataRef, Listed]
) -> Iterator[str]:
    """Words for a report on synthetic images that stand where a reader expects patients: in
    validation, in a test set, and as what a preset calls real.
    """
    presets = request.preset or []
    real = [
        (f"{preset_field(presets, n)}.real", preset.real, "training on real images")
        for n, preset in enumerate(presets)
    ]
    evaluated = [(field, ref, "what is measured there") for field, (ref, _) in held.items()]
    for field, ref, what in [*real, *evaluated]:
        each = listed[ref]
        if each.kind not in MADE:
            continue
        origins = each.origins
        count = f"{origins.synthetic} of {origins.images}" if origins else "all"
        yield (
            f"synthetic: {field} holds synthetic images ({count}); {what} is not, or not only, of"
            " patients"
        )


def shared_with_generators(
    samples: Mapping[DataRef, Samples],
    training: Sets,
    makers: Mapping[str, Collection[UUID]],
    seen: Mapping[UUID, Seen | None],
) -> Iterator[str]:
    """Words for a report on evaluation sets that a generator made (`makers`, by field) which was
    trained on patients whom the classifiers are trained on: there such a classifier does better
    than on strangers.
    """
    trained = frozenset[str]().union(
        *(_patients(samples, ref, rows) for ref, rows in training.values())
    )
    for field, generators in makers.items():
        for generator in sorted(generators):
            saw = seen[generator]
            if saw is not None and (shared := len(trained & set(saw.patients))):
                yield (
                    f"generator: {field} was made by generator {generator}, which was trained on"
                    f" {shared} of the patients whom the classifiers are trained on. On its images"
                    " they do better than on those of a generator trained on other patients"
                )


def _patients(samples: Mapping[DataRef, Samples], ref: DataRef, rows: Rows) -> frozenset[str]:
    return frozenset(samples[ref].patients[rows].tolist())


def _pictures(samples: Mapping[DataRef, Samples], ref: DataRef, rows: Rows) -> frozenset[str]:
    return frozenset(samples[ref].pixels[rows].tolist())
