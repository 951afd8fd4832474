"""Makes llama.cpp's models of a checkpoint: `gguf_model.py CHECKPOINT DIRECTORY q4_0 q8_0`.

A float16 file is written as llama.cpp's own converter has it, with the rows of the query and the
key projections in the order of its rotation, and then quantized by llama.cpp with its defaults.
`float16` keeps the file itself. The tokenizer comes from pieces.json of the checkpoint, if it has
one.
"""

import ctypes
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray


def tensors(checkpoint: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every weight by its name in Hugging Face's layout, mapped from its shard."""
    for shard in sorted(checkpoint.glob("*.bin")):
        for name, tensor in torch.load(shard, mmap=True, weights_only=True).items():
            yield name, tensor.numpy()


def interleaved(rows: NDArray[Any], num_heads: int) -> NDArray[Any]:
    """Puts the two halves of every head side by side: llama.cpp rotates neighbours."""
    halves = rows.reshape(num_heads, 2, rows.shape[0] // num_heads // 2, rows.shape[1])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def write_float16(checkpoint: Path, file: Path) -> None:
    """Writes the checkpoint; norms are float32."""
    config = json.loads((checkpoint / "config.json").read_text())
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    writer = gguf.GGUFWriter(file, "llama")
    add_tokenizer(writer, checkpoint / "pieces.json")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    for name, tensor in tensors(checkpoint):
        if name.endswith("q_proj.weight"):
            tensor = interleaved(tensor, heads)
        elif name.endswith("k_proj.weight"):
            tensor = interleaved(tensor, config["num_key_value_heads"])
        elif tensor.ndim == 1:
            tensor = tensor.astype(np.float32)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: Any, file: Path) -> None:
    """Adds the pieces of a SentencePiece model, with scores and kinds; none without a file."""
    if not file.is_file():
        writer.add_tokenizer_model("no_vocab")
        return
    pieces, scores, kinds = zip(*json.loads(file.read_text()), strict=True)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(pieces))
    writer.add_token_scores(list(scores))
    writer.add_token_types(list(kinds))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def quantize(source: Path, target: Path, precision: str) -> None:
    """Quantizes with llama.cpp's defaults for the precision; the target is there when complete."""
    import llama_cpp  # which takes long to build, and float16 does without

    ftypes = {"q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0}
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = ftypes[precision]
    partial = target.with_suffix(".partial")
    failed = llama_cpp.llama_model_quantize(bytes(source), bytes(partial), ctypes.byref(params))
    if failed:
        sys.exit(f"llama.cpp did not write {target}")
    partial.rename(target)


def main() -> None:
    """Writes DIRECTORY/PRECISION.gguf for every precision."""
    checkpoint, directory, *precisions = sys.argv[1:]
    whole = Path(directory, "float16.gguf")
    write_float16(Path(checkpoint), whole)
    for precision in precisions:
        if precision != whole.stem:
            quantize(whole, Path(directory, f"{precision}.gguf"), precision)
    if whole.stem not in precisions:
        whole.unlink()


if __name__ == "__main__":
    main()
