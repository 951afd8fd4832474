"""What the precisions of the CPU are made of; data that weighs nothing."""

__all__ = ["BITS", "CALIBRATION_TOKENS"]

# Bits of the layers and of the LM head. The head in int8 costs 3 % more bytes to read for a 7B and
# takes most of int4's perplexity away: +0.5 % instead of +2.9 % on a small trained model.
BITS = {"int4": (4, 8), "int8": (8, 8)}
CALIBRATION_TOKENS = 512  # of the text that an int8 cache is calibrated with, at most
