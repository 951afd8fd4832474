"""Which tensors a torch program takes, and how each lies in its file. No torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from export.graphs import weight_inputs
from export.int4_layouts import GROUPS, INT4_LAYOUTS
from export.parameters import EMBEDDING, LM_HEAD, parameter_shape
from profiles import Fineness
from runtime.bundle.manifest import FloatType, ModelConfig, TensorSpec
from runtime.errors import UserError

__all__ = ["ProgramWeight", "as_they_are", "quantised_weights", "whole_group"]

Choose = Callable[[str], Fineness]  # the module of a linear layer -> how finely


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramWeight:
    """A parameter as a program takes it: in one file, or as levels and scales.

    parameter: of the checkpoint.
    module: whose weight it becomes.
    files: the tensors as they are stored.
    bits: of a level; 0 where it is not quantised.
    group_size: inputs that share a scale.
    """

    parameter: str
    module: str
    files: tuple[TensorSpec, ...]
    bits: int = 0
    group_size: int = 0


def as_they_are(config: ModelConfig, dtype: FloatType) -> list[ProgramWeight]:
    """Every parameter in one type."""
    return [
        ProgramWeight(parameter=spec.name, module=spec.name.rpartition(".")[0], files=(spec,))
        for spec in weight_inputs(config, dtype)[:-1]
    ]


def quantised_weights(
    config: ModelConfig, dtype: FloatType, device: str, choose: Choose
) -> list[ProgramWeight]:
    """Linear layers as levels and scales, the rest as it is.

    Args:
        config: the model.
        dtype: that the programs compute in.
        device: cpu or cuda, which lay int4 out in their own ways.
        choose: how finely each linear layer is quantised.

    Raises:
        UserError: a layer cannot be cut into groups that the int4 kernel takes.
    """
    weights = as_they_are(config, dtype)
    if config.tie_word_embeddings:
        head = ProgramWeight(parameter=EMBEDDING.removeprefix("model."), module="lm_head", files=())
        weights.append(head)
    return [
        _quantised(config, weight, dtype, device, choose(weight.module))
        if _is_linear(weight)
        else weight
        for weight in weights
    ]


def whole_group(num_inputs: int, wanted: int, allowed: Sequence[int] | None = None) -> int:
    """The largest group not above the one wanted (0: all inputs) that cuts the inputs evenly."""
    largest = wanted or num_inputs
    sizes = range(1, num_inputs + 1) if allowed is None else allowed
    fitting = [size for size in sizes if size <= largest and num_inputs % size == 0]
    if not fitting:
        raise UserError(
            "int4 weights cannot be cut into groups",
            got=f"{num_inputs} inputs, groups of {wanted or 'all'}",
            allowed=f"groups of {', '.join(map(str, sizes))} that cut them evenly",
            next_step="take int8 weights, or another block_size in the profile",
        )
    return max(fitting)


def _is_linear(weight: ProgramWeight) -> bool:
    head = weight.module == LM_HEAD.removesuffix(".weight")
    return weight.parameter.endswith(".weight") and (head or weight.module.endswith("_proj"))


def _quantised(
    config: ModelConfig, weight: ProgramWeight, dtype: FloatType, device: str, fineness: Fineness
) -> ProgramWeight:
    rows, columns = parameter_shape(config, weight.parameter)
    bits, wanted = fineness
    group = whole_group(columns, wanted, GROUPS if bits == 4 else None)
    num_groups = columns // group
    if bits == 4:
        layout = INT4_LAYOUTS[device]
        levels = TensorSpec(
            name=f"{weight.module}.levels", dtype=layout.dtype, shape=layout.shape(rows, columns)
        )
        scales: tuple[int, ...] = (num_groups, rows, 2)
    else:
        levels = TensorSpec(name=f"{weight.module}.levels", dtype="int8", shape=(rows, columns))
        scales = (rows, num_groups)
    spec = TensorSpec(name=f"{weight.module}.scales", dtype=dtype, shape=scales)
    return ProgramWeight(
        parameter=weight.parameter,
        module=weight.module,
        files=(levels, spec),
        bits=bits,
        group_size=group,
    )
