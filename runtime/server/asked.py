"""What a request asks for, in the words of the engine: prompts, settings and what to report.

Checks what can be told from the request alone; the model's part is checked in served_model.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from runtime.sampling.params import SamplingParams
from runtime.server.errors import HttpError
from runtime.server.formats import constraint_of
from runtime.server.protocol import ChatBody, ChatMessage, CompletionBody, GenerationBody
from runtime.text.template import Message

__all__ = ["Asked", "Prompt", "asked_chat", "asked_completion", "messages_of"]

DEFAULT_MAX_TOKENS = 16  # OpenAI's, of text completions
ROLES = {"developer": "system"}
SETTINGS = (
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "ignore_eos",
)

Prompt: TypeAlias = str | list[int] | list[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for.

    settings: fields of SamplingParams that were given; stop_token_ids are in addition to the
        model's.
    capped: whether max_tokens is a default, which gives way to the room that there is.
    num_prompt_logprobs: likeliest tokens to report beside each of the prompt; None for no report.
    echo: whether the prompt is part of the text; the answer itself is none where no_answer.
    """

    prompts: Sequence[Prompt]
    settings: dict[str, Any]
    n: int = 1
    stop: tuple[str, ...] = ()
    capped: bool = False
    add_bos: bool = True
    echo: bool = False
    no_answer: bool = False
    num_prompt_logprobs: int | None = None
    stream: bool = False
    usage: bool = False
    usage_always: bool = False

    @property
    def num_answers(self) -> int:
        """Answers that it takes."""
        return len(self.prompts) * self.n

    @property
    def num_characters(self) -> int:
        """Of the texts that are to be made tokens."""
        texts = (each for each in self.prompts if isinstance(each, str))
        messages = (each for prompt in self.prompts for each in prompt if isinstance(each, Message))
        return sum(map(len, texts)) + sum(len(message.content) for message in messages)


def asked_completion(body: CompletionBody) -> Asked:
    """What a text completion asks for.

    Raises:
        HttpError, ParameterError: a field is out of its range or not followed.
    """
    settings = _settings(body)
    no_answer = body.max_tokens == 0 and bool(body.echo)
    if no_answer:  # to read the prompt's log-probabilities
        settings["max_tokens"] = 1
    capped = body.max_tokens is None
    if capped:
        settings["max_tokens"] = DEFAULT_MAX_TOKENS
    settings["logprobs"] = body.logprobs
    SamplingParams(**settings)
    if body.stream and no_answer:
        raise HttpError("a stream of no tokens", param="max_tokens", code="invalid_value")
    if body.stream and body.echo and body.logprobs is not None:
        raise HttpError(
            "log-probabilities of the prompt do not come in a stream",
            next_step="leave stream, echo or logprobs out",
            code="unsupported_parameter",
            param="logprobs",
        )
    return Asked(
        prompts=_prompts(body.prompt),
        settings=settings,
        capped=capped,
        add_bos=body.add_special_tokens is not False,
        echo=bool(body.echo),
        no_answer=no_answer,
        num_prompt_logprobs=body.logprobs if body.echo else None,
        **_common(body),
    )


def asked_chat(body: ChatBody) -> Asked:
    """What a chat completion asks for.

    Raises:
        HttpError, ParameterError: a field is out of its range or not followed.
    """
    settings = _settings(body)
    if body.max_completion_tokens is not None:
        settings["max_tokens"] = body.max_completion_tokens
    if body.top_logprobs and not body.logprobs:
        raise HttpError(
            "top_logprobs without logprobs",
            next_step="set logprobs to true",
            code="invalid_value",
            param="top_logprobs",
        )
    settings["logprobs"] = (body.top_logprobs or 0) if body.logprobs else None
    SamplingParams(**settings)
    return Asked(prompts=[messages_of(body.messages)], settings=settings, **_common(body))


def _settings(body: GenerationBody) -> dict[str, Any]:
    """The fields of SamplingParams that were given."""
    given = {name: getattr(body, name) for name in (*SETTINGS, "max_tokens")}
    settings = {name: value for name, value in given.items() if value is not None}
    if body.top_k is not None:
        settings["top_k"] = max(0, body.top_k)
    if body.logit_bias is not None:
        settings["logit_bias"] = {int(key): value for key, value in body.logit_bias.items()}
    constraint = constraint_of(body.response_format)
    if constraint is not None:
        settings["constraint"] = constraint
    if body.stop_token_ids is not None:
        settings["stop_token_ids"] = tuple(body.stop_token_ids)
    return settings


def _common(body: GenerationBody) -> dict[str, Any]:
    """The fields of Asked that both kinds have."""
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    options = body.stream_options
    if options is not None and not body.stream:
        raise HttpError(
            "stream_options without stream",
            next_step="set stream to true",
            code="invalid_value",
            param="stream_options",
        )
    always = options is not None and bool(options.continuous_usage_stats)
    return {
        "n": body.n or 1,
        "stop": tuple(stop for stop in stops if stop is not None),
        "stream": bool(body.stream),
        "usage": options is not None and bool(options.include_usage),
        "usage_always": always,
    }


def messages_of(messages: Sequence[ChatMessage]) -> list[Message]:
    """The messages as the template takes them.

    Raises:
        HttpError: a message of a tool, or a part that is no text.
    """
    return [_message(message) for message in messages]


def _message(message: ChatMessage) -> Message:
    if message.role == "tool":
        raise HttpError(
            "the model knows no tools",
            allowed="messages of system, developer, user and assistant",
            code="unsupported_parameter",
            param="messages",
        )
    role = ROLES.get(message.role, message.role)
    return Message.model_validate({"role": role, "content": _content(message)})


def _content(message: ChatMessage) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    texts = []
    for part in message.content:
        if part.type != "text" or part.text is None:
            raise HttpError(
                "the model reads text alone",
                got=f"a part of type {part.type[:40]!r}",
                allowed='{"type": "text", "text": ...}',
                code="unsupported_parameter",
                param="messages",
            )
        texts.append(part.text)
    return "\n".join(texts)


def _prompts(prompt: str | list[str] | list[int] | list[list[int]]) -> list[Prompt]:
    """One prompt, or several."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [[token_id for token_id in prompt if isinstance(token_id, int)]]
    return [each for each in prompt if not isinstance(each, int)]
