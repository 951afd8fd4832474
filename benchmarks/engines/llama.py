"""Runs a GGUF model in llama.cpp: `llama.py MODEL CONTEXT_LEN`.

Through the C interface, as its own `simple` example does it. But for flash attention the settings
are its defaults: mapped weights, repacked for the CPU where it can, 512 rows at a time.
"""

import time
from pathlib import Path

import gguf
import llama_cpp as api
import numpy as np
from loop import Facts, num_threads, serve

# Bytes of an element of the cache; a block of Q8_0 is 32 bytes and a float16.
FLOAT16, Q8_0 = 2, 34 / 32


class Llama:
    """A model and one context of it."""

    def __init__(self, path: Path, context_len: int, int8_cache: bool = False) -> None:
        # As llama-bench does: it logs every graph that it plans.
        self._silent = api.llama_log_callback(lambda level, text, data: None)
        api.llama_log_set(self._silent, None)
        api.llama_backend_init()
        self._path = path
        self._model = api.llama_model_load_from_file(bytes(path), api.llama_model_default_params())
        self._params = api.llama_context_default_params()
        self._params.n_ctx = self._params.n_batch = context_len
        self._params.n_threads = self._params.n_threads_batch = num_threads()
        # It takes it by default where it has it. On CPU a prompt takes as long without, and a token
        # after a long context less: 15.5 ms against 17.5 after 2048, in 2 layers of Q4_0.
        self._params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._int8_cache = int8_cache
        if int8_cache:
            self._params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_ENABLED
            self._params.type_k = self._params.type_v = api.GGML_TYPE_Q8_0
        self._context = api.llama_init_from_model(self._model, self._params)
        self.vocab_size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))

    def facts(self) -> Facts:
        """See Engine.facts."""
        model = self._model
        head_dim = api.llama_model_n_embd(model) // api.llama_model_n_head(model)
        heads = api.llama_model_n_layer(model) * api.llama_model_n_head_kv(model)
        return Facts(
            version=f"llama-cpp-python {api.__version__}",
            settings=f"{num_threads()} threads, {self._cache}, n_ubatch {self._params.n_ubatch}",
            weight_bytes=sum(
                int(tensor.n_bytes)
                for tensor in gguf.GGUFReader(self._path).tensors
                if tensor.name != "token_embd.weight"
            ),
            cache_bytes=round((Q8_0 if self._int8_cache else FLOAT16) * 2 * heads * head_dim),
        )

    @property
    def _cache(self) -> str:
        """As a table names it."""
        if self._int8_cache:
            return "cache Q8_0, flash attention"
        return "cache float16, no flash attention"

    def times(self, token_ids: list[int], num_tokens: int) -> list[float]:
        """See Engine.times."""
        api.llama_memory_clear(api.llama_get_memory(self._context), False)
        marks = []
        for _ in range(num_tokens):
            token_ids = [self._next_token(token_ids)]
            marks.append(time.perf_counter())
        return marks

    def _next_token(self, token_ids: list[int]) -> int:
        """Runs tokens after what the context holds; only the last of them has logits."""
        tokens = (api.llama_token * len(token_ids))(*token_ids)
        if api.llama_decode(self._context, api.llama_batch_get_one(tokens, len(token_ids))):
            raise RuntimeError("llama_decode failed")
        logits = api.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, (self.vocab_size,)).argmax())


if __name__ == "__main__":
    serve(Llama)
