"""Batch files of OpenAI's format: many requests, answered by the engine of one box, no HTTP."""
