"""Turns a checkpoint into static-shape ONNX graphs; torch lives here and nowhere else."""
