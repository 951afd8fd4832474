"""The API's description as a page that needs nothing from elsewhere: no script, no style sheet."""

from html import escape
from typing import Any

__all__ = ["HEADERS", "page"]

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em;
  color-scheme: light dark; }
table { border-collapse: collapse; width: 100%; }
td { border-top: 1px solid #8884; padding: .2em .8em .2em 0; vertical-align: top; }
code { font: 14px monospace; }
"""


def page(openapi: dict[str, Any]) -> str:
    """HTML of an OpenAPI document: every address, and the fields of what it takes and gives."""
    title = escape(f"{openapi['info']['title']} {openapi['info']['version']}")
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width">',
        f"<style>{STYLE}</style><h1>{title}</h1><p>{escape(openapi['info']['description'])}</p>",
    ]
    schemas = openapi["components"]["schemas"]
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation.get('description', ''))}</p>")
            parts.append(_fields("takes", operation.get("requestBody"), schemas))
            parts.append(_fields("gives", operation["responses"]["200"], schemas))
    return "\n".join(filter(None, parts))


def _fields(verb: str, body: dict[str, Any] | None, schemas: dict[str, Any]) -> str:
    """The table of a JSON object that is taken or given; nothing where there is none."""
    content = (body or {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    if name not in schemas:
        return ""
    schema = schemas[name]
    rows = [
        f"<tr><td><code>{escape(field)}</code><td>{escape(kind(inner))}"
        f"<td>{'needed' if field in schema.get('required', ()) else ''}"
        for field, inner in schema["properties"].items()
    ]
    return f"<h3>{verb}: {escape(name)}</h3><table>{''.join(rows)}</table>"


def kind(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(kind(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(map(repr, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}"
    return str(schema.get("type", "any"))
