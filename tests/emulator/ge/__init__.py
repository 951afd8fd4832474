"""Models of GE operators: `atc --framework=1` reads them, the emulated card computes them."""
