"""The configuration of a published network: which options can be taken over, and as what."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from services.generation.diffusion.presets import Architecture
from services.generation.ports.engine import NetworkUnsupported

GROUPS = 32
"""Of every group norm of the package."""
NAMED = 10
"""Of many wrong options an answer names so many."""

Size = Annotated[int, Field(ge=8, le=1024)]
Factor = Annotated[float, Field(gt=0, le=64, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=16)]


class ModelOptions(BaseModel):
    """Options that decide the network. Those with one value must have it; others do not matter."""

    dims: Literal[2]
    input_size: Size
    in_channels: Literal[1]
    out_channels: Literal[1, 2]
    model_channels: int = Field(ge=GROUPS, le=1024, multiple_of=GROUPS)
    channel_mult: list[Factor] = Field(min_length=1, max_length=8)
    num_res_blocks: list[Count] = Field(min_length=1, max_length=8)
    attention_resolutions: list[int] = Field(max_length=16)
    num_classes: Literal[22]
    concat_channels: Literal[0] = 0
    missing_class_value: None = None
    num_heads: int = Field(ge=1, le=64)
    num_head_channels: int = Field(default=-1, ge=-1, le=1024)
    num_heads_upsample: int = -1
    use_scale_shift_norm: Literal[True]
    use_new_attention_order: bool = False
    resblock_updown: Literal[False] = False
    scale_skip_connection: Literal[False] = False
    conv_resample: Literal[True] = True

    @field_validator("input_size", mode="before")
    @classmethod
    def _square(cls, given: Any) -> Any:
        if isinstance(given, list) and len(given) == 2 and given[0] == given[1]:  # noqa: PLR2004
            return given[0]
        return given

    @field_validator("channel_mult")
    @classmethod
    def _first_is_one(cls, factors: list[float]) -> list[float]:
        if factors[0] != 1.0:
            msg = "the first multiplier must be 1"
            raise ValueError(msg)
        return factors

    @field_validator("num_res_blocks")
    @classmethod
    def _equal(cls, blocks: list[int]) -> list[int]:
        if len(set(blocks)) > 1:
            msg = "all levels must have equally many residual blocks"
            raise ValueError(msg)
        return blocks

    @model_validator(mode="after")
    def _fits(self) -> "ModelOptions":
        if len(self.num_res_blocks) != len(self.channel_mult):
            msg = "num_res_blocks and channel_mult must be equally long"
            raise ValueError(msg)
        if self.input_size % 2 ** (len(self.channel_mult) - 1):
            msg = "input_size must be divisible by 2 for every level but one"
            raise ValueError(msg)
        if self.num_heads_upsample not in {-1, self.num_heads}:
            msg = "num_heads_upsample must be num_heads, or -1"
            raise ValueError(msg)
        if any(c % GROUPS or c % (self.heads or self.num_head_channels) for c in self.channels):
            msg = f"channels of every level must be divisible by {GROUPS} and by the heads"
            raise ValueError(msg)
        return self

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(int(factor * self.model_channels) for factor in self.channel_mult)

    @property
    def heads(self) -> int | None:
        """None where heads have a fixed width instead."""
        return self.num_heads if self.num_head_channels in {-1, 0} else None


class ScheduleParameters(BaseModel):
    cosine_s: Literal[0.008] = 0.008  # pyright: ignore[reportInvalidTypeForm] - pydantic takes it


class DiffusionOptions(BaseModel):
    """Options that decide the schedule and what is predicted: all as published."""

    timesteps: Literal[1000]
    schedule_name: Literal["cosine"]
    enforce_zero_terminal_snr: Literal[True]
    schedule_params: ScheduleParameters = ScheduleParameters()
    timestep_respacing: None = None
    mean_type: Literal["VELOCITY"]


class Options(BaseModel):
    model: ModelOptions
    diffusion: DiffusionOptions


def read_options(hyper_parameters: Any) -> ModelOptions:
    """Raises `NetworkUnsupported`, naming every option that cannot be taken over."""
    if not isinstance(hyper_parameters, dict) or "model" not in hyper_parameters:
        raise NetworkUnsupported("It holds no hyper_parameters with a model: not of this package")
    try:
        return Options.model_validate(hyper_parameters).model
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors(include_input=False, include_url=False)
        ]
        raise NetworkUnsupported("; ".join(faults[:NAMED])) from error


def architecture(options: ModelOptions) -> Architecture:
    """The same network in our terms. Attention is asked for by factors of downsampling."""
    return Architecture(
        size_px=options.input_size,
        unshuffle=1,
        channels=options.channels,
        attention=tuple(
            2**level in options.attention_resolutions for level in range(len(options.channels))
        ),
        maps=0,
        layers=options.num_res_blocks[0],
        groups=GROUPS,
        head_width=options.num_head_channels,
        heads=options.heads,
        middle=True,
        outputs=options.out_channels,
    )
