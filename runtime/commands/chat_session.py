"""A chat: asks the model one question after the other, and prints what it answers."""

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from runtime.commands.interrupt import interruptible
from runtime.commands.model import merged, summary
from runtime.completion import Completion, CompletionChunk, encode_prompt, stream_completion
from runtime.console import note, show
from runtime.engine.scheduler import Scheduler
from runtime.errors import PromptError
from runtime.sampling.params import SamplingParams
from runtime.text.conversation import Conversation, with_room
from runtime.text.template import Message
from runtime.text.tokenizer import Tokenizer
from runtime.timing import now

__all__ = ["Chat", "Totals"]

# A prompt leaves this fraction of the cache to its answer, unless max_tokens asks for less.
ANSWER_FRACTION = 1 / 4
# What the turns that stay may fill when the oldest are dropped: a prompt with another beginning is
# computed from its first token, so that is done seldom and not before every question.
KEPT_FRACTION = 1 / 2


@dataclass(slots=True)
class Answer:
    """An answer as it comes; moments are of the process's clock, in seconds."""

    texts: list[str] = field(default_factory=list)
    first_token: float = 0.0
    last_token: float = 0.0
    completion: Completion | None = None

    def add(self, chunk: CompletionChunk) -> None:
        """Takes what one more token brought."""
        self.last_token = now()
        self.first_token = self.first_token or self.last_token
        self.texts.append(chunk.text)
        self.completion = chunk.completion

    @property
    def text(self) -> str:
        """What is there so far."""
        return "".join(self.texts)

    @property
    def pace(self) -> str:
        """How many tokens there are, and how fast they came after the first."""
        num_tokens = len(self.texts)
        if num_tokens < 2:
            return f"{num_tokens} new tokens"
        rate = (num_tokens - 1) / (self.last_token - self.first_token)
        return f"{num_tokens} new tokens ({rate:.1f} tokens/s)"


@dataclass(slots=True)
class Totals:
    """Sums over the answers of a chat; times in seconds.

    prompt_tokens, first_token_s: of finished answers alone, whose time to the first token is known
        without the loading of graphs.
    later_tokens, later_s: tokens after the first, and the time they took.
    """

    finished: int = 0
    stopped: int = 0
    new_tokens: int = 0
    prompt_tokens: int = 0
    first_token_s: float = 0.0
    later_tokens: int = 0
    later_s: float = 0.0

    def add(self, answer: Answer) -> None:
        """Takes one more answer."""
        self.new_tokens += len(answer.texts)
        self.later_tokens += len(answer.texts) - 1
        self.later_s += answer.last_token - answer.first_token
        if answer.completion is None:
            self.stopped += 1
            return
        self.finished += 1
        self.prompt_tokens += answer.completion.prompt_tokens
        self.first_token_s += answer.completion.timings.ttft_ms / 1e3


@dataclass(slots=True)
class Chat:
    """A model, what was said to it, and how it is to answer.

    Attributes:
        defaults: the model's own settings.
        settings: those that were chosen instead.
        stops: texts before which an answer ends.
    """

    scheduler: Scheduler
    tokenizer: Tokenizer
    defaults: SamplingParams
    settings: dict[str, Any]
    stops: Sequence[str]
    conversation: Conversation
    totals: Totals = field(default_factory=Totals)

    @property
    def params(self) -> SamplingParams:
        """How the next answer is sampled."""
        return merged(self.defaults, self.settings)

    @property
    def context_len(self) -> int:
        """Rows of a cache slot, which prompt and answer share."""
        return self.scheduler.engine.context_len

    @property
    def held_tokens(self) -> int:
        """Tokens of the cache that the conversation takes, without a question."""
        # A system prompt that the template writes by itself is not the conversation's.
        bare = "" if self.tokenizer.template.default_system_prompt is not None else None
        question = self.count(Conversation(system=bare).asking("?"))
        return self.count(self.conversation.asking("?")) - question

    @property
    def reused_fraction(self) -> float:
        """Of all prompt tokens, those whose rows were still in the cache."""
        engine = self.scheduler.engine
        reused, computed = engine.prefix_hits, engine.computed_tokens
        return reused / max(1, reused + computed)

    def ask(self, question: str) -> None:
        """Prints the answer as it comes. What Ctrl-C leaves of it stays in the conversation.

        Raises:
            PromptError: the question alone is too long.
            ParameterError: a setting names a token that the model does not have.
            SessionError: the model gave unusable numbers.
        """
        kept = self._with_room(question)
        asked = kept.asking(question)
        answer = Answer()
        with suppress(KeyboardInterrupt):  # told below by what there is
            self._print(asked, answer)
        if answer.completion is None and not answer.text:
            note("\nstopped; the question is forgotten")
            return
        show("")
        self.conversation = kept.answered(question, answer.text)
        self.totals.add(answer)
        if answer.completion is None:
            note(f"[stopped: {answer.pace}, which stay in the conversation]")
        else:
            note(summary(answer.completion))

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of a prompt; of one that is far too long, one more than the cache holds."""
        try:
            return len(encode_prompt(self.tokenizer, messages, self.context_len))
        except PromptError as error:
            if error.code != "context_length_exceeded":
                raise
            return self.context_len + 1

    def _with_room(self, question: str) -> Conversation:
        """The conversation with room for an answer, after telling what had to go."""
        params, longest = self.params, self.context_len
        if params.max_tokens is None and params.max_length is not None:
            longest = min(longest, params.max_length)
        room = int(longest * ANSWER_FRACTION)
        kept = with_room(
            self.conversation,
            question,
            self.count,
            most=longest - min(room, params.max_tokens or room),
            goal=int(longest * KEPT_FRACTION),
        )
        dropped = len(self.conversation.turns) - len(kept.turns)
        if dropped and self.count(kept.asking(question)) <= longest:
            turns = "turn is" if dropped == 1 else f"{dropped} turns are"
            note(f"the conversation is longer than the cache: its oldest {turns} forgotten")
        return kept

    def _print(self, asked: Sequence[Message], answer: Answer) -> None:
        chunks = stream_completion(self.scheduler, self.tokenizer, asked, self.params, self.stops)
        with interruptible() as interrupt, closing(chunks):
            for chunk in chunks:
                interrupt.steps_are_short = True  # before, a long prompt is computed
                answer.add(chunk)
                show(chunk.text, end="")
                if interrupt.wanted:
                    return
