"""Who the phantoms are: demographics, findings and labels of a made-up hospital's patients."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from api_schemas.findings import (
    ABSENT,
    FINDINGS,
    PRESENT,
    UNCERTAIN,
    Finding,
    Race,
    Sex,
    View,
)
from api_schemas.imports import PhantomSite

BLANK_SHARE = 0.05
UNCERTAIN_SHARE = 0.03
STAYS = 0.92
"""Chance that a finding of the patient shows on each image after the first."""
DEMOGRAPHICS_STREAM = 0
YOUNGEST, OLDEST = 18, 95

Label = Literal[1, 0, -1] | None
PATHOLOGIES: tuple[Finding, ...] = tuple(
    f for f in FINDINGS if f not in {Finding.NO_FINDING, Finding.SUPPORT_DEVICES}
)


@dataclass(frozen=True)
class Hospital:
    """The patient mix of a site.

    `prevalence` is the chance of a finding in a patient who is not healthy, at the site's mean
    age.
    """

    number: int
    mean_age: float
    age_spread: float
    female: float
    race: tuple[float, float, float, float, float]
    anteroposterior: float
    healthy: float
    devices: float
    prevalence: Mapping[Finding, float]


def _prevalences(base: float, **shifted: float) -> dict[Finding, float]:
    return {f: shifted.get(f.name, base) for f in PATHOLOGIES}


HOSPITALS: Mapping[PhantomSite, Hospital] = {
    PhantomSite.A: Hospital(
        number=0,
        mean_age=60.0,
        age_spread=16.0,
        female=0.45,
        race=(0.12, 0.16, 0.44, 0.12, 0.16),
        anteroposterior=0.6,
        healthy=0.24,
        devices=0.36,
        prevalence=_prevalences(
            0.22, PLEURAL_EFFUSION=0.36, LUNG_OPACITY=0.30, EDEMA=0.30, ATELECTASIS=0.27
        ),
    ),
    PhantomSite.B: Hospital(
        number=1,
        mean_age=66.0,
        age_spread=13.0,
        female=0.52,
        race=(0.10, 0.22, 0.42, 0.10, 0.16),
        anteroposterior=0.75,
        healthy=0.18,
        devices=0.44,
        prevalence=_prevalences(
            0.21, CARDIOMEGALY=0.36, EDEMA=0.36, PNEUMONIA=0.30, PLEURAL_EFFUSION=0.30
        ),
    ),
    PhantomSite.C: Hospital(
        number=2,
        mean_age=51.0,
        age_spread=18.0,
        female=0.58,
        race=(0.10, 0.42, 0.24, 0.10, 0.14),
        anteroposterior=0.4,
        healthy=0.32,
        devices=0.24,
        prevalence=_prevalences(
            0.22, PNEUMOTHORAX=0.30, FRACTURE=0.28, PNEUMONIA=0.34, LUNG_LESION=0.28
        ),
    ),
}

WITH_AGE: Mapping[Finding, float] = {
    Finding.CARDIOMEGALY: 0.25,
    Finding.EDEMA: 0.2,
    Finding.PLEURAL_EFFUSION: 0.2,
    Finding.LUNG_LESION: 0.2,
    Finding.FRACTURE: -0.15,
    Finding.PNEUMOTHORAX: -0.2,
}
"""Change of the log odds of a finding per decade of age over the site's mean."""


@dataclass(frozen=True)
class PhantomSample:
    """One phantom image before it is drawn.

    `labels` is what a reader would have noted (some blank, some uncertain); `truth` is what is
    drawn. `patient` and `image` count from 0 and, with `site` and `seed`, determine every pixel.
    """

    site: PhantomSite
    seed: int
    patient: int
    image: int
    patient_id: str
    age: int
    sex: Sex
    race: Race
    view: View
    labels: Mapping[Finding, Label]
    truth: frozenset[Finding]


def stream(sample_site: PhantomSite, seed: int, *key: int) -> np.random.Generator:
    """The random numbers of one purpose (`key`) of one site and seed, independent of others."""
    spawn = (HOSPITALS[sample_site].number, *key)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=spawn))


def population(site: PhantomSite, patients: int, seed: int) -> list[PhantomSample]:
    """The images of the first `patients` patients of a site, 1 to 6 each, in patient order."""
    return [sample for index in range(patients) for sample in patient(site, index, seed)]


def patient(site: PhantomSite, index: int, seed: int) -> list[PhantomSample]:
    """All images of one patient."""
    hospital = HOSPITALS[site]
    rng = stream(site, seed, DEMOGRAPHICS_STREAM, index)
    age = int(np.clip(rng.normal(hospital.mean_age, hospital.age_spread), YOUNGEST, OLDEST))
    sex = Sex.FEMALE if rng.random() < hospital.female else Sex.MALE
    race = tuple(Race)[int(np.searchsorted(np.cumsum(hospital.race)[:-1], rng.random(), "right"))]
    has = _findings(hospital, age, rng)
    first = PhantomSample(
        site=site,
        seed=seed,
        patient=index,
        image=0,
        patient_id=f"{site}-{seed}-{index:06d}",
        age=age,
        sex=sex,
        race=race,
        view=View.AP,
        labels={},
        truth=has,
    )
    return [_image(first, number, rng) for number in range(_images(rng))]


def _images(rng: np.random.Generator) -> int:
    return int(np.searchsorted((0.5, 0.75, 0.87, 0.94, 0.98), rng.random(), "right")) + 1


def _findings(hospital: Hospital, age: int, rng: np.random.Generator) -> frozenset[Finding]:
    healthy = rng.random() < hospital.healthy
    chances = rng.random(len(PATHOLOGIES))
    device = rng.random() < hospital.devices * (0.6 if healthy else 1.0)
    has = {
        finding
        for finding, chance in zip(PATHOLOGIES, chances, strict=True)
        if not healthy and chance < _risk(hospital, finding, age)
    }
    return frozenset(has | ({Finding.SUPPORT_DEVICES} if device else set()))


def _risk(hospital: Hospital, finding: Finding, age: int) -> float:
    p = hospital.prevalence[finding]
    shift = WITH_AGE.get(finding, 0.0) * (age - hospital.mean_age) / 10
    odds = p / (1 - p) * float(np.exp(shift))
    return odds / (1 + odds)


def _image(first: PhantomSample, number: int, rng: np.random.Generator) -> PhantomSample:
    """Image `number` of the patient of `first`: a view, what shows on it, what was noted."""
    ap = rng.random() < HOSPITALS[first.site].anteroposterior
    stays = rng.random(len(FINDINGS)) < STAYS
    fate = rng.random(len(FINDINGS))
    shown = {
        f
        for f, kept in zip(FINDINGS, stays, strict=True)
        if f in first.truth and (kept or not number)
    }
    if not shown - {Finding.SUPPORT_DEVICES}:
        shown.add(Finding.NO_FINDING)
    return replace(
        first,
        image=number,
        view=View.AP if ap else View.PA,
        labels={f: _label(f in shown, u) for f, u in zip(FINDINGS, fate, strict=True)},
        truth=frozenset(shown),
    )


def _label(present: bool, fate: float) -> Label:
    if fate < BLANK_SHARE:
        return None
    if fate < BLANK_SHARE + UNCERTAIN_SHARE:
        return UNCERTAIN
    return PRESENT if present else ABSENT
