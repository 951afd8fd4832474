"""Multiple-choice benchmarks: questions to prompts, a model's choices to counted scores."""
