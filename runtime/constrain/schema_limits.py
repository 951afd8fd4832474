"""How large a JSON schema may be.

llguidance has limits of its own. These are for what passes them and takes seconds, gigabytes or
more stack than a process has. Within all of them a schema compiles in less than half a second.
"""

import math
from decimal import Decimal
from typing import Any

from runtime.constrain.schema_places import Place
from runtime.errors import JsonSchemaError

__all__ = ["check_limits"]

MAX_MEMBERS = 500  # of a list or object; optional properties cost their square
MAX_PATTERNS = 500
MAX_PATTERN_PROPERTIES = 100  # each is compared with every other
MAX_MERGED_PATTERNS = 8  # what several have in common can take exponential time to find
MAX_MERGED_VALUES = 100
MAX_LEVELS = 1000  # that references may lead down: 1,200 overflow 8 MB of stack
MAX_MULTIPLE = 10_000  # the states that count remainders multiply where two values meet

APPLIED = frozenset(("$ref", "allOf", "anyOf", "oneOf"))
# What makes no second schema of what stands beside APPLIED.
APART = frozenset(
    (
        "$anchor",
        "$comment",
        "$defs",
        "$id",
        "$schema",
        "default",
        "definitions",
        "deprecated",
        "description",
        "examples",
        "readOnly",
        "title",
        "type",
        "writeOnly",
    )
)


def check_limits(schema: dict[str, Any], places: list[Place]) -> None:
    """Refuses what would take too long.

    Args:
        schema: the whole.
        places: every schema within it.

    Raises:
        JsonSchemaError: a limit is exceeded.
    """
    for place in places:
        for keyword in place.schema:
            members = _members(place, keyword)
            _at_most(MAX_MEMBERS, members, f"members of {keyword} at {place.pointer}")
    words = [place.text(word) for place in places for word in ("pattern", "format")]
    patterns = sum(word is not None for word in words)
    properties = sum(place.size("patternProperties") for place in places)
    _at_most(MAX_PATTERNS, patterns, "patterns and formats")
    _at_most(MAX_PATTERN_PROPERTIES, properties, "patternProperties")
    if any(map(_merges, places)):
        values = sum(place.size("enum") for place in places)
        _at_most(MAX_MERGED_PATTERNS, patterns + properties, "patterns where schemas are merged")
        _at_most(MAX_MERGED_VALUES, values, "values of enum where schemas are merged")
    references = {place.text("$ref") for place in places} - {None}
    _at_most(MAX_LEVELS, len(references) * _depth(schema), "levels that its references may lead to")
    factors = [place.schema.get("multipleOf") for place in places]
    multiple = math.lcm(*(_digits(each) for each in factors if isinstance(each, int | float)))
    _at_most(MAX_MULTIPLE, multiple, "multiples before all values of multipleOf have one in common")


def _at_most(allowed: int, num: int, of_what: str) -> None:
    if num > allowed:
        raise JsonSchemaError(
            f"the JSON schema has too many {of_what}",
            got=num,
            allowed=f"up to {allowed}",
            next_step="simplify it",
        )


def _members(place: Place, keyword: str) -> int:
    """How many a keyword has; texts and numbers of an enum cost next to nothing."""
    value = place.schema[keyword]
    if keyword == "enum" and isinstance(value, list):
        return sum(isinstance(each, dict | list) for each in value)
    return place.size(keyword)


def _merges(place: Place) -> bool:
    """Whether a value must fulfil two schemas at once."""
    counted = place.schema.keys() - APART
    return bool(counted & APPLIED) and (len(counted) > 1 or place.size("allOf") > 1)


def _digits(value: float) -> int:
    """A number without its decimal point: 0.25 is 25. Never 0, which has no multiples."""
    number = Decimal(str(value)).normalize()
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int), "parse_json lets no infinity through"
    return max(1, int(abs(number.scaleb(-min(0, exponent)))))


def _depth(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, children), default=0) if isinstance(value, dict | list) else 0
