"""JSON Schema in words and tables, for the reference of methods."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

Schema = Mapping[str, Any]


def words(schema: Schema) -> str:
    """Return what a schema allows, in words: `text, 1 to 64 long`, `list of [Node](#node)`."""
    if "$ref" in schema:
        return f"`{name_of(schema['$ref'])}`"
    if "const" in schema:
        return f"`{_literal(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{_literal(one)}`" for one in schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(words(member) for member in schema[union]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(words({**schema, "type": one}) for one in kind)
    return _plain(kind, schema) if kind else "any JSON value"


def properties(schema: Schema) -> Iterator[tuple[str, Schema, bool]]:
    """Yield name, schema and whether it is required, of each member of an object."""
    required = schema.get("required", ())
    for name, member in schema.get("properties", {}).items():
        yield name, member, name in required


def default(schema: Schema) -> str:
    """Return the default as JSON in code, empty when there is none."""
    return f"`{_literal(schema['default'])}`" if "default" in schema else ""


def members(schema: Schema) -> list[Schema]:
    """Return the members of a union, or the schema itself."""
    found = next((schema[union] for union in ("anyOf", "oneOf") if union in schema), None)
    return [schema] if found is None else list(found)


def name_of(reference: str) -> str:
    """Return the last part of a `$ref`."""
    return reference.rsplit("/", 1)[-1]


def _plain(kind: str, schema: Schema) -> str:
    match kind:
        case "string":
            base = {"date-time": "time (RFC 3339)", "uuid": "UUID"}.get(schema.get("format", ""), "text")
            return base + _between(schema, "minLength", "maxLength", " long")
        case "integer":
            return "whole number" + _between(schema, "minimum", "maximum", "")
        case "number":
            return "number" + _between(schema, "minimum", "maximum", "")
        case "array":
            return f"list of {words(schema.get('items', {}))}" + _between(schema, "minItems", "maxItems", " long")
        case "object":
            further = schema.get("additionalProperties")
            return f"mapping of names to {words(further)}" if isinstance(further, dict) else "object"
        case "boolean":
            return "true or false"
        case _:
            return kind


def _between(schema: Schema, low: str, high: str, unit: str) -> str:
    least, most = schema.get(low), schema.get(high)
    if least is not None and most is not None:
        return f", {least:,} to {most:,}{unit}"
    if most is not None:
        return f", at most {most:,}{unit}"
    if least is not None:
        return f", at least {least:,}{unit}"
    return ""


def _literal(value: Any) -> str:
    return orjson.dumps(value).decode()
