"""Which tensors the programs of a chip take, and the parameters that each is made of. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from export.parameters import parameter_shape, parameters
from runtime.bundle.manifest import DType, ModelConfig, TensorSpec

__all__ = ["Quantisation", "Weight", "chip_weights"]

JOINED = {
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """int8 weights: inputs that share a scale, 0 for all of a layer's."""

    group_size: int

    def group_of(self, num_inputs: int) -> int:
        """The group of a layer; one with fewer inputs than a group has one scale per output."""
        return self.group_size if self.group_size < num_inputs else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A tensor of the programs, or two where it is quantised.

    name: of the tensor; of levels and scales with an ending.
    parts: parameters whose rows it has, one after the other.
    sizes: rows of each part.
    files: the tensors as they are stored.
    group_size: see operators/linear.py; None where it is not quantised.
    """

    name: str
    parts: tuple[str, ...]
    sizes: tuple[int, ...]
    files: tuple[TensorSpec, ...]
    group_size: int | None


def chip_weights(config: ModelConfig, quantisation: Quantisation | None) -> list[Weight]:
    """All weights of a program, in the order of its inputs."""
    groups = {f"{stem}.weight": parts for stem, parts in _groups(config)}
    taken = {part for parts in groups.values() for part in parts}
    made = {name: (name,) for name in parameters(config) if name not in taken} | groups
    weights = [_weight(config, name, parts, quantisation) for name, parts in made.items()]
    if config.tie_word_embeddings and quantisation is not None:
        weights.append(_weight(config, "lm_head.weight", ("embed_tokens.weight",), quantisation))
    return weights


def _groups(config: ModelConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    for i in range(config.num_hidden_layers):
        for stem, parts in JOINED.items():
            yield f"layers.{i}.{stem}", tuple(f"layers.{i}.{part}.weight" for part in parts)


def _weight(
    config: ModelConfig, name: str, parts: Sequence[str], quantisation: Quantisation | None
) -> Weight:
    shapes = [parameter_shape(config, part) for part in parts]
    sizes = tuple(shape[0] for shape in shapes)
    shape = (sum(sizes), *shapes[0][1:])
    is_linear = name.endswith(("_proj.weight", "lm_head.weight"))
    files: tuple[TensorSpec, ...] = (_spec(name, "float16", shape),)
    group_size = None
    if is_linear and quantisation is not None:
        num_outputs, num_inputs = shape
        group_size = quantisation.group_of(num_inputs)
        scales = (num_outputs, -(-num_inputs // group_size)) if group_size else (num_outputs,)
        files = (
            _spec(f"{name}.int8", "int8", shape),
            _spec(f"{name}.int8.scales", "float16", scales),
        )
    return Weight(
        name=name,
        parts=tuple(parts),
        sizes=sizes,
        files=files,
        group_size=group_size,
    )


def _spec(name: str, dtype: DType, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)
