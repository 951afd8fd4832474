"""Runs a compiled bundle on the device: no torch, no transformers, no onnx."""
