"""Claims about what an .air computes: the tokens of float32, whatever a cache held before."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from export.reference import Reference
from runtime.bundle import tensor_names as names
from runtime.bundle.manifest import TensorSpec
from runtime.bundle.reader import TOKENIZER
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.template import Message, encode_chat
from tests.dialogues import AGAIN_ALONE, BOX, CAPITAL
from tests.export.air.conftest import GROUPED, Airs
from tests.export.llamas import llama, random_ids

# How much worse than the best of float32 a chosen token may be, in logits: what rounding to
# float16, or weights to int8, makes of two that are nearly as likely.
NEARLY = {"miniature": 0.02, "grouped": 0.02, "int8": 0.5}
CHUNK, NUM_TOKENS = 8, 40
Get = Callable[[str], Airs]
Caches = dict[str, Tensor]
pytestmark = pytest.mark.usefixtures("one_torch_thread")


def empty_caches(inputs: tuple[TensorSpec, ...]) -> Caches:
    """Of a device that was used before: numbers that nobody may look at."""
    cached = (spec for spec in inputs if spec.name.startswith("past_"))
    return {spec.name: torch.full(spec.shape, torch.nan, dtype=torch.half) for spec in cached}


def call(airs: Airs, graph: str, caches: Caches, ids: Tensor, starts: list[int]) -> Tensor:
    """Rows of ids that a graph has room for, the last of which is asked for."""
    spec, (batch, length) = airs.graphs[graph].spec, ids.shape
    padded = torch.nn.functional.pad(ids, (0, spec.seq_len - length))
    given = {
        names.INPUT_IDS: padded,
        names.START: torch.tensor(starts),
        names.LENGTHS: torch.tensor(starts) + length,
        names.LOGIT_ROWS: torch.arange(batch) * spec.seq_len + length - 1,
        **caches,
    }
    return airs.run(graph, given)


def sequences(model: str, bundles: Path) -> list[Tensor]:
    if model == "grouped":
        return list(random_ids(GROUPED, 3, NUM_TOKENS))
    tokenizer = SentencePieceTokenizer(bundles / "checkpoint" / TOKENIZER)
    dialogues = (
        encode_chat(tokenizer, [Message(role="user", content=question)]) + tokenizer.encode(answer)
        for question, answer in (CAPITAL, BOX, AGAIN_ALONE)
    )
    return [torch.tensor(ids[-NUM_TOKENS:]) for ids in dialogues]


@torch.no_grad()
def expected(model: str, bundles: Path, ids: Tensor) -> Tensor:
    """Logits of every row in float32."""
    if model == "grouped":
        theirs: Tensor = llama(GROUPED)(ids[None]).logits[0]
        return theirs
    reference = Reference(bundles / "checkpoint")
    [hidden] = reference.hidden([ids.tolist()])
    return torch.from_numpy(reference.logits(hidden))


def assert_chosen(model: str, ours: Tensor, theirs: Tensor) -> None:
    """Each row's likeliest token is that of float32, or one that is nearly as likely."""
    assert ours.dtype == torch.float32
    chosen = theirs.gather(-1, ours.argmax(-1, keepdim=True))[..., 0]
    assert (theirs.amax(-1) - chosen).max() <= NEARLY[model]


@pytest.mark.parametrize("model", NEARLY)
def test_prefill_in_chunks_and_single_tokens_choose_the_tokens_of_float32(
    model: str, airs: Get, bundles: Path
) -> None:
    made = airs(model)
    for ids in sequences(model, bundles):
        theirs = expected(model, bundles, ids)
        caches = empty_caches(made.graphs["decode_b1"].inputs)
        for start, end in ((0, 8), (8, 13), (13, 20)):  # two are padded
            ours = call(made, "prefill_s8", caches, ids[None, start:end], [start])
            assert_chosen(model, ours, theirs[end - 1 : end])
        for row in range(20, NUM_TOKENS):
            ours = call(made, "decode_b1", caches, ids[None, row : row + 1], [row])
            assert_chosen(model, ours, theirs[row : row + 1])


@pytest.mark.parametrize("model", NEARLY)
def test_sequences_of_a_batch_are_at_different_rows_and_the_last_ones_are_checked_together(
    model: str, airs: Get, bundles: Path
) -> None:
    made, texts = airs(model), sequences(model, bundles)
    theirs = [expected(model, bundles, ids) for ids in texts]
    caches, starts = empty_caches(made.graphs["decode_b3"].inputs), [5, 8, 2]
    own = [{name: cache[i : i + 1] for name, cache in caches.items()} for i in range(3)]
    for ids, start, cache in zip(texts, starts, own, strict=True):
        call(made, "prefill_s8", cache, ids[None, :start], [0])
    for step in range(4):
        rows = [start + step for start in starts]
        ids = torch.stack([text[row] for text, row in zip(texts, rows, strict=True)])
        ours = call(made, "decode_b3", caches, ids[:, None], rows)
        assert_chosen(
            model, ours, torch.stack([each[r] for each, r in zip(theirs, rows, strict=True)])
        )
    for ids, start, cache, each in zip(texts, starts, own, theirs, strict=True):
        first = start + 4
        ours = call(made, "score_s4", cache, ids[None, first : first + 4], [first])
        assert_chosen(model, ours[0], each[first : first + 4])


def test_a_short_chat_reads_no_more_rows_than_it_has(airs: Get, bundles: Path) -> None:
    """What lies behind them is no number; an idle row of a batch has no length at all."""
    made, [ids, *_] = airs("miniature"), sequences("miniature", bundles)
    caches = empty_caches(made.graphs["decode_b1"].inputs)
    ours = call(made, "decode_b1", caches, ids[None, :1], [0])
    assert ours.isfinite().all()
    for cache in caches.values():
        assert cache[0, 0].isfinite().all()
        assert cache[0, 1:].isnan().all()
