"""The model that is served: its names, its tokenizer, its settings and its engines."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from runtime.completion import encode_prompt
from runtime.engine.sequence import Request
from runtime.sampling.params import SamplingParams, check_vocab
from runtime.server.asked import Asked, Prompt
from runtime.server.engines import Engines
from runtime.server.errors import HttpError
from runtime.server.formats import Compile
from runtime.text.template import Message
from runtime.text.tokenizer import Tokenizer

__all__ = ["Prepared", "ServedModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A prompt and the settings of each of its answers.

    text: of the prompt, to be shown before the answer; None where it is not asked for.
    at_start: whether the answer begins a text.
    """

    prompt_ids: list[int]
    text: str | None
    at_start: bool
    requests: list[Request]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that answers.

    names: what requests may call it; the first is the one that answers have.
    created: seconds since 1970.
    digest: of the bundle.
    defaults: its makers' settings.
    compile_format: makes the grammar that an answer is bound to.
    """

    names: tuple[str, ...]
    created: int
    digest: str
    backend: str
    tokenizer: Tokenizer
    defaults: SamplingParams
    engines: Engines
    compile_format: Compile

    @property
    def name(self) -> str:
        """The name that answers have."""
        return self.names[0]

    @property
    def context_len(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self.engines.engine.context_len

    @property
    def fingerprint(self) -> str:
        """The same for answers of the same bundle."""
        return f"fp_{self.digest[:10]}"

    def close(self) -> None:
        """Ends every answer, and gives back what the device holds."""
        self.engines.close()

    def check_name(self, name: str | None) -> None:
        """Refuses a request for another model.

        Raises:
            HttpError: there is no such model.
        """
        if name is not None and name not in self.names:
            raise HttpError(
                "no such model",
                got=repr(name[:100]),
                allowed=", ".join(self.names),
                code="model_not_found",
                param="model",
            )

    def prepare(self, asked: Asked, start_by: float) -> list[Prepared]:
        """Makes the requests of the engine; takes long for long texts.

        Raises:
            HttpError, PromptError, ParameterError: a prompt or a setting cannot be used.
        """
        stop_token_ids = (*self.defaults.stop_token_ids, *asked.settings.get("stop_token_ids", ()))
        merged = {**self.defaults.model_dump(), **asked.settings, "stop_token_ids": stop_token_ids}
        check_vocab(SamplingParams(**merged), self.engines.engine.vocab_size)
        return [self._prepare(prompt, merged, asked, start_by) for prompt in asked.prompts]

    def encode(self, prompt: Prompt, *, add_bos: bool) -> list[int]:
        """Token ids of a prompt.

        Raises:
            HttpError, PromptError: it is empty, too long or not valid text.
        """
        if isinstance(prompt, str):
            return encode_prompt(self.tokenizer, prompt, self.context_len, add_bos=add_bos)
        if prompt and isinstance(prompt[0], Message):
            messages = [each for each in prompt if isinstance(each, Message)]
            return encode_prompt(self.tokenizer, messages, self.context_len)
        return [each for each in prompt if isinstance(each, int)]

    def _prepare(
        self, prompt: Prompt, merged: dict[str, Any], asked: Asked, start_by: float
    ) -> Prepared:
        token_ids = self.encode(prompt, add_bos=asked.add_bos)
        self._check_room(len(token_ids), merged, capped=asked.capped)
        self.engines.engine.check_prompt(token_ids)
        room = self.context_len - len(token_ids) + 1
        settings = merged
        if asked.capped:
            settings = {**merged, "max_tokens": min(room, merged["max_tokens"])}
        is_chat = not isinstance(prompt, str) and isinstance(prompt[0], Message)
        start_constraint = None
        if settings.get("constraint") is not None:
            start_constraint = partial(
                self.compile_format(settings["constraint"]).start,
                at_start=is_chat,
                stop_token_ids=settings["stop_token_ids"],
            )
        requests = [
            Request(
                prompt_ids=token_ids,
                params=SamplingParams(**{**settings, "seed": _seed(merged["seed"], i)}),
                prompt_logprobs=asked.num_prompt_logprobs,
                start_constraint=start_constraint,
                start_by=start_by,
            )
            for i in range(asked.n)
        ]
        text = None
        if asked.echo:
            text = prompt if isinstance(prompt, str) else self.tokenizer.decode(token_ids)
        return Prepared(prompt_ids=token_ids, text=text, at_start=is_chat, requests=requests)

    def _check_room(self, num_tokens: int, settings: dict[str, Any], *, capped: bool) -> None:
        """Refuses what does not fit together; nothing is cut off in silence."""
        wanted = 1 if capped else settings["max_tokens"] or 1
        room = self.context_len - num_tokens + 1  # the last token needs no row
        if wanted > room:
            error = HttpError(
                "prompt and answer are longer than the context",
                got=f"{num_tokens} tokens of prompt and {wanted} of answer",
                allowed=f"{self.context_len + 1} together",
                next_step="shorten the prompt, or ask for fewer tokens",
                code="context_length_exceeded",
            )
            error.details = {"n_prompt_tokens": num_tokens, "n_ctx": self.context_len}
            raise error


def _seed(seed: int | None, i: int) -> int | None:
    """The seed of the i-th answer; one beyond 64 bits goes on from the other end."""
    return None if seed is None else (seed + i + 2**63) % 2**64 - 2**63
