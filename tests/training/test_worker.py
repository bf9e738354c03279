"""The worker's composition: its handlers, and the order it keeps on local disk."""

import os

from services.training.worker import clear_leftovers, handlers


def test_it_handles_experiments_and_clears_what_was_left(adapters) -> None:
    left = adapters.settings.scratch / "training" / "run-dead"
    young = adapters.settings.scratch / "packed" / "digest.abc.part"
    for folder in (left, young):
        folder.mkdir(parents=True)
    os.utime(left, (1, 1))
    assert list(handlers(adapters)) == ["experiment", "calibrate", "score", "onnx", "delete"]
    assert not left.exists()
    assert young.exists()
    clear_leftovers([left])  # gone already is fine
