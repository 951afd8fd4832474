"""What first_token.py starts, BUNDLE PROMPT_TOKENS: from its imports to a token.

Prints when each stage was over, by the clock that all processes share, and waits for a line.
"""

import json
import sys
import time
from pathlib import Path

from runtime.bundle.reader import load_bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.text.from_bundle import open_tokenizer


def main(path: Path, prompt_tokens: int) -> None:
    """Does what `runtime generate` does, and then stands still to be measured."""
    ends = [time.monotonic()]
    bundle = load_bundle(path, trust_unchanged=True)
    ends.append(time.monotonic())
    open_tokenizer(bundle)
    session = open_session(bundle)
    engine = Engine(session)
    engine.prepare(1)
    ends.append(time.monotonic())
    prompt_ids = list(range(3, 3 + prompt_tokens))
    request = Request(prompt_ids=prompt_ids, params=SamplingParams(max_tokens=1))
    next(generate(Scheduler(engine), request))
    ends.append(time.monotonic())
    print(json.dumps(ends), flush=True)
    sys.stdin.readline()
    session.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
