"""The graph for a cache of fewer rows, from that of a longer one."""

import onnx_ir as ir

from export.expect import find
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.tensor_names import ATTENTION_MASK
from toolchain.targets.ascend.graph_edit import cache_inputs, shape_of

__all__ = ["ShorterCache"]


class ShorterCache(ir.passes.InPlacePass):
    """past_key.{i} (B, G, C, D) -> the same with fewer rows, and so the values and the mask.

    The first rows of a slot lie as those of a shorter slot, so both graphs read one cache. Runs
    before rewrite_attention, which makes anew all that depends on these shapes. Expects 2 L + 1
    inputs.

    Args:
        config: the model.
        cache_len: rows from now on.
    """

    def __init__(self, config: ModelConfig, cache_len: int) -> None:
        super().__init__()
        self.config, self.cache_len = config, cache_len

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        names = cache_inputs(model.graph, self.config.num_hidden_layers)
        found = find(model.graph.inputs, [*names, ATTENTION_MASK])
        for name in names:
            batch, heads, _, size = shape_of(found[name])
            found[name].shape = ir.Shape([batch, heads, self.cache_len, size])
        mask = found[ATTENTION_MASK]
        *rest, rows, _ = shape_of(mask)
        mask.shape = ir.Shape([*rest, rows, self.cache_len + rows])
        return ir.passes.PassResult(model, modified=True)
