"""Runs a model of optimum-cli in OpenVINO GenAI: `open_vino.py DIRECTORY CONTEXT_LEN`.

Its pipeline with its defaults: paged attention over a cache in uint8, activations quantized on
the way, bfloat16 where the CPU has it.
"""

import json
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino
import openvino_genai as api
from loop import Facts, num_threads, serve

UINT8 = 1  # a number in the cache; its scales, a few percent more, are left out


class Clock(api.StreamerBase):  # type: ignore[misc]  # the package has no types
    """Notes when each token is known."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[float] = []

    def write(self, token: int | list[int]) -> api.StreamingStatus:
        """Called by the pipeline with each token."""
        self.marks.append(time.perf_counter())
        return api.StreamingStatus.RUNNING

    def end(self) -> None:
        """Called by the pipeline after the last token."""


class OpenVino:
    """A pipeline; its cache grows as it is needed."""

    def __init__(self, path: Path, context_len: int) -> None:
        self._path = path
        self._pipeline = api.LLMPipeline(path, "CPU")
        self._config = json.loads((path / "config.json").read_text())
        self.vocab_size: int = self._config["vocab_size"]

    def facts(self) -> Facts:
        """See Engine.facts."""
        core = openvino.Core()
        precision = core.get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()
        cache = core.get_property("CPU", "KV_CACHE_PRECISION").to_string()
        return Facts(
            version=f"openvino-genai {version('openvino-genai')}",
            settings=f"{num_threads()} threads, cache {cache}, compute {precision}, "
            "paged attention",
            weight_bytes=sum(
                operation.get_byte_size()
                for operation in core.read_model(self._path / "openvino_model.xml").get_ops()
                if operation.get_type_name() == "Constant"
                and "embed_tokens" not in operation.get_friendly_name()
            ),
            cache_bytes=UINT8 * 2 * self._config["num_hidden_layers"] * self._config["hidden_size"],
        )

    def times(self, token_ids: list[int], num_tokens: int) -> list[float]:
        """See Engine.times."""
        ids = np.array([token_ids])
        inputs = api.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        clock = Clock()
        greedy = api.GenerationConfig(max_new_tokens=num_tokens, ignore_eos=True, do_sample=False)
        self._pipeline.generate(inputs, greedy, clock)
        return clock.marks


if __name__ == "__main__":
    serve(OpenVino)
