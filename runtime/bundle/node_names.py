"""Names of graph nodes, one spelling for every side: {module}/{OpType}, by the decoder's modules.

export/passes/name_nodes.py gives them; later passes and the trace of a run look nodes up by them.
"""

import re

from runtime.bundle.manifest import ModelConfig

__all__ = [
    "ATTENTION_KERNEL",
    "EMBEDDING",
    "LAST_NORM",
    "LM_HEAD",
    "ROTARY_ANGLES",
    "attention",
    "attention_kernels",
    "head_norms",
    "joined_products",
    "layer",
    "layer_linears",
    "linears",
    "module_of",
    "node_name",
    "norm_parts",
    "norms",
    "projected",
    "projections",
    "split_layer",
]

EMBEDDING = "embed_tokens/Gather"
LM_HEAD = "lm_head/MatMul"
ROTARY_ANGLES = "rotary_emb/Mul"  # positions times frequencies
LAST_NORM = "norm"  # a module
LAYER_NORMS = ("input_layernorm", "post_attention_layernorm")
ATTENTION_KERNEL = "GroupQueryAttention"  # of ONNX Runtime
HEAD_NORMS = ("q_norm", "k_norm")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
LAYER = re.compile(r"layers\.(\d+)(?:\.(?:self_attn|mlp))?[./]?")


def node_name(module: str, op_type: str, number: int = 0) -> str:
    """Name of a node; the next ones of its kind in the module are number 1, 2 and so on."""
    stem = f"{module}/{op_type}" if module else op_type
    return f"{stem}_{number}" if number else stem


def module_of(name: str) -> str:
    """The module of a node."""
    return name.rpartition("/")[0]


def layer(i: int) -> str:
    """The module of a layer."""
    return f"layers.{i}"


def attention(i: int) -> str:
    """The module of a layer's attention."""
    return f"{layer(i)}.self_attn"


def projections(i: int) -> list[str]:
    """The products of a layer's attention with weights: query, key, value, output."""
    return [node_name(f"{attention(i)}.{name}", "MatMul") for name in PROJECTIONS]


def projected(i: int, model: ModelConfig) -> list[str]:
    """What gives query, key and value, (B, S, heads * D) each: after bias and norm of the heads."""
    given = [name.replace("MatMul", "Add") for name in projections(i)[:3]]
    if not model.attention_bias:
        given = projections(i)[:3]
    if model.qk_norm:
        given[:2] = [node_name(module, "Reshape", 1) for module in head_norms(i)]
    return given


def head_norms(i: int) -> list[str]:
    """The modules of the norms of a layer's queries and keys."""
    return [f"{attention(i)}.{name}" for name in HEAD_NORMS]


def layer_linears(i: int) -> list[str]:
    """The seven products of a layer with weights."""
    feed_forward = [node_name(f"{layer(i)}.mlp.{name}", "MatMul") for name in FEED_FORWARD]
    return [*projections(i), *feed_forward]


def linears(num_layers: int) -> list[str]:
    """All products with weights, 7 L + 1: the LM head is the last."""
    return [*(name for i in range(num_layers) for name in layer_linears(i)), LM_HEAD]


def joined_products(num_layers: int) -> dict[str, list[str]]:
    """What takes the place of products of one input, 2 L, each with those that it stands for."""
    joined = {}
    for i in range(num_layers):
        linear = layer_linears(i)
        joined[node_name(f"{attention(i)}.qkv_proj", "MatMul")] = linear[:3]
        joined[node_name(f"{layer(i)}.mlp.gate_up_proj", "MatMul")] = linear[4:6]
    return joined


def attention_kernels(num_layers: int) -> list[str]:
    """What takes the place of each layer's written-out attention, L."""
    return [node_name(attention(i), ATTENTION_KERNEL) for i in range(num_layers)]


def norms(num_layers: int, qk_norm: bool = False) -> list[str]:
    """The modules of all norms, 2 L + 1; 4 L + 1 with those of queries and keys."""
    layers = range(num_layers)
    of_heads = [name for i in layers for name in head_norms(i)] if qk_norm else []
    return [*(f"{layer(i)}.{name}" for i in layers for name in LAYER_NORMS), *of_heads, LAST_NORM]


def norm_parts(module: str) -> tuple[str, str, str]:
    """What says all of a norm: the square, the sum with epsilon, the product at the end."""
    return node_name(module, "Mul"), node_name(module, "Add"), node_name(module, "Mul", 2)


def split_layer(name: str) -> tuple[int | None, str]:
    """The layer of a node, None outside of all, and the rest of its name, such as q_proj/MatMul."""
    found = LAYER.match(name)
    return (int(found[1]), name[found.end() :]) if found else (None, name)
