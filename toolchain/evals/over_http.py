"""A server of OpenAI's API as the one who is examined.

Prompts go as token ids. Where logits decide, log-probabilities are read: they differ from logits by
one number, the same for all candidates. The likeliest tokens of one request have all candidates, as
a rule; else each candidate is forced by logit_bias in a request of its own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from runtime.bundle.reader import load_bundle
from runtime.console import LongWork
from runtime.errors import EvalError
from runtime.text.from_bundle import open_tokenizer
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.tokenizer import Tokenizer
from toolchain.evals.answers import Answer, chosen, letter_ids
from toolchain.evals.benchmark import LETTERS
from toolchain.evals.completion_reply import (
    TEXT_INSTEAD,
    read_first,
    read_likeliest,
    read_text,
)
from toolchain.evals.prompts import Prompt
from toolchain.evals.styles import NO_CHOICE, Style, first_letter
from toolchain.remote.event_stream import DONE
from toolchain.remote.server import Server

__all__ = ["OverHTTP", "check_readable", "examine_server", "read_tokenizer"]

PATH = "/v1/completions"
PROBE = "：A 中国 the 3"  # a text that other tokenizers cut otherwise
BIAS = 100  # the most that OpenAI's API takes: makes any token the likeliest
MOST = 20  # likeliest tokens that ours and vLLM's servers show
FLOOR = -9000.0  # below it stands no number: OpenAI writes -9999
SURE = 1 + 1e-6  # probabilities of different tokens add up to no more


def check_readable(style: Style) -> None:
    """Refuses a style that needs more than a server gives.

    Raises:
        EvalError: it changes logits by a factor, and log-probabilities have another zero.
    """
    if style.reading == "choose" and style.repetition_penalty != 1:
        raise EvalError(
            "this style penalises logits, and a server gives log-probabilities only",
            got=f"repetition_penalty {style.repetition_penalty}",
            next_step="evaluate the bundle, or choose --style sdk or alpaca2",
        )


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a bundle, or of a tokenizer.model or the directory that has one.

    Raises:
        BundleError: there is none.
    """
    if (path / "manifest.json").is_file():
        return open_tokenizer(load_bundle(path, LongWork()))
    return SentencePieceTokenizer(path / "tokenizer.model" if path.is_dir() else path)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverHTTP:
    """A model of a server; made by examine_server.

    manifest_sha256: of the bundle that is served, where the server is ours.
    """

    server: Server
    model: str
    tokenizer: Tokenizer
    context_len: int
    concurrency: int
    manifest_sha256: str

    @property
    def described(self) -> dict[str, str]:
        """See Examinee."""
        return {
            "name": self.model,
            "manifest_sha256": self.manifest_sha256,
            "target": "server",
            "url": self.server.root,
        }

    @property
    def identity(self) -> dict[str, JsonValue]:
        """See Examinee; a bundle whose hash is known may move to another address."""
        where = "" if self.manifest_sha256 else self.server.root
        return {
            "manifest_sha256": self.manifest_sha256,
            "server": where,
            "model": self.model,
            "context_len": self.context_len,
        }

    def ask(self, style: Style, prompt: Prompt) -> Answer:
        """See Examinee."""
        return READINGS[style.reading](self, style, prompt)

    def effort(self) -> dict[str, int]:
        """See Examinee: a server does not tell what it computed."""
        return {}

    def body(self, prompt: Prompt, max_tokens: int) -> dict[str, Any]:
        """A greedy request; the penalty would be that of the model's makers, were it not given."""
        return {
            "model": self.model,
            "prompt": list(prompt.token_ids),
            "max_tokens": max_tokens,
            "temperature": 0,
            "repetition_penalty": 1,
        }


def examine_server(
    server: Server, model: str | None, tokenizer: Tokenizer, context_len: int | None, at_once: int
) -> OverHTTP:
    """A model of a server, whose tokenizer is the one that is given.

    Args:
        server: to ask.
        model: its name; None for the server's first.
        tokenizer: that makes the prompts.
        context_len: None for what the server says.
        at_once: questions that it is asked together.

    Raises:
        EvalError: it has another tokenizer, or does not say how long its context is.
        RemoteError: it does not answer.
    """
    found = server.model(model)
    length = context_len or found.context_len or _slot_len(server)
    if length is None:
        raise EvalError(
            f"{server.root} does not say how many tokens its context has",
            next_step="give --context-len",
        )
    ids, own = server.tokenize(PROBE), tokenizer.encode(PROBE)
    if ids is not None and ids != own:
        raise EvalError(
            f"{server.root} has another tokenizer",
            got=f"ids {ids} for {PROBE!r}",
            allowed=f"ids {own}",
            next_step="give the --tokenizer of the model that is served",
        )
    digest = server.find("/version").get("bundle_sha256")
    return OverHTTP(
        server=server,
        model=found.name,
        tokenizer=tokenizer,
        context_len=length,
        concurrency=at_once,
        manifest_sha256=digest if isinstance(digest, str) else "",
    )


def _slot_len(server: Server) -> int | None:
    """What llama.cpp's server says instead."""
    settings = server.find("/props").get("default_generation_settings")
    length = settings.get("n_ctx") if isinstance(settings, dict) else None
    return length if isinstance(length, int) else None


def _generate(examinee: OverHTTP, style: Style, prompt: Prompt) -> Answer:
    """As on a bundle: the stream is left at its first letter, which frees the server."""
    body = examinee.body(prompt, style.max_new_tokens) | {"stream": True}
    text, ended = "", False
    with examinee.server.events(PATH, body) as events:
        for event in events:
            ended = event == DONE
            text += "" if ended else read_text(examinee.server, event)
            if ended or first_letter(text) != NO_CHOICE:
                return Answer(prediction=first_letter(text), text=text)
    raise EvalError(
        f"{examinee.server.root} ended a stream before its last event", next_step="start it again"
    )


def _choose(examinee: OverHTTP, style: Style, prompt: Prompt) -> Answer:
    """As on a bundle, with log-probabilities in the place of logits."""
    check_readable(style)
    forms = [letter_ids(examinee.tokenizer, form) for form in ("{}", "：{}")]
    letters = {ids[i]: letter for ids in forms for i, letter in enumerate(LETTERS)}
    logprobs = _likeliest(examinee, prompt, letters)
    if logprobs is None:
        logprobs = {
            token_id: _forced(examinee, prompt, token_id, letter)
            for token_id, letter in letters.items()
        }
    _check(examinee.server, logprobs)
    return chosen([sum(logprobs[ids[i]] for ids in forms) for i in range(len(LETTERS))])


def _check(server: Server, logprobs: Mapping[int, float]) -> None:
    """Refuses what are no log-probabilities of different tokens of one model.

    Raises:
        EvalError: one is no number, or all together are more than certain.
    """
    no_numbers = [value for value in logprobs.values() if not FLOOR < value < SURE - 1]
    if no_numbers:
        raise EvalError(
            f"{server.root} gives a log-probability that is none",
            got=no_numbers[0],
            next_step=TEXT_INSTEAD,
        )
    total = sum(map(math.exp, logprobs.values()))
    if total > SURE:
        raise EvalError(
            f"{server.root} gives log-probabilities of what logit_bias made",
            got=f"a sum of {total:.3f}",
            allowed="1 at most, those of the model itself",
            next_step=TEXT_INSTEAD,
        )


def _likeliest(
    examinee: OverHTTP, prompt: Prompt, letters: Mapping[int, str]
) -> dict[int, float] | None:
    """Log-probabilities of the letters, if all are among the likeliest and can be told apart.

    A server that shows texts alone must show a letter with a space and one without as two. A byte
    piece has the text of a letter too; no model is trained to prefer it.
    """
    body = examinee.body(prompt, 1) | {"logprobs": MOST}
    found = read_likeliest(examinee.server, examinee.server.post(PATH, body))
    logprobs = {}
    for token_id in letters:
        text = examinee.tokenizer.token_bytes(token_id).decode()
        logprob = found.get(token_id, found.get(text))
        if logprob is None:
            return None
        logprobs[token_id] = logprob
    return logprobs


def _forced(examinee: OverHTTP, prompt: Prompt, token_id: int, letter: str) -> float:
    """The log-probability of one token after the prompt.

    Raises:
        EvalError: the server does not give it.
    """
    body = examinee.body(prompt, 1) | {"logit_bias": {str(token_id): BIAS}, "logprobs": 1}
    token, logprob = read_first(examinee.server, examinee.server.post(PATH, body))
    if token.strip() != letter:
        raise EvalError(
            f"{examinee.server.root} does not give the log-probability of a letter",
            got=repr(token),
            allowed=f"{letter!r}, which logit_bias forces",
            next_step=TEXT_INSTEAD,
        )
    return logprob


READINGS = {"generate": _generate, "choose": _choose}
