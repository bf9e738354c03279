"""What each regime expands to, and how regimes share one study."""

from typing import Any
from uuid import UUID

import pytest
from pydantic import TypeAdapter, ValidationError

from api_schemas.arms import Arm, Presets, Source
from api_schemas.base import DatasetRef, GenerationRef
from services.training.service.presets import (
    ArmsClash,
    expand_presets,
    primary_of,
    reference_of,
)

REAL = DatasetRef(dataset=UUID(int=1))
OTHER = DatasetRef(dataset=UUID(int=2))
COHORT = GenerationRef(generation=UUID(int=3))
BOTH = {"real": REAL, "synthetic": COHORT, "ratios": [1, 3]}


def presets(*asked: dict[str, Any]) -> Any:
    return TypeAdapter(Presets).validate_python(list(asked))


def expanded(*asked: dict[str, Any]) -> dict[str, Arm]:
    return {arm.name: arm for arm in expand_presets(presets(*asked))}


def sources(arm: Arm) -> list[list[Source]]:
    return [stage.sources for stage in arm.stages]


def synthetic(k: float, **more: Any) -> Source:
    return Source(data=COHORT, multiple=k, **more)


def test_supplement_is_the_paper_with_its_controls() -> None:
    arms = expanded({"name": "supplement", **BOTH})
    assert list(arms) == [
        "real",
        "real_equal_steps",
        "real+100%",
        "real+300%",
        "synthetic_only",
        "shuffled",
    ]
    assert [a.name for a in arms.values() if a.schedule == "own"] == ["real"]
    real = Source(data=REAL)
    assert sources(arms["real"]) == sources(arms["real_equal_steps"]) == [[real]]
    assert sources(arms["real+300%"]) == [[real, synthetic(3)]]
    assert sources(arms["synthetic_only"]) == [[synthetic(3)]]
    assert sources(arms["shuffled"]) == [[real, synthetic(3, shuffled=True)]]


def test_no_synthetic_images_is_the_reference_itself() -> None:
    asked = {"name": "supplement", **BOTH, "ratios": [0, 0.25]}
    arms = expanded(asked)
    assert [name for name in arms if "%" in name] == ["real+25%"]
    (preset,) = presets(asked)
    assert (reference_of(preset), primary_of(preset)) == ("real_equal_steps", "real+25%")


def test_synthetic_only_has_no_real_image() -> None:
    arms = expanded({"name": "synthetic_only", **BOTH})
    assert list(arms) == ["real", "real_equal_steps", "synthetic_100%", "synthetic_300%"]
    assert sources(arms["synthetic_300%"]) == [[synthetic(3)]]


def test_mixed_sites_have_controls_of_their_own_site() -> None:
    arms = expanded({"name": "mix_sites", **BOTH, "real": OTHER, "ratios": [2]})
    assert list(arms) == ["mixed_real", "mixed_real_equal_steps", "mixed+200%", "mixed_shuffled"]
    assert sources(arms["mixed+200%"]) == [[Source(data=OTHER), synthetic(2)]]


def test_pretraining_comes_first_and_takes_its_share() -> None:
    arms = expanded({"name": "pretrain_finetune", **BOTH, "ratios": [2], "synthetic_share": 0.75})
    assert list(arms) == ["real", "real_equal_steps", "pretrained_200%", "pretrained_shuffled"]
    assert sources(arms["pretrained_200%"]) == [[synthetic(2)], [Source(data=REAL)]]
    assert [s.share for s in arms["pretrained_200%"].stages] == [0.75, 0.25]
    assert arms["pretrained_shuffled"].stages[0].sources[0].shuffled


@pytest.mark.parametrize("name", ["supplement", "synthetic_only", "mix_sites", "pretrain_finetune"])
def test_any_regime_asks_what_fewer_real_patients_would_do(name) -> None:
    fewer = {"name": name, **BOTH, "real_fractions": [0.1, 1.0]}
    arms = expanded(fewer)
    whole = [n for n in arms if not n.startswith("10%-")]
    assert whole == list(expanded({"name": name, **BOTH}))
    tenth = [n for n in arms if n.startswith("10%-")]
    assert tenth == [f"10%-{n}" for n in whole if not n.endswith(("shuffled", "synthetic_only"))]
    used = {s.fraction for n in tenth for stage in sources(arms[n]) for s in stage}
    assert used == {0.1}
    (preset,) = presets(fewer)
    assert reference_of(preset) in whole


def test_controls_can_be_left_out() -> None:
    arms = expanded({"name": "supplement", **BOTH, "controls": ["real_equal_steps"]})
    assert list(arms) == ["real_equal_steps", "real+100%", "real+300%"]


def test_regimes_of_one_study_share_what_is_the_same() -> None:
    arms = expanded(
        {"name": "supplement", **BOTH},
        {"name": "synthetic_only", **BOTH},
        {"name": "mix_sites", **BOTH, "real": OTHER},
    )
    assert [n for n in arms if n.startswith("synthetic")] == ["synthetic_only", "synthetic_100%"]
    assert [n for n in arms if n.startswith("real")] == [
        "real",
        "real_equal_steps",
        "real+100%",
        "real+300%",
    ]
    assert "mixed_real" in arms


def test_different_arms_of_one_name_clash() -> None:
    with pytest.raises(ArmsClash) as alike:
        expanded({"name": "supplement", **BOTH, "ratios": [1, 1.00000001]})
    assert alike.value.problem.field == "preset"
    with pytest.raises(ArmsClash) as other:
        expanded({"name": "supplement", **BOTH}, {"name": "supplement", **BOTH, "real": OTHER})
    assert other.value.problem.field == "preset.1"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "magic"},
        {"ratios": []},
        {"ratios": [1, 1]},
        {"ratios": [-1]},
        {"ratios": [101]},
        {"real_fractions": [0]},
        {"real_fractions": [1.5]},
        {"controls": ["none"]},
        {"synthetic_share": 0.5},  # of another regime
    ],
)
def test_nonsense_is_refused(change) -> None:
    with pytest.raises(ValidationError):
        presets({"name": "supplement", **BOTH, **change})
