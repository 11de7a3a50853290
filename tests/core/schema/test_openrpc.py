"""The OpenRPC document: valid by the public meta-schema, its references lead somewhere, nothing is mixed up."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.protocols import Validator
from referencing import Registry as References
from referencing import Resource
from referencing.jsonschema import DRAFT7

from clonk_core.plugin import Activation, Conflict, Done, JsonValue, method
from clonk_core.schema.openrpc import document
from clonk_core.schema.registry import Registry
from clonk_core.wire.error_codes import code_and_status

META_SCHEMA = json.loads((Path(__file__).parent / "openrpc_meta_schema.json").read_text())


class Busy(Conflict):
    """It is busy."""

    kind = "shapes.busy"


@attrs.frozen
class Circle:
    """A circle."""

    radius: float
    type: Literal["circle"] = "circle"


@attrs.frozen
class Node:
    """A node of shapes.

    Attributes:
        shape: What it is.
        children: What is below.
        default: A member with the name of a keyword.
    """

    shape: Circle | None
    children: "tuple[Node, ...]" = ()
    default: Circle = Circle(1.0)


class Shapes(Activation):
    """Shapes."""

    namespace = "shapes"

    @method(scope="read", errors=[Busy], read_only=True)
    async def put(self, node: Node, pair: tuple[int, str] = (1, "x"), note: JsonValue = None) -> Node:
        """Put a node.

        With more prose.

        Args:
            node: Which.
        """
        return node

    @method(public=True)
    async def watch(self, count: int) -> AsyncIterator[Node | Circle | Done]:
        """Watch shapes."""
        yield Circle(count)


@attrs.frozen
class NodeOfOther:
    """Another node."""

    name: str


# Another package's class of the same name.
NodeOfOther.__name__ = "Node"


class Watcher(Activation):
    """Another package with a Node of its own."""

    namespace = "other"

    @method(durable=True)
    async def watch(self) -> AsyncIterator[Circle]:
        """Watch circles."""
        yield Circle(1)

    @method()
    async def nodes(self) -> list[NodeOfOther]:
        """List other nodes."""
        return []

    @method()
    async def mine(self, node: Node) -> None:
        """Take a node of shapes."""


class Plain(Shapes):
    watch = None  # type: ignore[assignment]


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(Plain())
    registry.add(Watcher())
    return registry


@pytest.fixture
def found(registry: Registry) -> dict[str, Any]:
    return document(
        registry.methods,
        version="1.0.0",
        error_code=code_and_status,
        servers=[{"name": "here", "url": "http://127.0.0.1:4445/mcp"}],
    )


def meta_validator() -> Validator:
    draft7 = Resource.from_contents(Draft7Validator.META_SCHEMA, default_specification=DRAFT7)
    # The meta-schema names JSON Schema draft 07 by the address of another copy.
    known = References().with_resources(
        [("https://meta.json-schema.tools", draft7), ("https://meta.json-schema.tools/", draft7)]
    )
    schema = json.loads(
        json.dumps(META_SCHEMA).replace(
            '"https://meta.json-schema.tools/#/definitions/JSONSchemaObject/properties/$ref"',
            '"https://meta.json-schema.tools#/properties/$ref"',
        )
    )
    schema["$schema"] = "http://json-schema.org/draft-07/schema#"
    return Draft7Validator(schema, registry=known)


def by_name(found: dict[str, Any], name: str) -> dict[str, Any]:
    methods: list[dict[str, Any]] = found["methods"]
    return next(method for method in methods if method["name"] == name)


def test_the_document_is_valid_openrpc(found: dict[str, Any]) -> None:
    meta_validator().validate(found)


def test_the_meta_schema_notices_what_is_wrong(found: dict[str, Any]) -> None:
    del found["methods"][0]["params"]
    assert not meta_validator().is_valid(found)


def test_an_empty_document_is_valid() -> None:
    meta_validator().validate(document([], version="1.0.0", error_code=code_and_status))


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_reference_leads_to_a_shared_schema(found: dict[str, Any]) -> None:
    shared = found["components"]["schemas"]
    for reference in references(found):
        assert reference.removeprefix("#/components/schemas/") in shared
    for schema in shared.values():
        Draft7Validator.check_schema(schema)
        Draft202012Validator.check_schema(schema)


def test_two_objects_of_one_name_are_both_there(found: dict[str, Any]) -> None:
    shared = found["components"]["schemas"]
    nodes = by_name(found, "other.nodes")["result"]["schema"]["items"]["$ref"].rpartition("/")[2]
    mine = by_name(found, "other.mine")["params"][0]["schema"]["$ref"].rpartition("/")[2]
    put = by_name(found, "shapes.put")["result"]["schema"]["$ref"].rpartition("/")[2]
    assert shared[nodes]["properties"].keys() == {"name"}
    assert mine == put
    assert shared[mine]["properties"].keys() == {"shape", "children", "default"}


def test_a_plain_method_is_described_whole(found: dict[str, Any], registry: Registry) -> None:
    put = by_name(found, "shapes.put")
    assert put["summary"] == "Put a node."
    assert put["description"] == "Put a node.\n\nWith more prose."
    assert put["paramStructure"] == "either"
    assert [(one["name"], one["required"]) for one in put["params"]] == [
        ("node", True),
        ("pair", False),
        ("note", False),
    ]
    assert put["params"][0]["description"] == "Which."
    assert put["errors"] == [{"code": 409, "message": "It is busy.", "data": {"kind": "shapes.busy"}}]
    assert put["x-clonk-scope"] == "shapes:read"
    assert put["x-clonk-hash"] == registry.get("shapes.put").hash
    assert (put["x-clonk-streaming"], put["x-clonk-durable"]) == (False, False)
    assert put["x-clonk-hints"]["read_only"] is True


def test_a_streaming_method_answers_a_subscription_and_lists_its_events(found: dict[str, Any]) -> None:
    watch = by_name(found, "other.watch")
    assert watch["result"]["schema"]["type"] == "string"
    assert (watch["x-clonk-streaming"], watch["x-clonk-durable"]) == (True, True)
    assert {"$ref": "#/components/schemas/Done"} in watch["x-clonk-events"]["anyOf"]


def test_the_document_leaves_the_registry_as_it_is(registry: Registry) -> None:
    before = json.dumps([[one.params_schema, one.result_schema] for one in registry])
    document(registry.methods, version="1", error_code=code_and_status)
    assert json.dumps([[one.params_schema, one.result_schema] for one in registry]) == before
