"""A Ray cluster: where there are devices, and actors on them. Batch and evals say what they do."""
