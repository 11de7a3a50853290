"""Checks a JSON Schema, and a value against it. A program of its own: see structured.py.

Reads `{"schema": ..., "value": ...}` on standard input, the value being optional; writes null, or the first problem as
`{"path": ..., "message": ...}`.
"""

import json
import resource
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

CPU_S: Final = 2
MEMORY_BYTES: Final = 1024**3
"""A schema of a few lines can keep a processor busy for ever, and its memory full."""


def main() -> None:
    """Check what stands on standard input."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    asked = json.loads(sys.stdin.buffer.read())
    problem = check_schema(asked["schema"])
    if problem is None and "value" in asked:
        problem = check_value(asked["schema"], asked["value"])
    sys.stdout.write(json.dumps(problem))


def check_schema(schema: Any) -> dict[str, str] | None:
    """Return what is wrong with a schema, None when it is good."""
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    unknown: Any = None
    kind: Any = validator_for(schema, default=unknown) if "$schema" in schema else Draft202012Validator
    if kind is None:
        return {"path": "$.$schema", "message": "is no known dialect of JSON Schema"}
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        return {"path": path_of(error.absolute_path), "message": error.message}
    resolver = Registry().resolver_with_root(Resource.from_contents(schema, default_specification=DRAFT202012))
    for path, reference in _references(schema, []):
        try:
            if not reference.startswith("#"):
                return {"path": path_of(path), "message": "may only refer to a place in the schema itself: `#/...`"}
            resolver.lookup(reference)
        except Unresolvable:
            return {"path": path_of(path), "message": f"{reference!r} is nowhere in the schema"}
    return None


def check_value(schema: Any, value: Any) -> dict[str, str] | None:
    """Return where a value does not fit a good schema, None when it fits."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from referencing import Registry

    validator = validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())
    found = best_match(validator.iter_errors(value))
    return None if found is None else {"path": path_of(found.absolute_path), "message": found.message}


def path_of(steps: Iterable[Any]) -> str:
    """Return a place as `$.items[0].name`."""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _references(schema: Any, path: list[Any]) -> Iterator[tuple[list[Any], str]]:
    if isinstance(schema, dict):
        for name, inner in schema.items():
            if name in ("$ref", "$dynamicRef") and isinstance(inner, str):
                yield [*path, name], inner
            else:
                yield from _references(inner, [*path, name])
    elif isinstance(schema, list):
        for number, inner in enumerate(schema):
            yield from _references(inner, [*path, number])
