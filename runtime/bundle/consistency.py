"""Whether the parts of a manifest fit each other: its hashes prove only that it was not altered."""

from runtime.bundle.manifest import Graph, GraphSpec, Manifest, ModelConfig, TensorSpec
from runtime.bundle.tensor_names import LOGITS, past_key, past_value

__all__ = ["contradiction"]


def contradiction(manifest: Manifest) -> str | None:
    """What does not fit, in words; None where all does."""
    specs = [graph.spec for graph in manifest.graphs]
    if len({spec.cache_len for spec in specs if spec.cache_len}) > 1:
        return "its graphs have caches of several lengths"
    if any(spec.phase == "decode" and (spec.seq_len != 1 or not spec.cache_len) for spec in specs):
        return "it has a decode graph of several tokens or without a cache"
    if not any(_answers(spec) for spec in specs):
        return "it has no graph that answers one request token by token"
    if not all(_is_shorter(each, graph) for graph in manifest.graphs for each in graph.shorter):
        return "a graph for fewer cached rows is not the same with fewer cached rows"
    if manifest.max_batch_size > manifest.num_slots:
        return f"a graph runs more sequences than there are slots, {manifest.num_slots}"
    for graph in manifest.every_graph:
        problem = _graph_problem(graph, manifest.model)
        if problem is not None:
            return f"graph {graph.spec.name}: {problem}"
    return None


def _answers(spec: GraphSpec) -> bool:
    return spec.phase != "score" and spec.batch_size == spec.seq_len == 1 and spec.cache_len > 0


def _is_shorter(one: Graph, graph: Graph) -> bool:
    fewer = 0 < one.spec.cache_len < graph.spec.cache_len
    same = one.spec.model_copy(update={"cache_len": graph.spec.cache_len}) == graph.spec
    return fewer and same and graph.spec.batch_size == 1 and not one.shorter


def _graph_problem(graph: Graph, model: ModelConfig) -> str | None:
    layers = range(model.num_hidden_layers)
    expected = {name(i) for i in layers for name in (past_key, past_value)}
    cached = {tensor.name: tensor for tensor in graph.inputs if tensor.name.startswith("past_")}
    # One that starts a sequence takes a cache where it writes its rows itself.
    if cached.keys() != expected and (cached or graph.spec.cache_len):
        return f"its cache is not that of {model.num_hidden_layers} layers"
    for tensor in cached.values():
        if not _is_cache(tensor, graph, model):
            return f"{tensor.name} is {tensor.shape}, which the model's heads do not have"
    logits = [tensor.shape[-1:] for tensor in graph.outputs if tensor.name == LOGITS]
    if logits != [(model.vocab_size,)]:
        return f"its logits are not those of {model.vocab_size} tokens"
    return None


def _is_cache(tensor: TensorSpec, graph: Graph, model: ModelConfig) -> bool:
    """Whether a tensor is (B, heads, rows, D) or (B, rows, heads, D), with rows for the cache."""
    if len(tensor.shape) != 4:
        return False
    batch, one, other, head_dim = tensor.shape
    heads, rows = model.num_key_value_heads, graph.spec.cache_len
    fits = (one == heads and other >= rows) or (other == heads and one >= rows)
    return (batch, head_dim) == (graph.spec.batch_size, model.head_dim) and fits
