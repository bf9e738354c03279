"""A stored classifier says the same as a network, as an ONNX model, and to whoever runs that."""

import numpy as np
import onnxruntime
import pytest

from services.training.classifier import checkpoints
from services.training.classifier.engine import ClassifierEngine
from services.training.classifier.network import Shape, make_network, shape_record
from services.training.classifier.stored import to_onnx
from services.training.classifier.stretches import FORMAT
from services.training.ports.engine import CheckpointMismatchError

LABELS = ["Edema", "Fracture", "Pleural Effusion"]
SIZE_PX = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    shape = Shape(patch=4, depths=(1, 1), widths=(16, 32))
    network = make_network(shape, len(LABELS), seed=3)
    record = {"format": FORMAT, "shape": shape_record(shape), "labels": LABELS, "size_px": SIZE_PX}
    place = tmp_path_factory.mktemp("stored") / "classifier"
    return checkpoints.write(place, network.state_dict(), record)


@pytest.fixture(scope="module")
def session(folder) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(to_onnx(folder), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_an_onnx_model_gives_the_engines_scores(folder, session, count: int) -> None:
    images = np.random.default_rng(count).integers(0, 256, (count, SIZE_PX, SIZE_PX), np.uint8)
    ours = ClassifierEngine("cpu", threads=1).score(folder, images, np.arange(count))
    (theirs,) = session.run(["probabilities"], {"pixels": images[:, None].astype(np.float32)})
    assert theirs.shape == (count, len(LABELS))
    assert np.abs(ours - theirs).max() < 1e-5
    assert np.ptp(ours) > 0.01  # not all the same


def test_an_onnx_model_says_what_it_takes_and_gives(session) -> None:
    told = session.get_modelmeta().custom_metadata_map
    assert told == {"labels": ", ".join(LABELS), "size_px": "32", "format": FORMAT}
    assert session.get_inputs()[0].shape[1:] == [1, SIZE_PX, SIZE_PX]


def test_damaged_weights_become_no_model(folder, tmp_path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / checkpoints.TENSORS).write_bytes(b"damage")
    with pytest.raises(CheckpointMismatchError):
        to_onnx(tmp_path)
