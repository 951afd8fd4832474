"""Two results side by side, in the form of the manual's tables."""
