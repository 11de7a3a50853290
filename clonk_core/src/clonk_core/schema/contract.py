"""The hash of a contract: changes when, and only when, what callers rely on changes.

Part of the contract: names, types, bounds, defaults, which parameters are required and their order (they may be given
by position), scope, streaming, durability, the hints for clients, the idempotency key, the kinds of error. Not part of
it: prose, the order of an object's members, the order of choices, the names of Python classes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from clonk_core.errors import CallError
from clonk_core.messages import JsonValue
from clonk_core.plugin import MethodOptions
from clonk_core.schema.json_schema import Renderer, Schema, references
from clonk_core.schema.signature import Signature


def digest(contract: JsonValue) -> str:
    """Return the first 16 hex digits of SHA-256 over the canonical JSON: sorted names, no spaces, UTF-8."""
    return hashlib.sha256(_canonical_json(contract).encode()).hexdigest()[:16]


def method_contract(name: str, scopes: Sequence[str], signature: Signature, options: MethodOptions) -> JsonValue:
    """Return what a method's hash is taken over."""
    renderer = Renderer(prose=False)
    canonical = _Canonical({key: renderer.object(item) for key, item in signature.definitions.items()})
    whole = renderer.members(signature.members)
    return {
        "name": name,
        "params": [
            [member.name, member.required, canonical.schema(whole["properties"][member.name], ())]
            for member in signature.members
        ],
        "result": canonical.schema(renderer.type(signature.result), ()),
        "scope": _scope(scopes, options),
        "streaming": signature.streaming,
        "durable": options.durable,
        "hints": [options.read_only, options.destructive, options.idempotent],
        **_narrowing(options),
        **({} if options.idempotency_key is None else {"idempotency_key": options.idempotency_key}),
        "errors": sorted([error.kind, _leaf(error).kind] for error in set(options.errors)),
    }


def _scope(scopes: Sequence[str], options: MethodOptions) -> JsonValue:
    if options.public:
        return "" if options.anonymous else None
    return scopes[0] if len(scopes) == 1 else sorted(scopes)


def _narrowing(options: MethodOptions) -> dict[str, JsonValue]:
    """Return what decides whether a key that is narrowed may call, where that is something."""
    found = {"target": options.target, "narrows": options.narrows}
    return {name: value for name, value in found.items() if value}


def namespace_hash(namespace: str, version: str, method_hashes: Mapping[str, str]) -> str:
    """Return the hash over an activation's methods and version."""
    return digest({"namespace": namespace, "version": version, "methods": dict(method_hashes)})


def registry_hash(namespace_hashes: Mapping[str, str]) -> str:
    """Return the hash over all namespaces."""
    return digest({"namespaces": dict(namespace_hashes)})


def _leaf(error: type[CallError]) -> type[CallError]:
    """Return the error of the core's own tree that an activation's error derives from."""
    return next(base for base in error.__mro__ if base.__module__ == CallError.__module__)


class _Canonical:
    """Rewrites schemas so that equal contracts become equal JSON.

    Objects are written out where they are used, so that their names do not matter; where one holds itself, the inner
    one is told by how many objects up the same one stands.
    """

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions
        self._reachable = {name: self._reach(name) for name in definitions}
        self._closed: dict[str, Schema] = {}

    def schema(self, schema: Any, above: tuple[str, ...]) -> Any:
        """Return the canonical form.

        Args:
            schema: Without prose.
            above: Names of the objects it stands in, outermost first.
        """
        if isinstance(schema, list):
            return [self.schema(item, above) for item in schema]
        if not isinstance(schema, dict):
            return schema
        if "$ref" in schema:
            return self._object(schema["$ref"].removeprefix("#/$defs/"), above)
        changed: Schema = {}
        for name, value in schema.items():
            if name == "properties":
                changed[name] = {key: self.schema(item, above) for key, item in value.items()}
            elif name in ("default", "const"):
                changed[name] = value
            elif name in ("enum", "required"):
                changed[name] = sorted(value, key=_canonical_json)
            elif name == "anyOf":
                changed[name] = sorted((self.schema(item, above) for item in value), key=_canonical_json)
            elif name == "type":
                changed[name] = sorted(value) if isinstance(value, list) else value
            else:
                changed[name] = self.schema(value, above)
        return changed

    def _object(self, name: str, above: tuple[str, ...]) -> Schema:
        if name in above:
            return {"$up": len(above) - above.index(name)}
        if not self._reachable[name].isdisjoint(above):
            return self._written_out(name, above)
        # Stands on its own: its digest serves wherever it is used, and many uses do not multiply.
        if name not in self._closed:
            self._closed[name] = {"$object": digest(self._written_out(name, ()))}
        return self._closed[name]

    def _written_out(self, name: str, above: tuple[str, ...]) -> Schema:
        written: Schema = self.schema(self._definitions[name], (*above, name))
        return written

    def _reach(self, name: str) -> frozenset[str]:
        """Return the names of all objects that one holds, directly or through others."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            inner = set(references(self._definitions[waiting.pop()])) - found
            found |= inner
            waiting.extend(inner)
        return frozenset(found)


def _canonical_json(value: Any) -> str:
    return json.dumps(_plain_numbers(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _plain_numbers(value: Any) -> Any:
    """Write 1.0 as 1: one number, one spelling."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_plain_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain_numbers(item) for name, item in value.items()}
    return value
