"""How much text is measured for a calibration; data that weighs nothing."""

__all__ = ["CALIBRATION_TOKENS", "LEAST_TOKENS", "LONGEST", "MOST_TOKENS", "TEXTS_AT_ONCE"]

CALIBRATION_TOKENS = 512  # of the text that an int8 cache is calibrated with, at most

# Of the texts that weights are calibrated with.
LONGEST = 512  # tokens of one; a longer one is cut into several
MOST_TOKENS = 16_384  # of all; more take more time and change little
TEXTS_AT_ONCE = 8  # whose rows are in memory while they are added up
LEAST_TOKENS = 256  # of all; fewer say too little about what a layer is given
