"""What an installation may set for training alone: `SYNTHORAX_TRAINING_*` variables."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TrainingSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SYNTHORAX_TRAINING_", extra="ignore")

    threads: int = Field(default=0, ge=0)
    """Threads of one training step on a CPU; 0 is torch's own choice."""
    processes: int = Field(default=1, ge=1)
    """Processes that train one classifier on this host: one a GPU. Runs are also trained side by
    side, by a worker a GPU, which wastes nothing; several are for networks that take days."""
    stretch_s: float = Field(default=300.0, gt=0)
    """A slice trains this long, then leaves a checkpoint and lets others have the device."""
    mlflow: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    """An MLflow server to which runs are mirrored while they train."""
    cache_gib: float = Field(default=80.0, gt=0)
    """Room on local disk for packed images. Of 256 px a million takes 61 GiB; where there is less
    room than one run's sources need, every stretch of it packs them anew."""
    channels_last: bool = False
    """Train with channels innermost in memory, which tensor cores want."""
    compile: bool = False
    """Compile the network for training."""
