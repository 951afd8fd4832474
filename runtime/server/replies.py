"""What clients are answered: the objects of OpenAI's API."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from runtime.engine.sequence import FinishReason

__all__ = [
    "ChatChoice",
    "ChatChunk",
    "ChatChunkChoice",
    "ChatCompletion",
    "ChatDelta",
    "ChatLogprobs",
    "ChatMessageOut",
    "CompletionChoice",
    "CompletionObject",
    "Detokenized",
    "ErrorBody",
    "Health",
    "LegacyLogprobs",
    "ModelCard",
    "ModelList",
    "Reply",
    "TokenLogprob",
    "Tokenized",
    "TokenizerInfo",
    "TopLogprob",
    "Usage",
    "Version",
]


class Reply(BaseModel):
    """An object of an answer."""

    model_config = ConfigDict(frozen=True)


class ErrorDetail(Reply):
    """n_prompt_tokens and n_ctx are there where a prompt is too long."""

    message: str
    type: str
    param: str | None
    code: str
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class ErrorBody(Reply):
    """The body of every answer that is not 200."""

    error: ErrorDetail


class Usage(Reply):
    """completion_tokens counts the token that ends an answer, as vLLM does."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class LegacyLogprobs(Reply):
    """The log-probabilities of a text completion: one entry a token in each list."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Reply):
    """One answer of a text completion, or a piece of it in a stream."""

    index: int
    text: str
    finish_reason: FinishReason | None
    logprobs: LegacyLogprobs | None
    stop_reason: int | str | None


class Envelope(Reply):
    """What all four objects of completions begin with."""

    id: str
    created: int
    model: str
    system_fingerprint: str


class CompletionObject(Envelope):
    """A text completion, or one event of its stream."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[CompletionChoice]
    usage: Usage | None = None


class TopLogprob(Reply):
    """One of the likeliest tokens; bytes are those of its text, perhaps part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token of the answer."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Reply):
    """The log-probabilities of a chat completion."""

    content: list[TokenLogprob]


class ChatMessageOut(Reply):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(Reply):
    """One answer."""

    index: int
    message: ChatMessageOut
    finish_reason: FinishReason
    logprobs: ChatLogprobs | None
    stop_reason: int | str | None


class ChatCompletion(Envelope):
    """A chat completion."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[ChatChoice]
    usage: Usage


class ChatDelta(Reply):
    """A piece of the answer; the first one has the role."""

    role: Literal["assistant"] | None = None
    content: str

    @model_serializer(mode="wrap")
    def _without_null(self, serialize: SerializerFunctionWrapHandler) -> dict[str, str]:
        """OpenAI's own client adds deltas up, and expects no null among them."""
        return {key: value for key, value in serialize(self).items() if value is not None}


class ChatChunkChoice(Reply):
    """A piece of one answer."""

    index: int
    delta: ChatDelta
    finish_reason: FinishReason | None
    logprobs: ChatLogprobs | None
    stop_reason: int | str | None


class ChatChunk(Envelope):
    """One event of a stream."""

    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


class ModelCard(Reply):
    """A model; max_model_len is what prompt and answer may have together.

    root: its name once more; `vllm bench serve` without a model reads it.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    root: str
    max_model_len: int


class ModelList(Reply):
    """The models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Tokenized(Reply):
    """Token ids of a text."""

    tokens: list[int]
    count: int
    max_model_len: int


class Detokenized(Reply):
    """Text of token ids."""

    prompt: str


class TokenizerInfo(Reply):
    """What lm-evaluation-harness asks of a tokenizer."""

    tokenizer_class: str
    bos_token: str | None
    eos_token: str
    unk_token: str | None
    model_max_length: int
    chat_template: None = None


class Health(Reply):
    """status: loading, ready, draining or failed; progress is that of loading, 0 to 1."""

    status: Literal["loading", "ready", "draining", "failed"]
    step: str | None = None
    progress: float | None = None


class Version(Reply):
    """Versions of what runs."""

    version: str
    bundle_sha256: str | None
    backend: str | None
