"""What clients send: the requests of OpenAI's API, and the extras of vLLM's that tools send.

A null is the same as nothing. Ranges of sampling settings are those of SamplingParams: described
here, checked there. A field that is not here is refused if it would change the answer, and is else
ignored.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from runtime.sampling.params import BOUNDS, SamplingParams
from runtime.server.errors import HttpError

__all__ = [
    "MAX_N",
    "ChatBody",
    "ChatMessage",
    "CompletionBody",
    "DetokenizeBody",
    "GenerationBody",
    "StreamOptions",
    "TokenizeBody",
    "unknown_fields",
]

MAX_N = 16
MAX_PROMPTS = 64
MAX_MESSAGES = 1024
MAX_TOKENS = 1 << 18  # ids in one prompt; far beyond any context
TokenId: TypeAlias = Annotated[int, Field(ge=0, le=2**31 - 1)]
TokenIds: TypeAlias = Annotated[list[TokenId], Field(max_length=MAX_TOKENS, fail_fast=True)]
Stop: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=256)]
BiasedId: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]
SETTINGS: dict[str, dict[str, Any]] = SamplingParams.model_json_schema()["properties"]


def _setting(name: str) -> Any:
    """A field with the range of a setting in its description."""
    return Field(default=None, json_schema_extra=_bounds(SETTINGS[name]))


def _bounds(schema: dict[str, Any]) -> dict[str, Any]:
    schema = schema.get("anyOf", [schema])[0]  # the other alternative is null
    return {word: schema[word] for word in BOUNDS if word in schema}


Bias: TypeAlias = Annotated[
    float, Field(json_schema_extra=_bounds(SETTINGS["logit_bias"]["additionalProperties"]))
]
NO_OTHER_KEY = Field(max_length=1024, json_schema_extra={"additionalProperties": False})
# A tool's message is refused by a better error than that of a role that does not exist.
READ_ROLES = Field(json_schema_extra={"enum": ["system", "developer", "user", "assistant"]})


class Body(BaseModel):
    """A JSON object; fields that it does not have are kept, to be refused or counted."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)


class StreamOptions(Body):
    """What a stream says besides the text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationBody(Body):
    """What both kinds of completion have."""

    model: str | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_N)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = _setting("max_tokens")
    temperature: float | None = _setting("temperature")
    top_p: float | None = _setting("top_p")
    top_k: int | None = Field(default=None, ge=-1)  # vLLM's -1 is our 0: all tokens
    min_p: float | None = _setting("min_p")
    repetition_penalty: float | None = _setting("repetition_penalty")
    presence_penalty: float | None = _setting("presence_penalty")
    frequency_penalty: float | None = _setting("frequency_penalty")
    logit_bias: Annotated[dict[BiasedId, Bias], NO_OTHER_KEY] | None = None
    seed: int | None = _setting("seed")
    stop: Stop | Annotated[list[Stop | None], Field(max_length=16)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None
    ignore_eos: bool | None = None
    response_format: dict[str, Any] | None = None


class CompletionBody(GenerationBody):
    """POST /v1/completions."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
        | Annotated[TokenIds, Field(min_length=1)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
    )
    max_tokens: int | None = Field(default=None, json_schema_extra={"minimum": 0})  # 0: with echo
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)
    add_special_tokens: bool | None = None


class ContentPart(Body):
    """A part of a message; only text is taken."""

    type: str
    text: str | None = None


class ChatMessage(Body):
    """One message of a conversation."""

    role: Annotated[Literal["system", "developer", "user", "assistant", "tool"], READ_ROLES]
    content: str | Annotated[list[ContentPart], Field(max_length=MAX_MESSAGES)] | None = None


class ChatBody(GenerationBody):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: int | None = _setting("max_tokens")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)


class TokenizeBody(Body):
    """POST /tokenize: of a text, or of messages as the template writes them."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)] | None = (
        None
    )
    add_special_tokens: bool | None = None


class DetokenizeBody(Body):
    """POST /detokenize."""

    model: str | None = None
    tokens: TokenIds


# Fields that would change the answer, and the values besides null that change nothing.
NOT_FOLLOWED: dict[str, tuple[Any, ...]] = {
    "add_generation_prompt": (True,),
    "audio": (),
    "bad_words": ([],),
    "best_of": (1,),
    "chat_template": (),
    "continue_final_message": (False,),
    "documents": ([],),
    "dry_multiplier": (0, 0.0),
    "dynatemp_range": (0, 0.0),
    "function_call": ("none", "auto"),
    "grammar": ("",),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "include_stop_str_in_output": (False,),
    "json_schema": (),
    "length_penalty": (1, 1.0),
    "min_tokens": (0,),
    "mirostat": (0,),
    "modalities": (["text"],),
    "prompt_logprobs": (),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,),
    "structured_outputs": (),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "truncate_prompt_tokens": (),
    "typical_p": (1, 1.0),
    "use_beam_search": (False,),
}
# Fields that change nothing here, as the documents say.
WITHOUT_EFFECT = frozenset(
    (
        "cache_prompt",
        "chat_template_kwargs",
        "functions",
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "priority",
        "prompt_cache_key",
        "reasoning_effort",
        "request_id",
        "safety_identifier",
        "service_tier",
        "spaces_between_special_tokens",
        "store",
        "tools",
        "user",
        "verbosity",
    )
)


def unknown_fields(body: GenerationBody) -> int:
    """How many fields are not known at all.

    Raises:
        HttpError: a field would change the answer and is not followed here.
    """
    given = body.model_extra or {}
    for name, neutral in NOT_FOLLOWED.items():
        value = given.get(name)
        if value is not None and value not in neutral:
            raise HttpError(
                f"{name} is not followed here",
                allowed=" or ".join(["null", *map(repr, neutral)]),
                next_step="leave it out",
                code="unsupported_parameter",
                param=name,
            )
    return len(given.keys() - NOT_FOLLOWED.keys() - WITHOUT_EFFECT)
