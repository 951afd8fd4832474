"""The clock and what is measured with it; the only place that reads a timer."""

import time
from dataclasses import dataclass, field

__all__ = ["Stopwatch", "Timings", "now"]


def now() -> float:
    """Seconds of the process's monotonic clock."""
    return time.perf_counter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where the time of one completion went. Definitions as in `vllm bench serve`.

    ttft_ms: arrival of the text to the first token, tokenisation and sampling included; a graph
        that was not loaded yet is loaded before the clock starts.
    tpot_ms: mean time per output token after the first; None for a single token.
    prefill_tokens_per_s: prompt tokens over the time to the first logits; rows reused from the
        cache count as prompt tokens, as a client sees it.
    decode_tokens_per_s: 1000 / tpot_ms.
    tokenize_ms, sample_ms, detokenize_ms: pre- and post-processing, sums over the completion.
    """

    ttft_ms: float
    tpot_ms: float | None
    prefill_tokens_per_s: float
    decode_tokens_per_s: float | None
    tokenize_ms: float
    sample_ms: float
    detokenize_ms: float


@dataclass(slots=True)
class Stopwatch:
    """Collects the moments of one completion; starts when it is made."""

    started: float = field(default_factory=now)
    tokenized: float = 0.0
    first_logits: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    sample_s: float = 0.0
    detokenize_s: float = 0.0

    def leave_out(self, seconds: float) -> None:
        """Moves the start: loading a graph before its first run is no part of an answer."""
        self.started += seconds
        self.tokenized += seconds

    def saw_token(self, logits_at: float, sampled_at: float) -> None:
        """Notes a token: when its logits were there and when it was chosen."""
        if not self.first_token:
            self.first_logits, self.first_token = logits_at, sampled_at
        self.last_token = sampled_at
        self.sample_s += sampled_at - logits_at

    def timings(self, prompt_tokens: int, completion_tokens: int) -> Timings:
        """Sums up; call it after the last token."""
        per_token = None
        if completion_tokens > 1:
            per_token = (self.last_token - self.first_token) / (completion_tokens - 1)
        return Timings(
            ttft_ms=1e3 * (self.first_token - self.started),
            tpot_ms=None if per_token is None else 1e3 * per_token,
            prefill_tokens_per_s=prompt_tokens / (self.first_logits - self.tokenized),
            decode_tokens_per_s=None if per_token is None else 1.0 / per_token,
            tokenize_ms=1e3 * (self.tokenized - self.started),
            sample_ms=1e3 * self.sample_s,
            detokenize_ms=1e3 * self.detokenize_s,
        )
