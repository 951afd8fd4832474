"""Runs a GGUF model in llama.cpp with a cache of Q8_0: `llama_kv8.py MODEL CONTEXT_LEN`.

Values of that type take its flash attention.
"""

from llama import Llama
from loop import serve

if __name__ == "__main__":
    serve(lambda path, context_len: Llama(path, context_len, int8_cache=True))
