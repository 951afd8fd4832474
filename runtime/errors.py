"""What can go wrong, as named errors that a person can act on and a program can ask.

UserError                what, got, allowed, next step (exit code 1); a code and a param
|- BundleError           the bundle is missing, altered or of another format
|- EvalError             questions or earlier results cannot be used
|- ParameterError        a setting is out of its range
|  `- JsonSchemaError    a JSON schema is wrong, too large, or asks what cannot be followed
|- PromptError           the prompt is empty, too long or not valid text
|- SessionError          the backend cannot run the bundle, or gave unusable numbers
|  `- DeviceLostError    the process of a device has ended
|- runtime.server.errors HttpError
|- export.errors.*       ConfigError, CheckpointError, CompilerError, TraceError
|- profiles.ProfileError
`- toolchain.errors.*    CompareError, PackError, PlanError, RemoteError, TargetError
"""

__all__ = [
    "CODES",
    "BundleError",
    "DeviceLostError",
    "EvalError",
    "JsonSchemaError",
    "ParameterError",
    "PromptError",
    "SessionError",
    "UserError",
    "one_line",
]

# Every code and what it means. A code is never renamed: programs compare it.
CODES = {
    # what a class says where the place that raises it says nothing else
    "compiler_failed": "the C++ compiler is missing or fails",
    "device_lost": "the process of a device has ended: only a new start helps",
    "does_not_fit": "the memory of the device is too small for the model",
    "invalid_bundle": "the bundle is missing, altered or of another format",
    "invalid_checkpoint": "a tensor or a file of the checkpoint is missing or wrong",
    "invalid_config": "config.json is missing or describes another kind of model",
    "invalid_json_schema": "a JSON schema is wrong, too large, or asks what cannot be followed",
    "invalid_profile": "the profile is missing or contradicts itself",
    "invalid_request": "the server cannot take the request as it is",
    "invalid_prompt": "the prompt is empty, out of order or not valid text",
    "invalid_target": "the target does not exist or cannot take what it was given",
    "invalid_value": "a setting is of the wrong type or out of its range",
    "not_comparable": "a result cannot be read, or two have nothing in common",
    "pack_failed": "a pack for a box cannot be made of what is there",
    "server_failed": "a server that was asked did not answer, or not as it should",
    "session_failed": "the backend cannot run the bundle",
    "unknown_graph": "a graph has not the nodes that a pass changes: another version wrote it",
    "unusable_evaluation": "questions or earlier results cannot be used",
    "user_error": "anything else that the message says how to mend",
    # what some places say, since a program would act differently
    "busy": "something else has it in use: try again later",
    "constraint_dead_end": "the constraint of the answer allows no further token",
    "context_length_exceeded": "the prompt is longer than the cache",
    "deadline_exceeded": "it waited or ran longer than its request allows",
    "invalid_api_key": "the server asks for a key, and this is none of its keys",
    "invalid_host": "the Host header names another computer",
    "method_not_allowed": "the address takes other methods",
    "model_not_found": "the server has no model of this name",
    "no_such_route": "the server has nothing at this address",
    "not_ready": "the server loads its model, or is about to stop",
    "request_too_large": "the body of the request is larger than the server takes",
    "unknown_parameter": "no setting has this name",
    "unsupported_parameter": "this bundle or its backend cannot do what is asked",
    "unusable_logits": "the model gave NaN, infinity or no choice at all",
}


class UserError(Exception):
    """A mistake that its message tells how to mend; never a bug of ours.

    Attributes:
        what: the thing that is wrong, named.
        got: the value found.
        allowed: what would have been accepted.
        next_step: what to do now.
        code: one of CODES; the class has one, and a place that raises it may have another.
        param: the setting or field at fault, where it has a name; as with the code.
    """

    code = "user_error"
    param: str | None = None

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        allowed: str | None = None,
        next_step: str | None = None,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.got = got
        self.allowed = allowed
        self.next_step = next_step
        self.code = code or self.code
        self.param = param or self.param

    def __str__(self) -> str:
        return one_line(self)


def one_line(error: UserError) -> str:
    """An error as it is printed, whatever line breaks its parts have."""
    parts = [error.what]
    if error.got is not None:
        parts.append(f"got {error.got}")
    if error.allowed is not None:
        parts.append(f"allowed: {error.allowed}")
    if error.next_step is not None:
        parts.append(error.next_step)
    return "; ".join(" ".join(part.split()) for part in parts)


class BundleError(UserError):
    """The bundle is missing, altered or of another format."""

    code = "invalid_bundle"


class EvalError(UserError):
    """Questions or earlier results cannot be used."""

    code = "unusable_evaluation"


class ParameterError(UserError):
    """A setting is out of its range; `param` is its name."""

    code = "invalid_value"


class JsonSchemaError(ParameterError):
    """A JSON schema is wrong, too large, or asks what cannot be followed."""

    code = "invalid_json_schema"
    param = "json_schema"


class PromptError(UserError):
    """The prompt is empty, too long for the cache or not valid text."""

    code = "invalid_prompt"


class SessionError(UserError):
    """The backend cannot run this bundle, or gave unusable numbers."""

    code = "session_failed"


class DeviceLostError(SessionError):
    """The process of a device has ended; nothing can be run on it any more."""

    code = "device_lost"
