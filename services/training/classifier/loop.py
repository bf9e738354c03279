"""One training run: the state that a checkpoint holds, a step, a validation."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from services.training.classifier import average
from services.training.classifier.augmentation import Augmentation
from services.training.classifier.auroc import macro_auroc
from services.training.classifier.batches import StageData, draw
from services.training.classifier.network import Network, make_network, preset_shape, standardise
from services.training.classifier.objective import masked_bce
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
BETAS = (0.9, 0.999)
SCORING_BATCH = 256


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a half cosine to 0; `step` counts from 0."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def fingerprint(spec: RunSpec) -> str:
    """What a checkpoint must agree with to be resumed: all of the spec but the pixels."""
    digest = hashlib.sha256()
    plain = {
        name: value for name, value in vars(spec).items() if name not in {"stages", "validation"}
    }
    digest.update(json.dumps(plain, sort_keys=True).encode())
    for part in (*(part for stage in spec.stages for part in stage.parts), spec.validation):
        digest.update(np.ascontiguousarray(part.rows).tobytes())
        digest.update(np.ascontiguousarray(part.targets).tobytes())
    digest.update(json.dumps([stage.steps for stage in spec.stages]).encode())
    return digest.hexdigest()


@torch.inference_mode()
def logits(
    network: nn.Module, pixels: Callable[[slice], Pixels], count: int, device: torch.device
) -> Tensor:
    """(count, L) in batches, as doubles on the CPU; `pixels(slice)` gives a run of images."""
    parts = [
        network(_upload(pixels(slice(at, at + SCORING_BATCH)), device)).double()
        for at in range(0, count, SCORING_BATCH)
    ]
    return torch.cat(parts).cpu()


def _upload(pixels: Pixels, device: torch.device) -> Tensor:
    return standardise(torch.from_numpy(np.ascontiguousarray(pixels)).to(device))


@dataclass
class Tally:
    """The scalars of a run's state."""

    step: int = 0
    best_step: int | None = None
    best_auroc: float | None = None
    stale: int = 0  # validations since the best one
    loss_sum: float = 0.0  # of the steps since the last validation
    loss_count: int = 0
    seconds: float = 0.0  # that these took
    curve: list[CurvePoint] = field(default_factory=list)


class Run:
    """A run in memory: AdamW with warm-up and cosine, EMA weights, the best weights so far.

    Each step draws its batch and its augmentation from (seed, step), so the state is weights,
    moments and scalars: restoring them continues the run exactly (on a CPU, with the same
    number of threads, byte for byte).
    """

    def __init__(self, spec: RunSpec, device: torch.device, augment: Augmentation) -> None:
        self.spec, self.device, self.augment = spec, device, augment
        self.shape = preset_shape(spec.preset, spec.size_px)
        self.network = make_network(self.shape, len(spec.labels), spec.seed).to(device)
        self.averaged = make_network(self.shape, len(spec.labels), spec.seed).to(device).eval()
        self.optimiser = torch.optim.AdamW(
            _groups(self.network, spec.weight_decay), betas=BETAS, fused=True
        )
        self.best = {name: value.clone() for name, value in self.averaged.state_dict().items()}
        self.tally = Tally()
        self._stages = [StageData(stage) for stage in spec.stages]
        self._weights = list(self.network.parameters())
        self._average = list(self.averaged.parameters())

    @property
    def finished(self) -> bool:
        patience = self.spec.early_stopping
        out_of_patience = patience is not None and self.tally.stale >= patience
        return self.tally.step >= self.spec.steps or out_of_patience

    def advance(self) -> None:
        """One step, and the validation that is due after it."""
        step, began = self.tally.step, time.monotonic()
        loss = self._descend(step)
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

    def _descend(self, step: int) -> float:
        number, first = self._stage_of(step)
        data = self._stages[number]
        spec = self.spec
        positions = draw(spec.seed, number, step - first, len(data), spec.batch_size)
        targets = torch.from_numpy(data.targets[positions]).to(self.device)
        generator = torch.Generator(self.device).manual_seed(_step_seed(spec.seed, step))
        images = self.augment(_upload(data.pixels(positions), self.device), generator)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, spec.steps, spec.learning_rate)
        self.network.train()
        self.optimiser.zero_grad()
        loss = masked_bce(self.network(images), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self._weights, CLIP_NORM)
        self.optimiser.step()
        average.move(self._average, self._weights, step)
        return loss.item()

    def _stage_of(self, step: int) -> tuple[int, int]:
        first = 0
        for number, stage in enumerate(self.spec.stages):
            if step < first + stage.steps:
                return number, first
            first += stage.steps
        msg = f"step {step} of {first}"
        raise ValueError(msg)

    def _validate(self) -> None:
        tally, held = self.tally, self.spec.validation
        found = logits(
            self.averaged, lambda at: held.images[held.rows[at]], len(held.rows), self.device
        )
        value = macro_auroc(held.targets, torch.sigmoid(found).numpy())
        known = bool((held.targets != UNKNOWN).any())
        loss = masked_bce(found, torch.from_numpy(held.targets)).item() if known else None
        tally.curve.append(
            CurvePoint(
                step=tally.step,
                loss=tally.loss_sum / tally.loss_count,
                auroc=value,
                validation_loss=loss,
                images_per_s=tally.loss_count * self.spec.batch_size / tally.seconds,
                memory_mib=_peak_mib(self.device),
            )
        )
        tally.loss_sum, tally.loss_count, tally.seconds = 0.0, 0, 0.0
        before = tally.best_auroc
        tally.stale = 0 if before is None or (value or 0.0) > before else tally.stale + 1
        # Of equals the later weights are kept: their loss is lower. So are the last ones where
        # nothing can be compared (no label with both classes).
        if before is None or (value or 0.0) >= before:
            tally.best_step, tally.best_auroc = tally.step, value
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
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"{moment}.{name}"] = self.optimiser.state[parameter][moment]
        return tensors, {"run": fingerprint(self.spec), "tally": asdict(self.tally)}

    def restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Continue from `state()`; raises `CheckpointMismatchError` if it is another run's."""
        if record.get("run") != fingerprint(self.spec):
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
                    for moment in ("exp_avg", "exp_avg_sq")
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


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
