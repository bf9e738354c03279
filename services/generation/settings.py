"""What an installation may set for generation alone: `SYNTHORAX_GENERATION_*` variables."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class GenerationSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SYNTHORAX_GENERATION_", extra="ignore")

    image_quota: int = Field(default=5_000_000, ge=1)
    """Images that one person's cohorts may hold together, until some are deleted."""

    threads: int = Field(default=0, ge=0)
    """Of a CPU, for sampling and training; 0 is torch's own choice. A core that is left free
    stores images while the others make the next ones."""

    processes: int = Field(default=1, ge=1)
    """Processes that train a generator on this host: one a GPU."""
    world: int = Field(default=0, ge=0)
    """Processes on all hosts that train together; 0: those of this host."""
    address: str = "127.0.0.1:0"
    """Where they meet: host and port of the worker's host. Port 0: any, for one host."""

    channels_last: bool = False
    """Sample with channels innermost in memory, which tensor cores want."""
    compile: Literal["off", "on", "graphs"] = "off"
    """Compile the network for sampling; `graphs` captures CUDA graphs too."""
