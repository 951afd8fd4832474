"""Runs a bundle of this toolchain: `ours.py BUNDLE CONTEXT_LEN`."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
from loop import Facts, num_threads, serve

from runtime.bundle.reader import load_bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Policy, Scheduler
from runtime.engine.sequence import Request
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session


class Ours:
    """The runtime's engine, as `runtime serve` and `toolchain bench` use it."""

    def __init__(self, path: Path, context_len: int) -> None:
        bundle = load_bundle(path)
        assert bundle.manifest.cache_len >= context_len, "the benchmark's profile says so"
        self._manifest = bundle.manifest
        engine = Engine(open_session(bundle))
        engine.prepare(1)
        # Random weights repeat themselves, so drafts would be right as they never are.
        self._scheduler = Scheduler(engine, Policy(speculate=False))
        self.vocab_size = engine.vocab_size

    def facts(self) -> Facts:
        """See Engine.facts."""
        model, files = self._manifest.model, self._manifest.files
        heads = model.num_hidden_layers * model.num_key_value_heads
        return Facts(
            version=f"{version('alpaca2-toolchain')} on onnxruntime {version('onnxruntime')}",
            settings=f"{num_threads()} threads, cache {self._manifest.cache_dtype}",
            weight_bytes=sum(
                file.size
                for name, file in files.items()
                if "/weights/" in name and "embed_tokens" not in name
            ),
            cache_bytes=np.dtype(self._manifest.cache_dtype).itemsize * 2 * heads * model.head_dim,
        )

    def times(self, token_ids: list[int], num_tokens: int) -> list[float]:
        """See Engine.times."""
        params = SamplingParams(max_tokens=num_tokens, ignore_eos=True)
        request = Request(prompt_ids=token_ids, params=params)
        return [token.sampled_at for token in generate(self._scheduler, request)]


if __name__ == "__main__":
    serve(Ours)
