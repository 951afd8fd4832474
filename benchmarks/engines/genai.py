"""Runs a model of ONNX Runtime GenAI's builder: `genai.py DIRECTORY CONTEXT_LEN`.

Threads, kernels and the buffers of the cache, which are written in place, are its defaults.
"""

import json
import time
from pathlib import Path

import onnx
import onnxruntime_genai as api
from loop import Facts, num_threads, serve

FLOAT32 = 4


class Genai:
    """A model and one generator, which holds the cache."""

    def __init__(self, path: Path, context_len: int) -> None:
        self._config = json.loads((path / "genai_config.json").read_text())["model"]
        self._graph = path / self._config["decoder"]["filename"]
        model = api.Model(str(path))
        params = api.GeneratorParams(model)
        # No end of the text before the cache is full.
        params.set_search_options(max_length=context_len, min_length=context_len, do_sample=False)
        self._generator = api.Generator(model, params)
        self.vocab_size: int = self._config["vocab_size"]

    def facts(self) -> Facts:
        """See Engine.facts."""
        decoder = self._config["decoder"]
        heads = decoder["num_hidden_layers"] * decoder["num_key_value_heads"]
        return Facts(
            version=f"onnxruntime-genai {api.__version__}",
            settings=f"{num_threads()} threads, cache float32",
            weight_bytes=weight_bytes(self._graph),
            cache_bytes=FLOAT32 * 2 * heads * decoder["head_size"],
        )

    def times(self, token_ids: list[int], num_tokens: int) -> list[float]:
        """See Engine.times."""
        self._generator.rewind_to(0)
        self._generator.append_tokens(token_ids)
        marks = []
        for _ in range(num_tokens):
            self._generator.generate_next_token()
            self._generator.get_next_tokens()
            marks.append(time.perf_counter())
        return marks


def weight_bytes(file: Path) -> int:
    """Size of the tensors in the graph's data file, but for the embedding."""
    graph = onnx.load(file, load_external_data=False).graph
    return sum(
        int(entry.value)
        for tensor in graph.initializer
        for entry in tensor.external_data
        if entry.key == "length" and "embed_tokens" not in tensor.name
    )


if __name__ == "__main__":
    serve(Genai)
