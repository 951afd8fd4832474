"""How likely continuations are to transformers: the same checkpoint, no code of ours.

`python -m tests.clients.direct CHECKPOINT` writes the scores of PAIRS; it needs torch, which the
clients do not have.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tests.dialogues import BOX, CAPITAL, LLAMA, RAW, STEPS

__all__ = ["CHOICES", "PAIRS", "Pair", "Score", "Scored"]

Pair: TypeAlias = tuple[str, str]  # a context and what may follow


class Score(NamedTuple):
    """ln of the probability of all tokens that follow, and whether each is the likeliest."""

    logprob: float
    greedy: bool


# By "bare" and "with BOS", then by the pair.
Scored: TypeAlias = dict[str, dict[Pair, Score]]

KNOWN: list[Pair] = [
    (RAW.format(question), f" {answer}") for question, answer in (CAPITAL, BOX, LLAMA, STEPS)
]
CHOICES: list[Pair] = [
    (f"{CAPITAL[0]}\nA. 中国\nB. 法国\nC. 日本\nD. 德国\n答案：", letter) for letter in "ABCD"
]
PAIRS: list[Pair] = [
    *KNOWN,
    (RAW.format(BOX[0]), " A llama"),
    *CHOICES,
    ("An edge box is", " a small computer"),
    ("🦙 龘", "🦙"),
    ("", BOX[1]),
    ("", "北京"),
    ("word" + " word" * 59, "云" * 40),
]


def main(checkpoint: Path) -> None:
    """Writes the scores to stdout as JSON."""
    import sentencepiece
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(checkpoint, dtype=torch.float64)
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(checkpoint / "tokenizer.model"))

    @torch.no_grad()
    def score(context: str, continuation: str, *, add_bos: bool) -> Score:
        # Tokens of the whole text, cut where those of the context end; as the harness does.
        start = [tokenizer.bos_id()] if add_bos or not context else []
        ids = start + tokenizer.encode(context + continuation)
        num_context = len(start + tokenizer.encode(context))
        rows = model(torch.tensor([ids])).logits[0].log_softmax(-1)[num_context - 1 : -1]
        following = torch.tensor(ids[num_context:])
        logprob = rows.gather(1, following[:, None]).sum()
        return Score(float(logprob), bool((rows.argmax(-1) == following).all()))

    scores = {
        name: [score(*pair, add_bos=add_bos) for pair in PAIRS]
        for name, add_bos in {"bare": False, "with BOS": True}.items()
    }
    json.dump(scores, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
