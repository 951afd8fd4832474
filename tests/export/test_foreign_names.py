"""Claims about tensor names: tables are passed over, ties hold both ways, others say what they are.

The numbers that a checkpoint should give are the ones that were saved; the ones that transformers
computes with decide about ties.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from export.checkpoint import open_checkpoint
from export.errors import CheckpointError
from export.parameters import EMBEDDING, LM_HEAD, expected_shapes
from tests.models import TINY

Tensors = dict[str, Tensor]
TIED = TINY.model_copy(update={"tie_word_embeddings": True})
LAYER = "model.layers.0"


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    generator = torch.Generator().manual_seed(7)
    shapes = expected_shapes(TINY).items()
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes}


def refusal(model: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(model, TINY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        f"{LAYER}.self_attn.rotary_emb.inv_freq",
        f"{LAYER}.self_attn.rotary_emb.cos_cached",
        f"{LAYER}.self_attn.rotary_emb.sin_cached",
        f"{LAYER}.self_attn.rotary_emb._cos_cached",
        f"{LAYER}.self_attn.rotary_emb.original_inv_freq",
        f"{LAYER}.self_attn.rotary_emb.cos_sin_cache",
        f"{LAYER}.self_attn.rotary_emb.scaling_factor",
        f"{LAYER}.self_attn.rotary_pos_emb.inv_freq",
        f"{LAYER}.self_attn.rope.freqs",
        f"{LAYER}.self_attn.inv_freq",
        f"{LAYER}.attention.rotary.cos",
        f"{LAYER}.rotary_emb.inv_freq",
        "model.rotary_emb.inv_freq",
        "model.rotary_emb.original_inv_freq",
        "model.rotary_emb.cos",
        "model.rope.inv_freq",
        "model.causal_mask",
        "rotary_emb.inv_freq",
        "rope.freqs",
        "freqs_cis",
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.complex64])
def test_a_table_that_the_decoder_computes_is_passed_over(
    tmp_path: Path, tensors: Tensors, name: str, dtype: torch.dtype
) -> None:
    torch.save(tensors | {name: torch.ones(1, 1, 8).to(dtype)}, tmp_path / "pytorch_model.bin")
    checkpoint = open_checkpoint(tmp_path, TINY)
    assert torch.equal(checkpoint.tensor("norm.weight"), tensors["model.norm.weight"])


@pytest.mark.parametrize(
    "name",
    [
        f"{LAYER}.self_attn.q_proj.rotary",
        f"{LAYER}.self_attn.q_norm.weight",
        f"{LAYER}.europe.weight",
        "model.cosine.weight",
        "model.freqs.weight",
    ],
)
def test_a_weight_that_only_sounds_like_a_table_is_refused(
    tmp_path: Path, tensors: Tensors, name: str
) -> None:
    torch.save(tensors | {name: torch.ones(8)}, tmp_path / "pytorch_model.bin")
    assert f"unexpected {name};" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["{}.mlp.up_proj.lora_A.weight", "{}.mlp.up_proj.lora_B.weight"], "adapter that is not m"),
        (["{}.mlp.up_proj.base_layer.weight"], "an adapter that is not merged"),
        (["{}.mlp.up_proj.qweight", "{}.mlp.up_proj.qzeros", "{}.mlp.up_proj.scales"], "GPTQ or A"),
        (["{}.mlp.up_proj.weight_scale"], "scales of quantised weights"),
        (["{}.mlp.up_proj.weight_scale_inv"], "scales of quantised weights"),
        (["{}.mlp.up_proj.input_scale"], "scales of quantised weights"),
        (["{}.self_attn.k_scale"], "scales of quantised weights"),
        (["{}.mlp.up_proj.SCB"], "weights of bitsandbytes"),
        (["{}.mlp.up_proj.weight.absmax"], "weights of bitsandbytes"),
        (["{}.mlp.up_proj.weight.quant_state.bitsandbytes__nf4"], "weights of bitsandbytes"),
        (["{}.block_sparse_moe.experts.0.w1.weight"], "the experts of a mixture"),
        (["{}.mlp.experts.0.up_proj.weight", "{}.mlp.gate.weight"], "the experts of a mixture"),
        (["{}.self_attn.q_proj.bias"], "biases"),
        (["tok_embeddings.weight", "layers.0.attention.wq.weight"], "names of Meta's own files"),
    ],
)
def test_names_of_another_kind_of_model_say_which_kind(
    tmp_path: Path, tensors: Tensors, names: list[str], said: str
) -> None:
    extra = {name.format(LAYER): torch.ones(2) for name in names}
    torch.save(tensors | extra, tmp_path / "pytorch_model.bin")
    message = refusal(tmp_path)
    assert said in message
    assert sorted(extra)[0] in message


@pytest.mark.parametrize(
    "prefix",
    ["", "base_model.model.model.", "module.model.", "_orig_mod.model.", "model.model.", "llama."],
)
def test_names_that_begin_in_another_way_are_refused_with_how_they_begin(
    tmp_path: Path, tensors: Tensors, prefix: str
) -> None:
    wrapped = {name.replace("model.", prefix, 1): tensor for name, tensor in tensors.items()}
    save_file(wrapped, tmp_path / "model.safetensors")
    message = refusal(tmp_path)
    assert f"got {prefix!r} before layers.0.input_layernorm.weight; allowed: 'model.'" in message


@pytest.mark.parametrize("kept", [EMBEDDING, LM_HEAD])
def test_a_tie_holds_whichever_of_the_two_is_stored(
    tmp_path: Path, tensors: Tensors, kept: str
) -> None:
    left_out = ({EMBEDDING, LM_HEAD} - {kept}).pop()
    save_file({n: t for n, t in tensors.items() if n != left_out}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path, TIED)
    for name in (EMBEDDING, LM_HEAD):
        assert torch.equal(checkpoint.tensor(name.removeprefix("model.")), tensors[kept])
    assert f"lacks {left_out}" in refusal(tmp_path), "config.json does not tie them"


@pytest.mark.parametrize("kept", [EMBEDDING, LM_HEAD])
def test_safetensors_may_say_themselves_that_two_are_one(
    tmp_path: Path, tensors: Tensors, kept: str
) -> None:
    """save_model leaves one of two shared tensors out and notes it in the metadata."""
    left_out = ({EMBEDDING, LM_HEAD} - {kept}).pop()
    stored = {name: tensor for name, tensor in tensors.items() if name != left_out}
    save_file(stored, tmp_path / "model.safetensors", {left_out: kept, "format": "pt"})
    for config in (TINY, TIED):
        checkpoint = open_checkpoint(tmp_path, config)
        for name in (EMBEDDING, LM_HEAD):
            assert torch.equal(checkpoint.tensor(name.removeprefix("model.")), tensors[kept])


@pytest.mark.parametrize(
    "dtype",
    [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8, torch.bool, torch.complex64],
)
@pytest.mark.parametrize("form", ["bin", "safetensors"])
def test_numbers_that_mean_nothing_alone_are_refused_before_one_is_read(
    tmp_path: Path, tensors: Tensors, dtype: torch.dtype, form: str
) -> None:
    """float8 without its scales is a floating-point type too, and was converted as it stands."""
    name = f"{LAYER}.mlp.up_proj.weight"
    changed = tensors | {name: tensors[name].to(dtype)}
    if form == "bin":
        torch.save(changed, tmp_path / "pytorch_model.bin")
    else:
        save_file(changed, tmp_path / "model.safetensors")
    message = refusal(tmp_path)
    assert f"tensor {name}; got " in message
    assert "allowed: float16, bfloat16, float32, float64; give the checkpoint before" in message
