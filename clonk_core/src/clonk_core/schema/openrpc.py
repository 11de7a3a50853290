"""The registry as an OpenRPC document (https://spec.open-rpc.org); what it has no word for is in `x-clonk-*`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count
from typing import Any, Final

from clonk_core.errors import CallError
from clonk_core.messages import JsonValue
from clonk_core.methods import Method
from clonk_core.schema.json_schema import Schema, map_references

OPENRPC_VERSION: Final = "1.3.2"

_SUBSCRIPTION: Final[Mapping[str, Any]] = {
    "name": "subscription",
    "summary": "Id of the run.",
    "description": "Its events come as notifications `subscription`; `rpc.resume` reads on after a cut.",
    "required": True,
    "schema": {"type": "string", "description": "Id of the run, `sub_...`."},
}


def document(
    methods: Iterable[Method],
    *,
    version: str,
    error_code: Callable[[type[CallError]], tuple[int, int]],
    title: str = "Clonk",
    servers: Sequence[Mapping[str, str]] = (),
) -> dict[str, JsonValue]:
    """Return the OpenRPC document of some methods.

    Args:
        methods: Which; sorted here by name.
        version: Of the server.
        error_code: Gives the code on the wire and the HTTP status of an error class.
        title: Name of the service.
        servers: Where it is, as objects with `name` and `url`.
    """
    shared = _SharedSchemas()
    rendered = [_method(method, shared, error_code) for method in sorted(methods, key=lambda method: method.name)]
    found: dict[str, JsonValue] = {
        "openrpc": OPENRPC_VERSION,
        "info": {"title": title, "version": version},
        "methods": rendered,
        "components": {"schemas": shared.schemas},
    }
    if servers:
        found["servers"] = [dict(server) for server in servers]
    return found


def _method(
    method: Method, shared: "_SharedSchemas", error_code: Callable[[type[CallError]], tuple[int, int]]
) -> dict[str, JsonValue]:
    params = shared.take(method.params_schema, method.namespace)
    result = shared.take(method.result_schema, method.namespace)
    rendered: dict[str, JsonValue] = {
        "name": method.name,
        "summary": method.summary,
        "description": method.description,
        "tags": [{"name": method.namespace}],
        "paramStructure": "either",
        "params": [_descriptor(name, schema, params) for name, schema in params["properties"].items()],
        "result": dict(_SUBSCRIPTION) if method.streaming else {"name": "result", "required": True, "schema": result},
        "x-clonk-scope": None if method.public else method.scope,
        "x-clonk-also-scopes": [] if method.public else list(method.also_scopes),
        "x-clonk-target": method.target,
        "x-clonk-anonymous": method.anonymous,
        "x-clonk-streaming": method.streaming,
        "x-clonk-durable": method.durable,
        "x-clonk-idempotency-key": method.idempotency_key,
        "x-clonk-hash": method.hash,
        "x-clonk-hints": {
            "read_only": method.read_only,
            "destructive": method.destructive,
            "idempotent": method.idempotent,
        },
    }
    if method.streaming:
        rendered["x-clonk-events"] = result
    if method.errors:
        rendered["errors"] = [_error(error, error_code) for error in method.errors]
    return rendered


def _descriptor(name: str, schema: Schema, params: Schema) -> dict[str, JsonValue]:
    """Return one parameter; its text stands beside the schema."""
    bare = {key: value for key, value in schema.items() if key != "description"}
    if list(bare) == ["allOf"] and len(bare["allOf"]) == 1:
        bare = bare["allOf"][0]
    descriptor: dict[str, JsonValue] = {"name": name, "required": name in params.get("required", ()), "schema": bare}
    if "description" in schema:
        descriptor["description"] = schema["description"]
    return descriptor


def _error(error: type[CallError], error_code: Callable[[type[CallError]], tuple[int, int]]) -> dict[str, JsonValue]:
    meaning = (error.__doc__ or error.kind).strip().split("\n\n", 1)[0]
    return {"code": error_code(error)[0], "message": " ".join(meaning.split()), "data": {"kind": error.kind}}


class _SharedSchemas:
    """Gathers the objects of all methods under `components.schemas`, each once.

    Attributes:
        schemas: By name. Two different objects of one name are told apart by their namespace.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, JsonValue] = {}
        self._origins: dict[str, JsonValue] = {}

    def take(self, schema: JsonValue, namespace: str) -> Schema:
        """Return a schema whose definitions have moved here."""
        definitions: Mapping[str, Schema] = schema.get("$defs", {})
        # Equal only when all they refer to is equal too.
        names = {name: self._place(name, definitions, namespace) for name in definitions}

        def moved(reference: str) -> str:
            return f"#/components/schemas/{names[reference.removeprefix('#/$defs/')]}"

        for name, definition in definitions.items():
            self.schemas[names[name]] = map_references(definition, moved)
        changed: Schema = map_references({key: value for key, value in schema.items() if key != "$defs"}, moved)
        return changed

    def _place(self, name: str, definitions: Mapping[str, Schema], namespace: str) -> str:
        """Choose the name under which a definition is shared."""
        closure = _closure(name, definitions)
        own = f"{namespace}.{name}"
        candidates = chain((name, own), (f"{own}{number}" for number in count(2)))
        return next(one for one in candidates if self._origins.setdefault(one, closure) == closure)


def _closure(name: str, definitions: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return a definition with all it refers to."""
    found: dict[str, Schema] = {}
    waiting = [name]

    def visit(reference: str) -> str:
        waiting.append(reference.removeprefix("#/$defs/"))
        return reference

    while waiting:
        current = waiting.pop()
        if current not in found:
            found[current] = definitions[current]
            map_references(definitions[current], visit)
    return found
