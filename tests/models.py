"""The models that the suites use; a test that needs another one changes a copy."""

from runtime.bundle.manifest import Graph, Manifest, ModelConfig, Provenance

TINY = ModelConfig(
    vocab_size=640,  # that of the miniature's tokenizer
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
)
# Chinese-Alpaca-2-7B
SEVEN_B = ModelConfig(
    vocab_size=55296,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
    head_dim=128,
    max_position_embeddings=4096,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
)


def bare_manifest(model: ModelConfig = TINY, graphs: tuple[Graph, ...] = ()) -> Manifest:
    """The manifest of a bundle that has no files."""
    return Manifest(
        stage="compiled",
        backend="onnxruntime",
        target="cpu",
        weights="fp32",
        model=model,
        graphs=graphs,
        num_slots=1,
        files={},
        provenance=Provenance(source_files={}, tool_versions={}, options={}),
        profile={},
    )
