"""Random JSON schemas, each of which some value fulfils."""

from collections.abc import Callable
from random import Random
from typing import Any

Schema = dict[str, Any]
Leaf = Callable[[Random], Schema]
Nest = Callable[[Random, int], Schema]

WORDS = ("name", "年龄", "城市", "a b", 'quo"te', "back\\slash", "é", "𠮷", "line\nbreak", "x")
PATTERNS = (
    r"^[a-z]{1,8}$",
    r"^\d{4}-\d{2}-\d{2}$",
    r"^[一-龥]{1,4}$",
    r"ab+c",
    r"^(yes|no|是|否)$",
    r"^[A-Z][0-9]{0,3}$",
)
FORMATS = ("date", "uuid", "ipv4", "time")


def random_schema(rng: Random) -> Schema:
    """A schema of up to four levels, sometimes one that refers to itself."""
    return tree(rng) if rng.random() < 0.1 else _schema(rng, 3)


def tree(rng: Random) -> Schema:
    """Nodes that may have further nodes of the same kind below them."""
    node = {
        "type": "object",
        "properties": {
            "值": _schema(rng, 0),
            "next": {"anyOf": [{"$ref": "#/$defs/节点"}, {"type": "null"}]},
        },
        "required": ["值", "next"],
        "additionalProperties": False,
    }
    return {"$defs": {"节点": node}, "$ref": "#/$defs/节点"}


def _schema(rng: Random, depth: int) -> Schema:
    if depth and rng.random() < 0.5:
        return rng.choice(NESTS)(rng, depth - 1)
    return rng.choice(LEAVES)(rng)


def _some(rng: Random, bounds: Schema) -> Schema:
    return {word: value for word, value in bounds.items() if rng.random() < 0.7}


def _integer(rng: Random) -> Schema:
    low = rng.randint(-1000, 1000)
    bounds = {"minimum": low, "maximum": low + rng.randint(0, 500)}
    return {"type": "integer", **_some(rng, bounds)}


def _number(rng: Random) -> Schema:
    low = round(rng.uniform(-10, 10), 2)
    return {"type": "number", **_some(rng, {"minimum": low, "exclusiveMaximum": low + 3})}


def _multiple(rng: Random) -> Schema:
    return {"type": "integer", "multipleOf": rng.randint(1, 12), "minimum": 0, "maximum": 10_000}


def _string(rng: Random) -> Schema:
    low = rng.randint(0, 3)
    bounds = {"minLength": low, "maxLength": low + rng.randint(0, 9)}
    return {"type": "string", **_some(rng, bounds)}


def _pattern(rng: Random) -> Schema:
    return {"type": "string", "pattern": rng.choice(PATTERNS)}


def _format(rng: Random) -> Schema:
    return {"type": "string", "format": rng.choice(FORMATS)}


def _enum(rng: Random) -> Schema:
    return {"enum": rng.sample([*WORDS, 3, -2.5, None, True, {"值": [1]}], rng.randint(1, 4))}


def _const(rng: Random) -> Schema:
    return {"const": rng.choice([*WORDS, 0, [], {"k": "值"}])}


def _simple(rng: Random) -> Schema:
    return {"type": rng.choice(("boolean", "null", ["boolean", "null"], ["integer", "string"]))}


def _object(rng: Random, depth: int) -> Schema:
    names = rng.sample(WORDS, rng.randint(0, 4))
    others: Schema | bool = _schema(rng, 0) if rng.random() < 0.2 else False
    return {
        "type": "object",
        "properties": {name: _schema(rng, depth) for name in names},
        "required": rng.sample(names, rng.randint(0, len(names))),
        "additionalProperties": others,
    }


def _array(rng: Random, depth: int) -> Schema:
    low = rng.randint(0, 2)
    sizes = {"minItems": low, "maxItems": low + rng.randint(0, 3)}
    return {"type": "array", "items": _schema(rng, depth), **sizes}


def _tuple(rng: Random, depth: int) -> Schema:
    items = [_schema(rng, depth) for _ in range(rng.randint(1, 3))]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}


def _any_of(rng: Random, depth: int) -> Schema:
    return {"anyOf": [_schema(rng, depth) for _ in range(rng.randint(1, 3))]}


LEAVES: tuple[Leaf, ...] = (
    _integer,
    _number,
    _multiple,
    _string,
    _pattern,
    _format,
    _enum,
    _const,
    _simple,
)
NESTS: tuple[Nest, ...] = (_object, _object, _array, _tuple, _any_of)
