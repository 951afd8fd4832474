"""Lets a prompt begin with a dash, as in "-5 + 3 = ?"."""

import re
from typing import Any

from typer.core import TyperCommand, TyperOption

__all__ = ["DashedPromptCommand"]

DASHED = re.compile("-[^-A-Za-z]")


class DashedPromptCommand(TyperCommand):
    """A command whose last argument may begin with a dash that no option begins with."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts such an argument behind the --, where nothing is taken for an option."""
        if "--" not in args:
            dashed = [i for i, arg in enumerate(args) if self._is_prompt(args, i, arg)]
            if len(dashed) == 1:
                prompt = args[dashed[0]]
                args = [*args[: dashed[0]], *args[dashed[0] + 1 :], "--", prompt]
        return super().parse_args(ctx, args)

    def _is_prompt(self, args: list[str], position: int, arg: str) -> bool:
        """A dash and something that is no letter, where no value of an option stands."""
        options = [param for param in self.params if isinstance(param, TyperOption)]
        take_values = {name for option in options if not option.is_flag for name in option.opts}
        follows = position > 0 and args[position - 1] in take_values
        return bool(DASHED.match(arg)) and not follows
