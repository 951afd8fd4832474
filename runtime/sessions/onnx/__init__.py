"""CPUs through ONNX Runtime: exported graphs as they are, and graphs compiled for it."""
