"""A claim about several answers to one prompt on a model that runs them side by side."""

from contextlib import closing
from pathlib import Path

from runtime.bundle.reader import TOKENIZER, load_bundle
from runtime.completion import complete_many
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Policy, Scheduler
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from tests.recorded import Recorded


def test_each_of_several_answers_ends_at_its_own_stop_string(bundles: Path) -> None:
    """They used to be run on behind it, until an answer before them had ended."""
    bundle = load_bundle(bundles / "small-fp32")
    tokenizer = SentencePieceTokenizer(bundle.file(TOKENIZER))
    params = SamplingParams(temperature=1.0, seed=3, max_tokens=25)

    def answers(session: Recorded, *stop: str) -> list[tuple[str, int]]:
        scheduler = Scheduler(Engine(session, reuse_prefix=False), Policy(speculate=False))
        made = complete_many(scheduler, tokenizer, "box", params, stop, num_answers=3)
        return [(completion.text, completion.completion_tokens) for completion in made]

    with closing(open_session(bundle)) as session:
        first, *others = (text for text, _ in answers(Recorded(session)))
        stop = next(character for character in others[0] if character not in first)
        recorded = Recorded(session)
        stopped = answers(recorded, stop)
    lengths = [length for _, length in stopped]
    assert lengths[0] == 25 > lengths[1], "the first goes on for longest"
    assert stopped[1][0] == others[0].partition(stop)[0]
    decoded = sum(len(slots) for name, slots in recorded.calls if name.startswith("decode"))
    # The prompt's call makes the first token of each, and a stop string ends it after the call.
    assert decoded == sum(lengths) - len(lengths)
