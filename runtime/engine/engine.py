"""Which graph, which chunk, which slot: token ids in, rows of logits out.

The engine knows nothing about text, sampling, queues or HTTP.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from runtime.bundle.manifest import Graph, Phase
from runtime.engine.chunks import GraphCosts, graph_costs, plan_chunks
from runtime.engine.kv_cache import Slot, common_prefix
from runtime.engine.prefix_cache import PrefixCache
from runtime.errors import PromptError, SessionError
from runtime.sessions.base import Chunk, Logits, Session

__all__ = ["Engine", "Part"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Tokens of a prompt that one call of a graph runs."""

    graph: Graph
    token_ids: Sequence[int]


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
        self.static_shapes = session.static_shapes
        self._graphs = manifest.graphs
        self.cache = PrefixCache(session, reuse_prefix=reuse_prefix)
        # A decode graph of one sequence is also the shortest prefill graph.
        self._prefill = self._by_seq_len(self.context_len, "prefill", "decode")
        self._score = self._by_seq_len(self.context_len, "score")
        # A first chunk needs no cache. One graph of open sizes gains nothing by leaving it out.
        first = self._by_seq_len(0, "prefill") if session.static_shapes else {}
        self._prompt_costs = graph_costs([*self._prefill.values(), *first.values()])
        self._score_costs = graph_costs(self._score.values())
        # A session takes the shorter ones of a graph by itself.
        every = ((each.spec, graph) for graph in self._graphs for each in (graph, *graph.shorter))
        self._whole = dict(every)
        self.verify_sizes = sorted(self._score) if session.static_shapes else []
        """Rows that a call costs which checks drafts; empty where it costs what it has rows."""
        self.prefix_hits = 0
        """Prompt tokens whose rows were found in the cache, over the engine's life."""
        self.prefix_prompts = 0
        """Prompts that found any."""
        self.computed_tokens = 0
        """Prompt tokens that were run."""

    def _by_seq_len(self, cache_len: int, *phases: Phase) -> dict[int, Graph]:
        return {
            graph.spec.seq_len: graph
            for graph in self._graphs
            if graph.spec.phase in phases
            and graph.spec.batch_size == 1
            and graph.spec.cache_len == cache_len
        }

    @contextmanager
    def slot(self, prompt: Sequence[int]) -> Iterator[Slot]:
        """Lends a cache slot to a prompt; see PrefixCache.place and release."""
        slot = self.cache.place(prompt)
        try:
            yield slot
        finally:
            self.cache.release(slot)

    def prepare(self, num_tokens: int) -> None:
        """Loads the graphs that a prompt of this length and its answer will run."""
        num_tokens = min(num_tokens, self.context_len)  # more is refused later
        plan = plan_chunks(num_tokens, self._prompt_costs, static_shapes=self.static_shapes)
        after = [self._prefill[spec.seq_len].spec for spec in plan]  # behind rows that are reused
        for spec in {self._prefill[1].spec, *plan, *after}:
            self._session.prepare(self._whole[spec])

    def parts(self, slot: Slot, token_ids: Sequence[int], shared: int = 0) -> list[Part]:
        """Cuts what the slot does not hold of a prompt into calls; run_part runs each.

        Args:
            slot: where the rows go; it is cut back to what is reused.
            token_ids: the whole prompt.
            shared: leading tokens that many prompts have in common. They are run by themselves
                and reused all or not at all, so the logits have the same bits either way.

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
        slot.shared = shared
        cut = max(reused, shared)
        return [
            *self._cut(self._prompt_costs, token_ids[reused:cut], reused),
            *self._cut(self._prompt_costs, token_ids[cut:], cut),
        ]

    def score_parts(self, slot: Slot, token_ids: Sequence[int]) -> list[Part]:
        """Cuts tokens that come after what the slot holds into calls that give every row's logits.

        Raises:
            SessionError: the bundle has no score graph.
            PromptError: no tokens, or more than the cache has room for.
        """
        self.check_scores()
        self.check_prompt(token_ids)
        self.check_prompt([*slot.token_ids, *token_ids])
        return self._cut(self._score_costs, token_ids, slot.length)

    def check_scores(self) -> None:
        """Refuses to give the logits of every row where no graph can.

        Raises:
            SessionError: the bundle has no score graph.
        """
        if not self._score:
            raise SessionError(
                "the bundle has no score graph",
                next_step="add one to the profile, then export and compile again",
                code="unsupported_parameter",
            )

    def run_part(self, slot: Slot, part: Part) -> Logits:
        """Runs a part after what the slot holds.

        Returns:
            float32 (V,), the logits after the last token; of a score graph (n, V), those of every
            token. Valid until the next run.
        """
        chunk = Chunk(slot=slot.index, start=slot.length, token_ids=part.token_ids)
        logits: Logits = self._session.run(part.graph, [chunk])[0]
        slot.append(part.token_ids)
        return logits[: len(part.token_ids)] if part.graph.spec.phase == "score" else logits

    def prefill(self, slot: Slot, token_ids: Sequence[int], shared: int = 0) -> Logits:
        """Runs all parts of a prompt.

        Returns:
            float32 (V,), the logits after the last token.

        Raises:
            PromptError: as parts.
        """
        *_, last = [self.run_part(slot, part) for part in self.parts(slot, token_ids, shared)]
        return last.copy()  # the next run writes over it

    def score(self, slot: Slot, token_ids: Sequence[int]) -> Iterator[Logits]:
        """Runs tokens after what the slot holds and yields the logits of every one of them.

        Yields:
            float32 (n, V) per part; all parts together have len(token_ids) rows.

        Raises:
            SessionError, PromptError: as score_parts.
        """
        for part in self.score_parts(slot, token_ids):
            yield self.run_part(slot, part).copy()

    def _reusable(self, slot: Slot, token_ids: Sequence[int], shared: int) -> int:
        """Leading rows of the slot that a prompt may keep."""
        found = common_prefix(slot.token_ids, token_ids) if self._reuse_prefix else 0
        if not shared:
            return min(found, len(token_ids) - 1)
        return shared if slot.shared == shared <= found else 0

    def _cut(self, costs: GraphCosts, token_ids: Sequence[int], start: int) -> list[Part]:
        """Calls for tokens behind `start` rows, of graphs with these costs."""
        parts, done = list[Part](), 0
        plan = plan_chunks(len(token_ids), costs, static_shapes=self.static_shapes, start=start)
        for spec in plan:
            ids = token_ids[done : done + spec.seq_len]
            parts.append(Part(graph=self._whole[spec], token_ids=ids))
            done += len(ids)
        return parts

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

    def verify(self, slots: Sequence[Slot], token_ids: Sequence[Sequence[int]]) -> list[Logits]:
        """Runs several tokens of each sequence in one call, to see which of them the model takes.

        The slots keep their lengths: the caller appends what it accepts. The rows behind that are
        written over by what comes next.

        Args:
            slots: sequences, each with room for its rows.
            token_ids: the last token of each, and the drafts that may follow.

        Returns:
            Per sequence float32 (n, V), the logits after each of its tokens; valid until the next
            run.
        """
        num_rows = max(map(len, token_ids))
        graph = min(
            (graph for graph in self._verify_graphs(slots) if graph.spec.seq_len >= num_rows),
            key=lambda graph: (graph.spec.batch_size, graph.spec.seq_len),
        )
        chunks = [
            Chunk(slot=slot.index, start=slot.length, token_ids=ids)
            for slot, ids in zip(slots, token_ids, strict=True)
        ]
        logits = self._session.run(graph, chunks)
        return [rows[: len(ids)] for rows, ids in zip(logits, token_ids, strict=True)]

    def most_rows(self, slots: Sequence[Slot]) -> int:
        """Rows of each of these sequences that one call can verify; 0 where no graph can."""
        return max((graph.spec.seq_len for graph in self._verify_graphs(slots)), default=0)

    def _verify_graphs(self, slots: Sequence[Slot]) -> list[Graph]:
        """Graphs that give all rows of logits for these sequences."""
        if len(slots) == 1:
            return list(self._score.values())
        highest = max(slot.index for slot in slots)
        return [
            graph
            for graph in self._graphs
            if graph.spec.phase == "score"
            and graph.spec.batch_size > highest
            and graph.spec.cache_len == self.context_len
        ]

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
