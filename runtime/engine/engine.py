"""Which graph, which chunk, which slot: token ids in, rows of logits out.

The engine knows nothing about text, sampling or HTTP.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from runtime.bundle.manifest import Graph, Phase
from runtime.engine.chunks import plan_chunks
from runtime.engine.kv_cache import KVCache, Slot, common_prefix
from runtime.errors import PromptError, SessionError
from runtime.sessions.base import Chunk, Logits, Session

__all__ = ["Engine"]


class Engine:
    """Runs prompts and tokens of many sequences on one session.

    A prompt reuses the rows of its longest prefix that any slot holds. They are the very bits that
    the same tokens left there; only the cut into chunks, which follows the reused rows, can move
    the last bits of a logit. Where a prompt says what it `shared`, not even that.

    Args:
        session: the device.
        reuse_prefix: whether rows are reused at all; off only to measure what reuse saves.
    """

    def __init__(self, session: Session, *, reuse_prefix: bool = True) -> None:
        self._session = session
        self._reuse_prefix = reuse_prefix
        manifest = session.manifest
        self.vocab_size = manifest.model.vocab_size
        self.context_len = manifest.cache_len
        self._cache = KVCache(manifest.num_slots, manifest.cache_len)
        self._graphs = manifest.graphs
        # A decode graph of one sequence is also the shortest prefill graph.
        self._prefill = self._by_seq_len("prefill", "decode")
        self._score = self._by_seq_len("score")
        self.prefix_hits = 0
        """Prompt tokens whose rows were found in the cache, over the engine's life."""
        self.prefix_prompts = 0
        """Prompts that found any."""
        self.computed_tokens = 0
        """Prompt tokens that were run."""

    def _by_seq_len(self, *phases: Phase) -> dict[int, Graph]:
        return {
            graph.spec.seq_len: graph
            for graph in self._graphs
            if graph.spec.phase in phases
            and graph.spec.batch_size == 1
            and graph.spec.cache_len == self.context_len
        }

    @contextmanager
    def slot(self, prompt: Sequence[int]) -> Iterator[Slot]:
        """Lends a cache slot to a prompt, with all rows of it that any slot holds.

        Given back, a slot keeps what it holds, or of a prompt that said what it `shared` just that.
        """
        slot = self._cache.acquire(prompt)
        try:
            if self._reuse_prefix:
                self._copy_prefix(slot, prompt)
            yield slot
        finally:
            if slot.shared:
                slot.truncate(slot.shared)
            self._cache.release(slot)

    def _copy_prefix(self, slot: Slot, prompt: Sequence[int]) -> None:
        best = self._cache.longest_prefix(prompt)
        found = common_prefix(best.token_ids, prompt)
        if found > common_prefix(slot.token_ids, prompt):
            slot.truncate(0)  # before its rows are written over
            self._session.copy_rows(best.index, slot.index, found)
            slot.append(best.token_ids[:found])
            slot.shared = best.shared if best.shared <= found else 0

    def prepare(self, num_tokens: int) -> None:
        """Loads the graphs that a prompt of this length and its answer will run."""
        for seq_len in {1, *self._plan(num_tokens, self._prefill)} & set(self._prefill):
            self._session.prepare(self._prefill[seq_len])

    def prefill(self, slot: Slot, token_ids: Sequence[int], shared: int = 0) -> Logits:
        """Makes the slot hold these tokens, reusing the rows of a shared prefix.

        Args:
            slot: where the rows go.
            token_ids: the whole prompt.
            shared: leading tokens that many prompts have in common. They are run by themselves
                and reused all or not at all, so the logits have the same bits either way.

        Returns:
            float32 (V,), the logits after the last token.

        Raises:
            PromptError: no tokens, or more than the cache holds.
        """
        self.check_prompt(token_ids)
        # The last token always runs, since its logits are wanted.
        shared = min(shared, len(token_ids) - 1)
        reused = self._reusable(slot, token_ids, shared)
        self.prefix_hits += reused
        self.prefix_prompts += reused > 0
        self.computed_tokens += len(token_ids) - reused
        slot.truncate(reused)
        if reused < shared:
            self._extend(slot, token_ids[:shared])
        slot.shared = shared
        return self._extend(slot, token_ids[max(reused, shared) :]).copy()  # the next run reuses it

    def _reusable(self, slot: Slot, token_ids: Sequence[int], shared: int) -> int:
        """Leading rows of the slot that a prompt may keep."""
        found = common_prefix(slot.token_ids, token_ids) if self._reuse_prefix else 0
        if not shared:
            return min(found, len(token_ids) - 1)
        return shared if slot.shared == shared <= found else 0

    def _extend(self, slot: Slot, token_ids: Sequence[int]) -> Logits:
        """Runs tokens after what the slot holds; the logits are valid until the next run."""
        logits: Logits = np.empty(0, np.float32)
        for graph, chunk in self._chunks(self._prefill, slot, token_ids):
            logits = self._session.run(graph, [chunk])[0]
            slot.append(chunk.token_ids)
        return logits

    def score(self, slot: Slot, token_ids: Sequence[int]) -> Iterator[Logits]:
        """Runs tokens after what the slot holds and yields the logits of every one of them.

        Yields:
            float32 (n, V) per chunk; all chunks together have len(token_ids) rows.

        Raises:
            SessionError: the bundle has no score graph.
            PromptError: no tokens, or more than the cache has room for.
        """
        if not self._score:
            raise SessionError(
                "the bundle has no score graph",
                next_step="add one to the profile, then export and compile again",
                code="unsupported_parameter",
            )
        self.check_prompt(token_ids)
        self.check_prompt([*slot.token_ids, *token_ids])
        for graph, chunk in self._chunks(self._score, slot, token_ids):
            rows = self._session.run(graph, [chunk])[0, : len(chunk.token_ids)].copy()
            slot.append(chunk.token_ids)
            yield rows

    def decode(self, slots: Sequence[Slot], token_ids: Sequence[int]) -> Logits:
        """Appends one token to each sequence.

        Args:
            slots: sequences, each with room for a row.
            token_ids: the token of each.

        Returns:
            float32 (len(slots), V), the logits after each token.
        """
        chunks = [
            Chunk(slot=slot.index, start=slot.length, token_ids=[token])
            for slot, token in zip(slots, token_ids, strict=True)
        ]
        graph = self._decode_graph(chunks)
        if graph is not None:
            logits = self._session.run(graph, chunks).copy()
        else:  # no graph holds these slots side by side: one after the other
            one = self._prefill[1]
            logits = np.concatenate([self._session.run(one, [chunk]).copy() for chunk in chunks])
        for slot, token in zip(slots, token_ids, strict=True):
            slot.append([token])
        return logits

    def _decode_graph(self, chunks: Sequence[Chunk]) -> Graph | None:
        """The smallest decode graph that runs all chunks at once."""
        if len(chunks) == 1 and 1 in self._prefill:
            return self._prefill[1]
        highest = max(chunk.slot for chunk in chunks)
        fitting = [
            graph
            for graph in self._graphs
            if graph.spec.phase == "decode" and graph.spec.batch_size > highest
        ]
        return min(fitting, key=lambda graph: graph.spec.batch_size, default=None)

    def _plan(self, num_tokens: int, graphs: dict[int, Graph]) -> list[int]:
        return plan_chunks(num_tokens, list(graphs), self._session.static_shapes)

    def _chunks(
        self, graphs: dict[int, Graph], slot: Slot, token_ids: Sequence[int]
    ) -> Iterator[tuple[Graph, Chunk]]:
        start, done = slot.length, 0
        for seq_len in self._plan(len(token_ids), graphs):
            part = token_ids[done : done + seq_len]
            yield graphs[seq_len], Chunk(slot=slot.index, start=start + done, token_ids=part)
            done += len(part)

    def check_prompt(self, token_ids: Sequence[int]) -> None:
        """Refuses what no cache slot can hold.

        Raises:
            PromptError: no tokens, more than the cache holds, or an id that the model lacks.
        """
        if not token_ids:
            raise PromptError("the prompt has no tokens", next_step="give some text")
        if len(token_ids) > self.context_len:
            raise PromptError(
                "the prompt is longer than the cache",
                got=f"{len(token_ids)} tokens",
                allowed=f"1 to {self.context_len}",
                next_step="shorten it, or export with a longer cache_len in the profile",
                code="context_length_exceeded",
            )
        for token in token_ids:
            if not 0 <= token < self.vocab_size:
                raise PromptError(
                    "no such token id", got=token, allowed=f"0 to {self.vocab_size - 1}"
                )
