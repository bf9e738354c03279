"""One training run: the state that a checkpoint holds, a step, a validation."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from services.crew.lion import Lion
from services.training.classifier import average, pretrained
from services.training.classifier.auroc import macro_auroc
from services.training.classifier.batches import StageData, ahead, draw
from services.training.classifier.mixing import mix
from services.training.classifier.network import Network, make_network, predict, standardise
from services.training.classifier.objective import masked_bce, mixed_bce
from services.training.classifier.peers import Alone, Peers, share
from services.training.classifier.presets import Preset, Recipe
from services.training.ports.engine import (
    UNKNOWN,
    CheckpointMismatchError,
    CurvePoint,
    NotFiniteError,
    Pixels,
    RunSpec,
)

WARM_UP = 0.1
"""The share of a run's steps over which the learning rate rises."""

CLIP_NORM = 1.0
SCORING_BATCH = 256
OPTIMISERS = {"adamw": partial(torch.optim.AdamW, fused=True), "lion": Lion}
MOMENTS = {"adamw": ("exp_avg", "exp_avg_sq"), "lion": ("exp_avg",)}
"""What each keeps of a weight, beside AdamW's count of steps."""


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a half cosine to 0; `step` counts from 0."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def fingerprint(spec: RunSpec, recipe: Recipe) -> str:
    """What a checkpoint must agree with to be resumed: all of the run but the pixels."""
    digest = hashlib.sha256()
    plain = {
        name: value
        for name, value in vars(spec).items()
        if name not in {"stages", "validation", "pretrained"}
    }
    begun = spec.pretrained and spec.pretrained.sha256
    told = {**plain, "pretrained": begun, "recipe": asdict(recipe)}
    digest.update(json.dumps(told, sort_keys=True).encode())
    for part in (*(part for stage in spec.stages for part in stage.parts), spec.validation):
        digest.update(np.ascontiguousarray(part.rows).tobytes())
        digest.update(np.ascontiguousarray(part.targets).tobytes())
    digest.update(json.dumps([stage.steps for stage in spec.stages]).encode())
    return digest.hexdigest()


@torch.inference_mode()
def logits(
    network: Network,
    pixels: Callable[[slice], Pixels],
    count: int,
    device: torch.device,
    precision: str,
) -> Tensor:
    """(count, L) in batches, as doubles on the CPU; `pixels(slice)` gives a run of images."""
    parts = [
        predict(network, _upload(pixels(slice(at, at + SCORING_BATCH)), device), precision)
        for at in range(0, count, SCORING_BATCH)
    ]
    return torch.cat(parts).double().cpu()


def _upload(pixels: Pixels, device: torch.device) -> Tensor:
    return standardise(torch.from_numpy(np.ascontiguousarray(pixels)).to(device))


@dataclass
class Tally:
    """The scalars of a run's state."""

    step: int = 0
    best_step: int | None = None
    best: float | None = None  # of what is monitored, the higher the better
    best_auroc: float | None = None
    stale: int = 0  # validations since the best one
    loss_sum: float = 0.0  # of the steps since the last validation
    loss_count: int = 0
    seconds: float = 0.0  # that these took
    curve: list[CurvePoint] = field(default_factory=list)


@dataclass(frozen=True)
class Batch:
    """Pixels (B, H, W) and targets (B, L) of one step, still on the CPU."""

    pixels: Tensor
    targets: Tensor


class Run:
    """A run in memory: its optimiser, EMA weights, the best weights so far.

    Each step draws its batch, its augmentation and its mixing from (seed, step), so the state is
    weights, moments and scalars: restoring them continues the run exactly (on a CPU, with the
    same number of threads, byte for byte).

    Of several `peers` each has the same state and prepares the whole batch, then takes its own
    images through the network: a step is the same whoever shares it.
    """

    def __init__(
        self,
        spec: RunSpec,
        preset: Preset,
        device: torch.device,
        *,
        channels_last: bool = False,
        peers: Peers | None = None,
    ) -> None:
        self.spec, self.recipe, self.device = spec, preset.recipe, device
        self.peers = peers or Alone()
        self._mine = slice(self.peers.rank, None, self.peers.world)
        self.shape = preset.shape(spec.size_px)
        layout = torch.channels_last if channels_last else torch.preserve_format

        def network() -> Network:
            made = make_network(self.shape, len(spec.labels), spec.seed)
            return made.to(device).to(memory_format=layout)  # pyright: ignore[reportCallIssue] - torch's overloads want it among others

        self.network, self.averaged = network().train(), network().eval()
        self.optimiser = OPTIMISERS[self.recipe.optimiser](
            _groups(self.network, spec.weight_decay), betas=self.recipe.betas
        )
        self.best = {name: value.clone() for name, value in self.averaged.state_dict().items()}
        self.tally = Tally()
        self._stages = [StageData(stage) for stage in spec.stages]
        self._weights = list(self.network.parameters())
        self._average = list(self.averaged.parameters())
        weights = spec.positive_weights
        self._positive = None if weights is None else torch.tensor(weights, device=device)

    def begin(self) -> None:
        """Take the weights to begin with, if the run has any. Raises `WeightsMismatchError`."""
        if self.spec.pretrained is not None:
            pretrained.begin(self.network, self.spec.pretrained)
            self.averaged.load_state_dict(self.network.state_dict())

    @property
    def finished(self) -> bool:
        patience = self.spec.early_stopping
        out_of_patience = patience is not None and self.tally.stale >= patience
        return self.tally.step >= self.spec.steps or out_of_patience

    def batches(self) -> Generator[Batch]:
        """Of all steps that are left."""
        return ahead(self._gather, self.tally.step, self.spec.steps)

    def _gather(self, step: int) -> Batch:
        number, first = self._stage_of(step)
        data, spec = self._stages[number], self.spec
        positions = draw(spec.seed, number, step - first, len(data), spec.batch_size)
        batch = (torch.from_numpy(a) for a in (data.pixels(positions), data.targets[positions]))
        if self.device.type == "cuda":
            batch = (tensor.pin_memory() for tensor in batch)
        return Batch(*batch)

    def advance(self, batch: Batch) -> None:
        """One step, and the validation that is due after it."""
        step, began = self.tally.step, time.monotonic()
        loss = self._descend(batch, step)
        if not math.isfinite(loss):
            msg = f"the loss is {loss} at step {step} of {self.spec.steps}"
            raise NotFiniteError(msg)
        tally = self.tally
        tally.step += 1
        tally.loss_sum += loss
        tally.loss_count += 1
        tally.seconds += time.monotonic() - began
        if tally.step % self.spec.validate_every == 0 or tally.step == self.spec.steps:
            self._validate()

    def _descend(self, batch: Batch, step: int) -> float:
        spec, recipe = self.spec, self.recipe
        rng = np.random.default_rng([spec.seed, step])
        noise = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))
        images = standardise(batch.pixels.to(self.device, non_blocking=True))
        targets = batch.targets.to(self.device, non_blocking=True)
        images = recipe.augmentation(images, rng, noise)
        mixed = mix(images, rng, recipe.mixing)
        if recipe.rate == "cosine":
            rate = learning_rate(step, spec.steps, spec.learning_rate)
        else:
            rate = spec.learning_rate
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        found = predict(self.network, images[self._mine], spec.precision)
        loss = mixed_bce(found, targets, mixed, recipe.smoothing, self._positive, self._mine)
        loss.backward()
        share(self.peers, self._weights)
        nn.utils.clip_grad_norm_(self._weights, CLIP_NORM)
        self.optimiser.step()
        average.move(self._average, self._weights, average.decay_at(step, recipe.ema))
        return self.peers.total(loss.detach()).item()

    def _stage_of(self, step: int) -> tuple[int, int]:
        first = 0
        for number, stage in enumerate(self.spec.stages):
            if step < first + stage.steps:
                return number, first
            first += stage.steps
        msg = f"step {step} of {first}"
        raise ValueError(msg)

    def _validate(self) -> None:
        tally, spec, held = self.tally, self.spec, self.spec.validation
        found = self._validation_logits()
        point = CurvePoint(
            step=tally.step,
            loss=tally.loss_sum / tally.loss_count,
            auroc=macro_auroc(held.targets, torch.sigmoid(found).numpy()),
            validation_loss=self._validation_loss(found),
            images_per_s=tally.loss_count * spec.batch_size / tally.seconds,
            memory_mib=_peak_mib(self.device),
        )
        tally.curve.append(point)
        tally.loss_sum, tally.loss_count, tally.seconds = 0.0, 0, 0.0
        self._judge(point)

    def _validation_logits(self) -> Tensor:
        """Of all images, (n, L), each by one of the peers."""
        held = self.spec.validation
        rows = held.rows[self._mine]
        own = logits(
            self.averaged,
            lambda at: held.images[rows[at]],
            len(rows),
            self.device,
            self.spec.precision,
        )
        whole = own.new_zeros(len(held.rows), own.shape[1])
        whole[self._mine] = own
        return self.peers.total(whole.to(self.device)).cpu()

    def _validation_loss(self, found: Tensor) -> float | None:
        """The training loss, without smoothing; null where nothing is known."""
        targets = self.spec.validation.targets
        if not (targets != UNKNOWN).any():
            return None
        weights = None if self._positive is None else self._positive.to(found)
        loss = masked_bce(found, torch.from_numpy(targets), positive_weights=weights).item()
        if not math.isfinite(loss):
            msg = f"the loss of validation is {loss} at step {self.tally.step}"
            raise NotFiniteError(msg)
        return loss

    def _judge(self, point: CurvePoint) -> None:
        """Keep the weights if they are the best so far, or the last.

        Before `kept_after` nothing is kept and patience is not counted: weights from before the
        fine-tuning are not the fine-tuned classifier, and a small validation set likes a lucky
        early one. Of equals the later ones are kept: their loss
        is lower. So are the last ones where nothing can be compared (no label with both classes, or
        none that is known).
        """
        tally = self.tally
        if tally.step <= self.spec.kept_after and tally.step < self.spec.steps:
            return
        loss = None if point.validation_loss is None else -point.validation_loss
        merit = point.auroc if self.spec.monitor == "auroc" else loss
        before = tally.best
        if before is None or merit is None:
            better = equal = True
        else:
            better, equal = merit > before, merit == before
        tally.stale = 0 if better else tally.stale + 1
        if better:
            tally.best = merit
        if better or equal or self.spec.keep == "last":
            tally.best_step, tally.best_auroc = point.step, point.auroc
            for name, tensor in self.averaged.state_dict().items():
                self.best[name].copy_(tensor)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that continuing needs, as tensors and a JSON record."""
        tensors = {f"best.{name}": value for name, value in self.best.items()}
        for name, value in self.network.state_dict().items():
            tensors[f"network.{name}"] = value
        for name, value in self.averaged.state_dict().items():
            tensors[f"average.{name}"] = value
        for name, parameter in self.network.named_parameters():
            for moment in MOMENTS[self.recipe.optimiser]:
                tensors[f"{moment}.{name}"] = self.optimiser.state[parameter][moment]
        return tensors, {"run": fingerprint(self.spec, self.recipe), "tally": asdict(self.tally)}

    def restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Continue from `state()`; raises `CheckpointMismatchError` if it is another run's."""
        if record.get("run") != fingerprint(self.spec, self.recipe):
            msg = "the checkpoint is of another run"
            raise CheckpointMismatchError(msg)
        tally: dict[str, Any] = record["tally"]
        curve = [CurvePoint(**point) for point in tally["curve"]]
        scalars = {name: value for name, value in tally.items() if name != "curve"}
        self.tally = Tally(**scalars, curve=curve)
        # Copied into what is allocated: alignment and layout stay as in an unbroken run.
        self.network.load_state_dict(_under("network", tensors))
        self.averaged.load_state_dict(_under("average", tensors))
        for name, value in _under("best", tensors).items():
            self.best[name].copy_(value)
        for name, parameter in self.network.named_parameters():
            self.optimiser.state[parameter] = {
                "step": torch.tensor(float(self.tally.step), device=self.device),
                **{
                    moment: torch.zeros_like(parameter).copy_(tensors[f"{moment}.{name}"])
                    for moment in MOMENTS[self.recipe.optimiser]
                },
            }


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): value
        for name, value in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def _groups(network: Network, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and layer scales do not."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def _peak_mib(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) // 2**20 if device.type == "cuda" else None
