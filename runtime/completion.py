"""Text in, text out: template, tokenizer, stop strings and timings around the token loop.

Knows nothing of HTTP or of terminals.
"""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

from runtime.engine.generate import generate, running
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import FinishReason, Logprobs, Request, Token
from runtime.errors import PromptError
from runtime.sampling.constraint import StartConstraint
from runtime.sampling.params import SamplingParams
from runtime.text.stop_strings import StopStrings
from runtime.text.template import Message, encode_chat
from runtime.text.tokenizer import StreamingDetokenizer, Tokenizer
from runtime.timing import Stopwatch, Timings, now

__all__ = [
    "AnswerText",
    "Completion",
    "CompletionBuilder",
    "CompletionChunk",
    "complete",
    "complete_many",
    "encode_prompt",
    "stream_completion",
]

Prompt = str | Sequence[Message]
SHORT = 8  # characters a token; what has no more is not worth a second look


StopReason = int | str  # the token id or the stop string that ended an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionChunk:
    """Text that has become certain, and the token that brought it; the last one sums up."""

    text: str
    token: Token
    completion: "Completion | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A finished answer. completion_tokens counts the stop token, as vLLM does.

    stop_reason: the stop string or the token id that ended it; None for another end.
    logprobs: of its tokens, where they were asked for.
    """

    text: str
    token_ids: list[int]
    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason
    stop_reason: StopReason | None
    logprobs: list[Logprobs] | None
    timings: Timings

    @property
    def mean_logprob(self) -> float:
        """In nats per token; they must have been asked for."""
        assert self.logprobs is not None, "they were asked for"
        return sum(each.logprob for each in self.logprobs) / len(self.logprobs)


def encode_prompt(
    tokenizer: Tokenizer, prompt: Prompt, context_len: int, *, add_bos: bool = True
) -> list[int]:
    """A plain text becomes BOS and its tokens; messages go through the chat template.

    Raises:
        PromptError: a text that is too long whatever its tokens are, or not valid text.
    """
    texts = [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
    _check_length(tokenizer, sum(map(len, texts)), context_len)
    if isinstance(prompt, str):
        return tokenizer.encode(prompt, add_bos=add_bos) if prompt else []
    return encode_chat(tokenizer, prompt)


def _check_length(tokenizer: Tokenizer, num_characters: int, context_len: int) -> None:
    """Refuses megabytes before they are made tokens, which takes seconds for each of them."""
    if num_characters <= SHORT * context_len:
        return
    fewest = tokenizer.fewest_tokens(num_characters)
    if fewest > context_len:
        raise PromptError(
            "the prompt is longer than the cache",
            got=f"{num_characters} characters, which are at least {fewest} tokens",
            allowed=f"1 to {context_len} tokens",
            next_step="shorten it, or export with a longer cache_len in the profile",
            code="context_length_exceeded",
        )


class AnswerText:
    """Turns the tokens of an answer into its text, up to a stop string.

    Args:
        tokenizer: the model's.
        stop: strings that end the answer and are no part of it.
        at_start: whether the answer begins a text; else it goes on with the prompt's, and the
            space that parts it from the first word counts.

    Raises:
        ParameterError: an empty stop string.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], *, at_start: bool) -> None:
        self._num_texts = tokenizer.vocab_size
        self._detokenizer = StreamingDetokenizer(tokenizer, at_start=at_start)
        self._stop_strings = StopStrings(stop)
        self.finish_reason: FinishReason | None = None
        self.stop_reason: StopReason | None = None

    def add(self, token: Token) -> str:
        """The text that a token makes certain; sets finish_reason where it is the last one."""
        # A model padded to a round vocabulary may choose an id that stands for no text; a token
        # that stops the answer is no part of it, even where it has one.
        shown = token.id < self._num_texts and token.stop_reason is None
        text = self._stop_strings.add(self._detokenizer.add(token.id) if shown else "")
        self.finish_reason, self.stop_reason = token.finish_reason, token.stop_reason
        if token.finish_reason is not None:
            text += self._stop_strings.add(self._detokenizer.flush())
            text += self._stop_strings.flush()
        if self._stop_strings.hit is not None:
            self.finish_reason, self.stop_reason = "stop", self._stop_strings.hit
        return text


class CompletionBuilder:
    """Makes chunks, and in the end a completion, of the tokens of one answer.

    Args:
        tokenizer: the model's.
        prompt: the text or the messages, which tell whether the answer begins a text.
        prompt_ids: their ids.
        stop: as AnswerText.
        watch: started when the text arrived.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Prompt,
        prompt_ids: Sequence[int],
        stop: Sequence[str],
        watch: Stopwatch,
    ) -> None:
        self._answer = AnswerText(tokenizer, stop, at_start=not isinstance(prompt, str))
        self._prompt_tokens = len(prompt_ids)
        self._watch = watch
        self._token_ids: list[int] = []
        self._texts: list[str] = []
        self._logprobs: list[Logprobs] = []

    def add(self, token: Token) -> CompletionChunk:
        """The chunk of a token; the last one carries the completion."""
        watch, answer = self._watch, self._answer
        watch.saw_token(token.logits_at, token.sampled_at)
        self._token_ids.append(token.id)
        if token.logprobs is not None:
            self._logprobs.append(token.logprobs)
        started = now()
        self._texts.append(answer.add(token))
        watch.detokenize_s += now() - started
        if answer.finish_reason is None:
            return CompletionChunk(text=self._texts[-1], token=token)
        num_tokens = len(self._token_ids)
        completion = Completion(
            text="".join(self._texts),
            token_ids=self._token_ids,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=num_tokens,
            finish_reason=answer.finish_reason,
            stop_reason=answer.stop_reason,
            logprobs=self._logprobs or None,
            timings=watch.timings(self._prompt_tokens, num_tokens),
        )
        return CompletionChunk(text=self._texts[-1], token=token, completion=completion)


def stream_completion(
    scheduler: Scheduler,
    tokenizer: Tokenizer,
    prompt: Prompt,
    params: SamplingParams,
    stop: Sequence[str] = (),
    start_constraint: StartConstraint | None = None,
) -> Generator[CompletionChunk, None, None]:
    """Yields one chunk per token; the last one carries the `Completion`.

    A constraint must know whether the answer begins a text, which one to messages does.

    Raises:
        PromptError: the prompt is empty, too long or not valid text.
        ParameterError: a token id in the parameters is not in the vocabulary, or an empty stop.
        SessionError: as generate.
    """
    watch = Stopwatch()
    prompt_ids = _encoded(scheduler, tokenizer, prompt, watch)
    builder = CompletionBuilder(tokenizer, prompt, prompt_ids, stop, watch)
    request = Request(prompt_ids=prompt_ids, params=params, start_constraint=start_constraint)
    with closing(generate(scheduler, request)) as tokens:
        for token in tokens:
            chunk = builder.add(token)
            yield chunk
            if chunk.completion is not None:
                return


def complete(
    scheduler: Scheduler,
    tokenizer: Tokenizer,
    prompt: Prompt,
    params: SamplingParams,
    stop: Sequence[str] = (),
    start_constraint: StartConstraint | None = None,
) -> Completion:
    """Runs `stream_completion` to its end."""
    *_, last = stream_completion(scheduler, tokenizer, prompt, params, stop, start_constraint)
    assert last.completion is not None, "the last chunk sums up"
    return last.completion


def complete_many(
    scheduler: Scheduler,
    tokenizer: Tokenizer,
    prompt: Prompt,
    params: SamplingParams,
    stop: Sequence[str] = (),
    start_constraint: StartConstraint | None = None,
    *,
    num_answers: int,
    best_of: int | None = None,
) -> list[Completion]:
    """Several answers to one prompt, which is run once; they are made side by side.

    With a seed, answer i has the seed + i. Of `best_of` answers the `num_answers` with the highest
    mean log-probability are returned, best first; without it, `num_answers` in order.

    Raises:
        PromptError, ParameterError: as stream_completion.
    """
    watch = Stopwatch()
    prompt_ids = _encoded(scheduler, tokenizer, prompt, watch)
    if best_of is not None:
        params = params.model_copy(update={"logprobs": params.logprobs or 0})
    with ExitStack() as stack:
        answers = []
        for i in range(best_of or num_answers):
            seed = None if params.seed is None else params.seed + i
            seeded = params.model_copy(update={"seed": seed})
            request = Request(
                prompt_ids=prompt_ids, params=seeded, start_constraint=start_constraint
            )
            sequence = stack.enter_context(running(scheduler, request))
            builder = CompletionBuilder(tokenizer, prompt, prompt_ids, stop, replace(watch))
            answers.append((sequence, builder))
        made: list[Completion | None] = [None for _ in answers]
        while None in made:
            scheduler.step()
            for i, (sequence, builder) in enumerate(answers):
                if made[i] is None:
                    made[i] = _advance(builder, sequence.take())
                    if made[i] is not None:  # perhaps by a stop string, of which it knows nothing
                        scheduler.abort(sequence)
    completions = [completion for completion in made if completion is not None]
    if best_of is None:
        return completions
    completions.sort(key=lambda completion: -completion.mean_logprob)
    return completions[:num_answers]


def _advance(builder: CompletionBuilder, tokens: list[Token]) -> Completion | None:
    """Adds tokens; gives the completion with the last one."""
    for token in tokens:
        chunk = builder.add(token)
        if chunk.completion is not None:
            return chunk.completion
    return None


def _encoded(
    scheduler: Scheduler, tokenizer: Tokenizer, prompt: Prompt, watch: Stopwatch
) -> list[int]:
    """Ids of a prompt; loading the graphs that it needs is not on the watch."""
    prompt_ids = encode_prompt(tokenizer, prompt, scheduler.engine.context_len)
    watch.tokenized = now()
    scheduler.engine.prepare(len(prompt_ids))
    watch.leave_out(now() - watch.tokenized)
    return prompt_ids
