"""Attention as the chip reads the fewest bytes for it."""

import onnx_ir as ir

from runtime.bundle.manifest import ModelConfig
from toolchain.targets.ascend.attention_parts import find_attentions, half_mask, sizes_of
from toolchain.targets.ascend.joined_attention import attend_joined
from toolchain.targets.ascend.left_operand_attention import attend_on_the_left, turned_mask

__all__ = ["MOST_COLUMNS", "RewriteAttention"]

# Of the query as a block diagonal: B x S x H. Multiplying with the heads of all groups and
# sequences costs about so many operations / 4 for each byte of the cache that is not transposed;
# a 310P3 does 395 in the time of a byte, a 910B3 215 (profiles/, with their efficiencies).
MOST_COLUMNS = 1024


class RewriteAttention(ir.passes.InPlacePass):
    """The attention of every layer anew, between its four projections.

    1. Rotation is computed where a row lies whole, so new rows leave the graph as they are.
    2. The query is scaled by its rotary tables, instead of the scores in float32.
    3. Few rows: the cache is the left operand (left_operand_attention.py). Many rows, or no cache:
       joined (joined_attention.py).
    4. What was there before loses its readers, and goes when the graph is tidied.

    Expects 4 L projections, the rotary tables, 2 L outputs, and 2 L inputs where there is a cache.

    Args:
        config: the model.
        most_columns: up to which rows are few; 0 for a graph of any number of rows.
    """

    def __init__(self, config: ModelConfig, most_columns: int = MOST_COLUMNS) -> None:
        super().__init__()
        self.config, self.most_columns = config, most_columns

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        graph, sizes = model.graph, sizes_of(model.graph, self.config)
        columns = sizes.batch * sizes.rows * sizes.heads
        few = sizes.cached > 0 and columns <= self.most_columns
        attend, mask = attend_joined, half_mask(graph)
        if few:
            attend, mask = attend_on_the_left, turned_mask(graph, mask)
        for attention in find_attentions(graph, self.config):
            attention.finish(attend(attention, sizes, mask))
        return ir.passes.PassResult(model, modified=True)
