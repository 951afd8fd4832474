"""Changes of JSON, TOML and bytes that a hostile or a clumsy hand might make."""

import json
import random
from typing import Any

__all__ = ["mutate_bytes", "mutate_json", "mutate_toml"]

DEEP = "\x00deep\x00"  # stands for brackets that json.dumps would not nest
BIG = "\x00big\x00"
STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    3,
    7,
    255,
    65_536,
    2**31,
    2**63,
    2**64,
    10**30,
    -(10**30),
    0.5,
    -0.0,
    1e-300,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
    "",
    "x",
    "0",
    "1e999",
    "\x1b[2J",
    "\ud800",
    "../../etc/passwd",
    "/dev/zero",
    "x" * 10_000,
    "北京",
    [],
    {},
    [[]],
    [1, 2, 3],
    {"a": 1},
    {"value": 1},
    DEEP,
    BIG,
)


def mutate_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with one thing changed somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        match rng.randrange(12):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, f"{key}_": value[key]}
            case 2:
                return {**value, rng.choice(["", "\x1b]0;t\x07", "__class__", key.upper()]): 1}
            case _:
                return {**value, key: mutate_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        i = rng.randrange(len(value))
        match rng.randrange(8):
            case 0:
                return value[:i] + value[i + 1 :]
            case 1:
                return value + [value[i]] * rng.choice([1, 5, 1000])
            case _:
                return [*value[:i], mutate_value(value[i], rng), *value[i + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice([value + 1, value - 1, -value, value * 2, value * 10**6, value / 3])
    return rng.choice(STRANGE)


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON document, changed as data or as bytes."""
    if rng.random() < 0.15:
        return mutate_bytes(data, rng)
    text = json.dumps(mutate_value(json.loads(data), rng), indent=2)
    depth, digits = rng.choice([100, 5_000, 100_000]), rng.choice([400, 5_000, 50_000])
    text = text.replace(json.dumps(DEEP), "[" * depth + "]" * depth)
    return text.replace(json.dumps(BIG), "9" * digits).encode("utf-8", "surrogatepass")


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes cut, changed, repeated or led by a mark."""
    i = rng.randrange(len(data) + 1)
    match rng.randrange(8):
        case 0:
            return data[:i]
        case 1:
            return b""
        case 2:
            return data[:i] + rng.randbytes(rng.choice([1, 4, 64])) + data[i:]
        case 3:
            return b"\xef\xbb\xbf" + data
        case 4:
            return data.decode("latin-1").encode("utf-16")
        case 5:
            return data[:i] + b"\x00" * 16 + data[i + 16 :]
        case 6:
            return data + data
        case _:
            changed = bytearray(data)
            for _ in range(rng.choice([1, 3, 20])):
                if changed:
                    changed[rng.randrange(len(changed))] = rng.randrange(256)
            return bytes(changed)


def mutate_toml(data: bytes, rng: random.Random) -> bytes:
    """A profile with a line or a value changed."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    lines = data.decode().splitlines()
    i = rng.choice([n for n, line in enumerate(lines) if "=" in line])
    head, _, old = lines[i].partition("=")
    values = [
        "-1", "0", "1e999", "inf", "nan", "9" * rng.choice([30, 5_000]), '""', "[]", "{}", "true",
        "[" * 5_000 + "]" * 5_000, "1979-05-27", '"x\\u001b[2J"', old.replace("1", "99999999"),
        old.replace("40", "1000000000"), "{ value = inf, source = '' }",
    ]  # fmt: skip
    lines[i] = f"{head}= {rng.choice(values)}"
    if rng.random() < 0.2:
        del lines[rng.randrange(len(lines))]
    return "\n".join(lines).encode()
