"""`name=value` on the command line to a method's arguments, read as its schema wants them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

from clonk_core.cli.exit_codes import UsageError

_TYPES: Final[dict[type, frozenset[str]]] = {
    bool: frozenset({"boolean"}),
    int: frozenset({"integer", "number"}),
    float: frozenset({"number"}),
    type(None): frozenset({"null"}),
    list: frozenset({"array"}),
    dict: frozenset({"object"}),
}

_MAX_DEPTH: Final = 20
"""References that are followed; a schema may refer to itself."""


def parse(arguments: Iterable[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by name.

    `name=value` is read as JSON when it is JSON of a type that the schema takes there, else as text; `name:=value` is
    JSON whatever the schema says.

    Args:
        arguments: As typed.
        schema: JSON Schema of the method's parameters as one object.

    Raises:
        UsageError: No `=`, a name given twice, or no JSON after `:=`.
    """
    values: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        as_json = name.endswith(":")
        name = name.removesuffix(":")
        if not equals or not name:
            raise UsageError(f"{argument!r} is no argument; write name=value, or name:=value for JSON")
        if name in values:
            raise UsageError(f"the argument {name!r} is given twice")
        values[name] = _json(name, text) if as_json else _value(text, _property(schema, name), schema)
    return values


def _json(name: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{name}:={text} is not JSON: {error}") from error


def _value(text: str, schema: Any, root: Mapping[str, Any]) -> Any:
    wanted = frozenset(_types(schema, root, 0))
    if wanted == {"string"}:
        return text
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    if isinstance(value, str):
        # Quotes around a text are the user's own unless only JSON would do.
        return text if "string" in wanted else value
    fits = not wanted or bool(_TYPES[type(value)] & wanted)
    # What fits nowhere goes as it was read, so that the answer says what is allowed.
    return value if fits or "string" not in wanted else text


def _property(schema: Mapping[str, Any], name: str) -> Any:
    return schema.get("properties", {}).get(name, {"type": "string"})


def _types(schema: Any, root: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Yield the JSON types that a schema takes; none for one that takes everything."""
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return
    if isinstance(reference := schema.get("$ref"), str):
        yield from _types(_resolve(reference, root), root, depth + 1)
    declared = schema.get("type", ())
    yield from [declared] if isinstance(declared, str) else declared
    for constant in [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]:
        yield from ["string"] if isinstance(constant, str) else _TYPES.get(type(constant), ())
    for union in ("anyOf", "oneOf", "allOf"):
        for member in schema.get(union, ()):
            yield from _types(member, root, depth + 1)


def _resolve(reference: str, root: Any) -> Any:
    place = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if not isinstance(place, dict):
            return {}
        place = place.get(part.replace("~1", "/").replace("~0", "~"), {})
    return place
