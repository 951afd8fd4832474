"""Claims about what is refused: by name, with a reason, and before a model is opened."""

import json
from typing import Any

import pytest

from runtime.constrain import check_constraint
from runtime.errors import JsonSchemaError, ParameterError
from runtime.sampling.constraint import ConstraintKind, ConstraintSpec

NAMES = [f"n{number}" for number in range(600)]
PAIRS = [f"{a}{b}" for a in NAMES[:130] for b in "xyz"]


def text_of(schema: Any) -> str:
    return json.dumps(schema, ensure_ascii=False)


def nested(levels: int) -> str:
    return '{"items":' * levels + "{}" + "}" * levels


def objects(num: int) -> Any:
    return {"properties": {name: {} for name in NAMES[:num]}}


def chain(length: int) -> Any:
    """Definitions each of which leads to the next."""
    names = {f"d{i}": {"items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(length)}
    return {"$defs": {**names, f"d{length}": {}}, "$ref": "#/$defs/d0"}


def doubling(levels: int, word: str) -> Any:
    """Two ways at each level: 2 to the power of the levels in all."""
    names = {
        f"d{i}": {word: [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]}
        for i in range(levels)
    }
    return {"$defs": {**names, f"d{levels}": {"type": "null"}}, "$ref": "#/$defs/d0"}


def product(factors: int) -> Any:
    """Every choice of one from each of the factors."""
    return {
        "allOf": [
            {"anyOf": [{"properties": {f"{at}{i}": {"type": "null"}}} for i in range(4)]}
            for at in range(factors)
        ]
    }


BROKEN = {
    "": "is not JSON",
    "{": "is not JSON",
    '{"type": "string", "type": "null"}': "the key 'type' stands twice",
    '{"minimum": NaN}': "nan is no number",
    "[]": "is not an object; got list",
    "true": "is not an object; got bool",
    nested(64): None,
    nested(65): "nested deeper than 64 levels",
    nested(20_000): "nested deeper than 64 levels|too large",
    text_of({"title": "x" * 2**20}): "too large; got 10485[0-9]+ bytes; allowed: up to 65536",
    '{"const": "\\ud800"}': "not valid Unicode",
}
WRONG = {
    '{"type": "strin"}': "Invalid type: strin",
    '{"type": 3}': "type must be a string or array",
    '{"required": "a"}': "Expected array for 'required'",
    '{"type": "string", "pattern": "("}': "unclosed group",
    '{"type": "string", "pattern": "a(?=b)"}': "look-around",
    '{"type": "string", "format": "colour"}': "Unknown format: colour",
    '{"type": "integer", "minimum": 5, "maximum": 3}': "minimum .5. is greater than maximum",
    '{"type": "string", "pattern": "^a{5}$", "maxLength": 3}': "Unsatisfiable",
    '{"enum": []}': "Unsatisfiable",
    '{"type": "object", "properties": {"a": false}, "required": ["a"]}': "Unsatisfiable",
    '{"oneOf": [{"type": "integer"}, {"minimum": 3}]}': "oneOf constraints are not supported",
    '{"type": "integer", "maximum": 9007199254740993}': "not exact; got 9007199254740993",
    '{"const": 18446744073709551616}': "not exact",
    '{"type": "object", "minProperties": 2}': "minProperties .*at #; got 2; .*here 1",
    '{"x-guidance": {"lenient": true}, "not": {}}': "at #; got not",
    '{"$ref": "#"}': "no text",
    '{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}': (
        "no text"
    ),
    '{"$ref": "#/$defs/a"}': "leads to no schema, at #; got #/.defs/a",
    '{"$ref": "https://example.org/schema.json"}': "leads to no schema",
    '{"items": {"$ref": "#/items/title"}}': "leads to no schema, at #/items",
}
LARGE: dict[str, tuple[Any, str | None]] = {
    "members": (objects(500), None),
    "one more": (objects(501), "members of properties at #"),
    "enum of texts": ({"enum": [*NAMES, *PAIRS]}, None),
    "enum of lists": ({"enum": [[name] for name in NAMES]}, "members of enum at #"),
    "required": ({"items": {"required": NAMES}}, "members of required at #/items"),
    "patterns": ({"prefixItems": [{"pattern": "a"}, {"format": "date"}] * 249}, None),
    "pattern properties": (
        {"patternProperties": {f"^{name}$": {} for name in NAMES[:101]}},
        "101; allowed: up to 100",
    ),
    "merged": ({"allOf": [{"pattern": name} for name in NAMES[:4]]}, None),
    "merged beyond": ({"allOf": [{"pattern": name} for name in NAMES[:9]]}, "schemas are merged"),
    "merged beside": (
        {"pattern": "a", "anyOf": [{"pattern": name} for name in NAMES[:8]]},
        "schemas are merged",
    ),
    "merged values": ({"enum": NAMES[:99], "anyOf": [{"enum": ["a", "b"]}]}, "values of enum"),
    "not merged": ({"type": "string", "anyOf": [{"pattern": name} for name in NAMES[:9]]}, None),
    "chain": (chain(249), None),
    "long chain": (chain(250), "levels that its references may lead to"),
    "doubling": (doubling(40, "anyOf"), None),
    "doubling all": (doubling(40, "allOf"), None),
    "product": (product(12), "schema too large"),
    "multiple": ({"type": "integer", "multipleOf": 10_000}, None),
    "multiples": (
        {"anyOf": [{"type": "integer", "multipleOf": i} for i in (97, 101, 103)]},
        "multipleOf",
    ),
    "decimals": ({"type": "number", "multipleOf": 0.001}, None),
    "many items": ({"type": "array", "minItems": 10**9}, None),
    "long texts": ({"type": "string", "maxLength": 10**9}, None),
    "repeats": ({"type": "string", "pattern": "^(([a-z]{1,99}){1,99}){1,99}$"}, None),
    "states": ({"type": "string", "pattern": "(a|b)*a(a|b){30}$"}, None),
}
EXPRESSIONS: dict[str, str | None] = {
    "(": "unclosed group",
    "a(?=b)": "look-around",
    r"(a)\1": "backreference",
    "[b-a]": "invalid character class range",
    "(" * 300 + ")" * 300: "nested",
    "a{1000}{1000}{1000}": None,
    "(a|b)*a(a|b){99}": None,
    "a\ud800": "not valid Unicode; got lone surrogate",
    "a" * (2**14 + 1): "too large; got 16385 bytes",
    "^" + r"\\$": None,
    r"a\$": None,
    "a$b": "lookarounds",
}
GRAMMARS: dict[str, str | None] = {
    "": "no start rule",
    'first: "a"': "no start rule",
    "start: /a/\nfoo": "Expected token",
    "start: other": "unknown name",
    'start: <s> "a"': "unknown special token",
    "start: A\nA: /a/ & /b/": "allows no text",
    'start: T\nT: T "a" | "a"': "circular reference",
    'start: one "c"\none[max_tokens=3]: /.*/': "rollback not supported",
    'start: one "c"\none[stop="c"]: /.*/': "rollback not supported",
    "start: " + "|".join(f'"{name}"' for name in [*NAMES, *PAIRS, *map(str, range(1200))]): "items",
    "start: T0\n"
    + "".join(f"T{i}: T{i + 1} T{i + 1}\n" for i in range(40))
    + 'T40: "a"': "too big",
    "start: " + "(" * 7000: "too deeply nested",
    'start: "' + "a" * 2**14 + '"': "too large",
    "start: %json " + nested(200): "recursion limit",
}


def check(kind: ConstraintKind, value: str | tuple[str, ...], reason: str | None) -> None:
    spec = ConstraintSpec(kind=kind, value=value)
    if reason is None:
        check_constraint(spec)
        return
    with pytest.raises(ParameterError, match=reason) as refusal:
        check_constraint(spec)
    is_schema = kind == "json_schema"
    assert isinstance(refusal.value, JsonSchemaError) == is_schema
    assert refusal.value.code == ("invalid_json_schema" if is_schema else "invalid_value")
    assert refusal.value.param == kind
    assert len(str(refusal.value)) < 800


@pytest.mark.parametrize(("text", "reason"), BROKEN.items(), ids=lambda value: str(value)[:20])
def test_what_is_no_json_or_no_schema_is_refused(text: str, reason: str | None) -> None:
    check("json_schema", text, reason)


@pytest.mark.parametrize(("text", "reason"), WRONG.items(), ids=lambda value: str(value)[:40])
def test_a_schema_that_cannot_be_followed_is_refused_with_the_reason(
    text: str, reason: str
) -> None:
    check("json_schema", text, reason)


@pytest.mark.parametrize(
    "keyword", ["uniqueItems", "not", "if", "contains", "propertyNames", "dependentRequired"]
)
def test_a_keyword_that_is_not_followed_is_named_with_its_place(keyword: str) -> None:
    """It would only be passed over, and the answer would break the schema."""
    text = text_of({"properties": {"年龄": {"items": {keyword: True}}}})
    check("json_schema", text, f"at #/properties/年龄/items; got {keyword}; allowed: .*anyOf")


def test_what_is_a_name_or_a_value_is_no_keyword() -> None:
    schema = {
        "properties": {"not": {"const": {"uniqueItems": True}}, "multipleOf": {"type": "null"}},
        "title": "x",
        "examples": [{"not": 1}],
        "x-order": 3,
    }
    check("json_schema", text_of(schema), None)


@pytest.mark.parametrize("name", LARGE)
def test_a_schema_up_to_the_limits_is_taken_and_a_larger_one_refused(name: str) -> None:
    """Beyond them llguidance took minutes, or the stack of the process overflowed."""
    schema, reason = LARGE[name]
    check("json_schema", text_of(schema), reason)


@pytest.mark.parametrize(
    "name",
    ["节点", "a b", "a/b", "a~b", "50%"],
    ids=["chinese", "space", "slash", "tilde", "percent"],
)
def test_a_reference_leads_to_any_name(name: str) -> None:
    escaped = name.replace("%", "%25").replace("~", "~0").replace("/", "~1")
    schema = {"$defs": {name: {"type": "null"}}, "$ref": f"#/$defs/{escaped}"}
    check("json_schema", text_of(schema), None)


@pytest.mark.parametrize(("regex", "reason"), EXPRESSIONS.items(), ids=lambda value: str(value)[:9])
def test_an_expression_is_refused_with_the_reason(regex: str, reason: str | None) -> None:
    check("regex", regex, reason)


@pytest.mark.parametrize(("grammar", "reason"), GRAMMARS.items(), ids=lambda value: str(value)[:20])
def test_a_grammar_is_refused_with_the_reason(grammar: str, reason: str | None) -> None:
    check("lark", grammar, reason)


def test_a_choice_needs_texts_and_not_too_many() -> None:
    check("choice", (), "the choice is empty")
    check("choice", ("a",), None)
    check("choice", tuple(NAMES) * 40, "too large")


@pytest.mark.parametrize(("kind", "value"), [("choice", "a"), ("regex", ("a",)), ("xml", "a")])
def test_a_value_of_another_kind_is_no_constraint(kind: str, value: object) -> None:
    with pytest.raises(ValueError, match="kind"):
        ConstraintSpec.model_validate({"kind": kind, "value": value})
