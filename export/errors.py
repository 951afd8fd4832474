"""What can be wrong with a checkpoint, or with what torch makes of it."""

from runtime.errors import UserError

__all__ = ["CheckpointError", "CompilerError", "ConfigError", "TraceError"]


class ConfigError(UserError):
    """config.json is missing or describes a model that the decoder cannot be."""

    code = "invalid_config"


class CheckpointError(UserError):
    """A tensor is missing, unexpected or misshapen, or a shard cannot be read."""

    code = "invalid_checkpoint"


class TraceError(UserError):
    """This version of torch writes another graph than the passes know."""

    code = "unknown_graph"


class CompilerError(UserError):
    """A program of another maker that compiles for us is missing or fails."""

    code = "compiler_failed"
