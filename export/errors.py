"""What can be wrong with a checkpoint."""

from runtime.errors import UserError

__all__ = ["CheckpointError", "ConfigError"]


class ConfigError(UserError):
    """config.json is missing or describes a model that the decoder cannot be."""

    code = "invalid_config"


class CheckpointError(UserError):
    """A tensor is missing, unexpected or misshapen, or a shard cannot be read."""

    code = "invalid_checkpoint"
