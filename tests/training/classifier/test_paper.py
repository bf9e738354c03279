"""ConvNeXt-Base itself, as `paper` has it: a few real steps, an exact resume, an export."""

import numpy as np
import onnxruntime
import pytest

from services.training.classifier.stored import to_onnx
from services.training.ports.engine import Part, StageSpec
from tests.training.classifier.problems import LABELS, run_spec
from tests.training.classifier.test_engine import after, contents, train

SIZE_PX, STEPS = 64, 4

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def pictures(count: int, seed: int) -> Part:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, SIZE_PX, SIZE_PX), dtype=np.uint8)
    return Part(images, np.arange(count), rng.integers(-1, 2, (count, len(LABELS))).astype(np.int8))


def test_convnext_base_trains_resumes_and_is_exported(engine, tmp_path) -> None:
    held = pictures(8, 2)
    spec = run_spec(
        STEPS,
        preset="paper",
        size_px=SIZE_PX,
        stages=(StageSpec((pictures(24, 1),), STEPS),),
        validation=held,
        batch_size=8,
        learning_rate=1e-5,
        weight_decay=3e-4,
        monitor="loss",
        precision="bfloat16",
        validate_every=2,
    )
    whole = train(engine, spec, tmp_path / "whole")
    first = train(engine, spec, tmp_path / "first", pause=after(3))
    second = train(engine, spec, tmp_path / "second", resume=first.checkpoint)
    assert (first.step, second.step) == (3, STEPS)
    assert [p.validation_loss for p in second.curve] == [p.validation_loss for p in whole.curve]
    assert contents(second.classifier) == contents(whole.classifier)

    session = onnxruntime.InferenceSession(to_onnx(whole.classifier))
    ours = engine.score(whole.classifier, held.images, held.rows)
    (theirs,) = session.run(None, {"pixels": held.images[:, None].astype(np.float32)})
    assert np.abs(ours - theirs).max() < 1e-2  # the engine scores in bfloat16, as it trained
