"""The cache that com.microsoft.GroupQueryAttention appends to in place; needs no ONNX Runtime."""

__all__ = ["SEQLENS_K", "TOTAL_SEQUENCE_LENGTH", "cache_rows"]

# Inputs of the kernel, named as in its schema.
SEQLENS_K = "seqlens_k"  # int32 (B,): rows of each sequence after the run, minus one
TOTAL_SEQUENCE_LENGTH = "total_sequence_length"  # int32 (1,): the longest of them


def cache_rows(cache_len: int) -> int:
    """Rows of a slot's buffer: one more than the cache, for an idle sequence that is full."""
    return cache_len + 1
