"""The worker's composition: its handlers."""

from services.training.worker import handlers


def test_it_handles_experiments(adapters) -> None:
    assert list(handlers(adapters)) == ["experiment", "calibrate", "score", "onnx", "delete"]
