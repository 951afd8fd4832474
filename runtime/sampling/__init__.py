"""From a row of logits to a token id: the settings, their defaults and the steps."""
