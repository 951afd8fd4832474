"""Bytes, seconds and memory that follow from a model's shape and a profile."""
