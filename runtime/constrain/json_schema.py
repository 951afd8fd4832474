"""JSON schemas: which are taken, and how the JSON of an answer is written.

llguidance compiles them, and refuses much that it cannot follow. Refused here, by name and place,
is what it does not check or follows only nearly.
"""

from typing import Any
from urllib.parse import quote, unquote

from runtime.constrain.schema_limits import check_limits
from runtime.constrain.schema_places import NAMED, NESTED, Place, places_of
from runtime.errors import JsonSchemaError
from runtime.json_file import parse_json

__all__ = ["json_schema_grammar"]

# White space that cannot go on for ever: none, a space, or a line break and an indent.
OPTIONS = {"whitespace_pattern": r" |\n {0,24}"}

FOLLOWED = (*NESTED, *NAMED, "$ref", "const", "enum", "format", "pattern", "required", "type")
NOT_FOLLOWED = frozenset(
    (
        "$dynamicRef",
        "$recursiveRef",
        "contains",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "if",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
        "x-guidance",
    )
)
MAX_EXACT = 2**53  # numbers are read as float64


def json_schema_grammar(text: str) -> dict[str, object]:
    """The grammar of the JSON that a schema allows, for llguidance.

    Raises:
        JsonSchemaError: no JSON, no schema, or one that cannot be followed.
    """
    schema = parse_json(text.encode(), "the JSON schema", JsonSchemaError)
    if not isinstance(schema, dict):
        raise JsonSchemaError(
            "the JSON schema is not an object",
            got=type(schema).__name__,
            next_step='write a schema such as {"type": "object"}',
        )
    places = list(places_of(schema))
    check_limits(schema, places)
    for place in places:
        _check_keywords(place)
        _check_min_properties(place)
    _check_numbers(schema)
    _check_references(places)
    _encode_references(places)
    return {"json_schema": {**schema, "x-guidance": OPTIONS}}


def _check_keywords(place: Place) -> None:
    for keyword in sorted(place.schema.keys() & NOT_FOLLOWED):
        raise JsonSchemaError(
            f"the JSON schema has a keyword that cannot be followed, at {place.pointer}",
            got=keyword,
            allowed=", ".join(sorted(FOLLOWED)) + ", and bounds of numbers, lengths and counts",
            next_step="remove it, and check the answer for it yourself",
        )


def _check_min_properties(place: Place) -> None:
    """A name that the schema does not list may be written twice, and would be counted twice."""
    least, allowed = place.schema.get("minProperties", 0), place.size("required") + 1
    if isinstance(least, int) and least > allowed:
        raise JsonSchemaError(
            f"minProperties of the JSON schema cannot be followed, at {place.pointer}",
            got=least,
            allowed=f"one more than the properties in required, here {allowed}",
            next_step="name the properties in required",
        )


def _check_references(places: list[Place]) -> None:
    found = {place.pointer for place in places} | {"#/"}
    for place in places:
        reference = place.text("$ref")
        if reference is not None and _decoded(reference) not in found:
            raise JsonSchemaError(
                f"a $ref of the JSON schema leads to no schema, at {place.pointer}",
                got=reference,
                allowed="#, or a place of this schema such as #/$defs/NAME",
            )


def _decoded(reference: str) -> str:
    return unquote(reference).replace("~1", "/").replace("~0", "~")


def _encode_references(places: list[Place]) -> None:
    """Writes them as URIs are, in ASCII: a Chinese name in $defs is common, and llguidance strict.

    Changes the schemas, which were read for this alone.
    """
    for place in places:
        reference = place.text("$ref")
        if reference is not None:
            place.schema["$ref"] = quote(reference, safe="#/%~$")


def _check_numbers(value: Any) -> None:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _check_numbers(each)
    elif isinstance(value, int) and abs(value) > MAX_EXACT:
        raise JsonSchemaError(
            "a number of the JSON schema is not exact",
            got=value,
            allowed=f"{-MAX_EXACT} to {MAX_EXACT}",
            next_step="ask for a string with a pattern in its place",
        )
