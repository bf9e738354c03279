from collections.abc import Iterator

import pytest
import torch

from services.training.classifier.engine import ClassifierEngine


@pytest.fixture(scope="session")
def engine() -> Iterator[ClassifierEngine]:
    before = torch.get_num_threads()
    yield ClassifierEngine("cpu", threads=1)
    torch.set_num_threads(before)
