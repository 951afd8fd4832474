"""Measures compiled bundles: the grid, the clocks, the figures, and the ways to show them.

docs/benchmarks.md tells what each figure means and what is left out.
"""
