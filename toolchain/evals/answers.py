"""Puts a prompt to the model and reads its choice."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.errors import EvalError
from runtime.sampling.params import SamplingParams
from runtime.sessions.base import Logits
from runtime.text.tokenizer import StreamingDetokenizer, Tokenizer
from toolchain.evals.benchmark import LETTERS
from toolchain.evals.prompts import Prompt
from toolchain.evals.styles import NO_CHOICE, Style, first_letter

__all__ = ["Answer", "ask", "chosen", "letter_ids"]


ONE_TOKEN = SamplingParams(max_tokens=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model chose.

    text: what it wrote, up to the letter that counts.
    scores: of A to D, where they decided: sums of logits, or of log-probabilities over HTTP.
    """

    prediction: str
    text: str
    scores: tuple[float, ...] = ()


def ask(scheduler: Scheduler, tokenizer: Tokenizer, style: Style, prompt: Prompt) -> Answer:
    """The model's choice, read as the style says."""
    return READINGS[style.reading](scheduler, tokenizer, style, prompt)


def _generate(scheduler: Scheduler, tokenizer: Tokenizer, style: Style, prompt: Prompt) -> Answer:
    """Greedy text up to its first letter: what comes after it cannot change the choice."""
    params = SamplingParams(
        max_tokens=style.max_new_tokens, stop_token_ids=(tokenizer.eos_token_id,)
    )
    detokenizer, text = StreamingDetokenizer(tokenizer, at_start=False), ""
    request = Request(prompt_ids=prompt.token_ids, params=params, shared=prompt.shared)
    with closing(generate(scheduler, request)) as tokens:
        for token in tokens:
            # A model padded to a round vocabulary may choose an id that stands for no text.
            text += detokenizer.add(token.id) if token.id < tokenizer.vocab_size else ""
            if first_letter(text) != NO_CHOICE:
                break
    return Answer(prediction=first_letter(text), text=text)


def _choose(scheduler: Scheduler, tokenizer: Tokenizer, style: Style, prompt: Prompt) -> Answer:
    """The letter whose logits, with and without a space before it, have the largest sum.

    The rule of constrained decoding in ymcui/Chinese-LLaMA-Alpaca-2, scripts/ceval. Needs the
    prefill only. The first of equals wins. Their temperature of 0.2 changes no order; their penalty
    on ids that the prompt has can.
    """
    request = Request(
        prompt_ids=prompt.token_ids, params=ONE_TOKEN, shared=prompt.shared, keep_logits=True
    )
    [token] = generate(scheduler, request)
    logits = token.logits
    assert logits is not None, "it was asked to bring them"
    spaced, bare = (
        _penalised(logits, letter_ids(tokenizer, form), prompt.token_ids, style.repetition_penalty)
        for form in ("{}", "：{}")
    )
    return chosen((spaced + bare).tolist())


def chosen(scores: Sequence[float]) -> Answer:
    """The letter of the largest score of A to D; the first of equals."""
    letter = LETTERS[int(np.argmax(scores))]
    return Answer(prediction=letter, text=letter, scores=tuple(scores))


def _penalised(
    logits: Logits, ids: Sequence[int], prompt_ids: Sequence[int], penalty: float
) -> NDArray[np.float64]:
    """Logits of ids, those of the prompt made less likely, as transformers does it."""
    values = logits[ids].astype(np.float64)
    lower = np.where(values < 0, values * penalty, values / penalty)
    return np.where(np.isin(ids, prompt_ids), lower, values)


def letter_ids(tokenizer: Tokenizer, form: str) -> list[int]:
    """The last token of each letter in a form such as "{}".

    Raises:
        EvalError: two letters have the same one.
    """
    token_ids = [tokenizer.encode(form.format(letter))[-1] for letter in LETTERS]
    if len(set(token_ids)) < len(LETTERS):
        raise EvalError(
            "the tokenizer does not tell A, B, C and D apart",
            got=f"ids {token_ids}",
            next_step="choose --style sdk, which reads text",
        )
    return token_ids


READINGS: dict[str, Callable[[Scheduler, Tokenizer, Style, Prompt], Answer]] = {
    "generate": _generate,
    "choose": _choose,
}
