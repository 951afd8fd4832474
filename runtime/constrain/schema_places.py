"""The schemas within a JSON schema, each with the JSON pointer that leads to it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["NAMED", "NESTED", "Place", "places_of"]

# Keywords whose value is a schema or a list of them, and those whose value is an object of schemas.
NESTED = (
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "items",
    "oneOf",
    "prefixItems",
)
NAMED = ("$defs", "definitions", "patternProperties", "properties")


class Place(NamedTuple):
    """A schema and where it stands, such as #/properties/name."""

    pointer: str
    schema: dict[str, Any]

    def text(self, keyword: str) -> str | None:
        """The value of a keyword, where it is a text."""
        value = self.schema.get(keyword)
        return value if isinstance(value, str) else None

    def size(self, keyword: str) -> int:
        """The number of members of a keyword's value, where it can have any."""
        value = self.schema.get(keyword)
        return len(value) if isinstance(value, list | dict) else 0


def places_of(value: Any, pointer: str = "#") -> Iterator[Place]:
    """Every schema in a value that is one, or a list of them; what is neither is passed over."""
    if isinstance(value, list):
        for at, each in enumerate(value):
            yield from places_of(each, f"{pointer}/{at}")
    elif isinstance(value, dict):
        yield Place(pointer, value)
        for keyword in NESTED:
            yield from places_of(value.get(keyword), f"{pointer}/{keyword}")
        for keyword in NAMED:
            named = value.get(keyword)
            for name, each in named.items() if isinstance(named, dict) else ():
                yield from places_of(each, f"{pointer}/{keyword}/{name}")
