"""The ordered list of passes over a torch program: none, since its compiler fuses by itself."""

from toolchain.targets.pass_list import Pass

__all__ = ["PASSES"]

PASSES: tuple[Pass, ...] = ()
