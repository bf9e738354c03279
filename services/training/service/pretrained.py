"""Files of weights that a training begins with: on this worker's disk, or fetched from the hub."""

from collections.abc import Sequence
from pathlib import Path

from api_schemas.training import Pretrained
from services.kit.errors import Unprocessable
from services.training.ports.engine import Weights

HUB_FILE = "model.safetensors"


class PretrainedMissing(Unprocessable):
    slug = "pretrained-missing"
    title = "There are no such weights to begin with"


class PretrainedUnusable(Unprocessable):
    slug = "pretrained-unusable"
    title = "These weights do not fit the classifier"


class PretrainedFiles:
    """Files below `roots`, and what was fetched from the hub, which is kept in `folder`.

    Whether they are what a request means is for the reader to say: it knows their digest.
    """

    def __init__(self, roots: Sequence[Path], folder: Path) -> None:
        self._roots = [root.resolve() for root in roots]
        self._folder = folder

    def weights(self, asked: Pretrained) -> Weights:
        """Looked for when a training begins; one that goes on needs them no more."""
        return Weights(asked.sha256, lambda: self._find(asked))

    def _find(self, asked: Pretrained) -> Path:
        """Raises `PretrainedMissing`."""
        return self._fetched(asked.hub) if asked.path is None else self._below_a_root(asked.path)

    def _below_a_root(self, name: str) -> Path:
        for root in self._roots:
            try:
                real = (root / name).resolve(strict=True)
            except (OSError, RuntimeError, ValueError):
                continue
            if real.is_relative_to(root) and real.is_file():
                return real
        raise PretrainedMissing(
            "The training worker has no such file below a folder that may be imported from",
            field="classifier.pretrained.path",
        )

    def _fetched(self, model: str | None) -> Path:
        from huggingface_hub import errors, hf_hub_download  # noqa: PLC0415 - only workers have it

        assert model is not None  # noqa: S101 - the wire asks for one of both
        try:
            return Path(hf_hub_download(model, HUB_FILE, cache_dir=self._folder))
        except (errors.HfHubHTTPError, errors.HFValidationError, FileNotFoundError) as error:
            raise PretrainedMissing(
                f"The hub does not give '{HUB_FILE}' of this model to the training worker",
                field="classifier.pretrained.hub",
            ) from error
