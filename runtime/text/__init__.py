"""Text to token ids and back. Knows nothing of models or HTTP."""
