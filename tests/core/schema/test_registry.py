"""The registry: names, nearest names, all or nothing, and hashes that change when and only when the contract does."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

import attrs
import pytest
from annotated_types import Ge

from clonk_core.errors import MethodNotFound, PluginError, SchemaError
from clonk_core.plugin import Activation, Conflict, NotFound, method
from clonk_core.schema.registry import Registry, tool_name


class Leaf(Activation):
    """A child."""

    namespace = "tree.leaf"

    @method()
    async def fall(self) -> None:
        """Fall."""


class TreeActivation(Activation):
    """A tree.

    With prose.
    """

    namespace = "tree"
    version = "1.2.3"

    def __init__(self) -> None:
        self.children = (Leaf(),)

    @method(scope="read")
    async def node_get(self, id: str) -> str:
        """Return a node."""
        return id

    @method()
    async def node_create(self, content: str) -> str:
        """Make a node."""
        return content

    async def unmarked(self) -> None:
        """No method."""


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(TreeActivation(), package="clonk-tree")
    return registry


def test_methods_are_sorted_and_those_of_children_are_there(registry: Registry) -> None:
    assert [found.name for found in registry.methods] == ["tree.leaf.fall", "tree.node_create", "tree.node_get"]
    assert "tree.node_get" in registry
    assert "tree.unmarked" not in registry
    assert len(registry) == 3


def test_nested_namespaces_share_their_roots_scopes(registry: Registry) -> None:
    assert registry.get("tree.leaf.fall").scope == "tree:fall"
    assert registry.get("tree.node_get").scope == "tree:read"


def test_namespaces_know_version_package_and_prose(registry: Registry) -> None:
    found = registry.namespaces["tree"]
    assert (found.version, found.package, found.description) == ("1.2.3", "clonk-tree", "A tree.\n\nWith prose.")
    assert list(registry.namespaces) == ["tree", "tree.leaf"]


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("tree.node_gt", "tree.node_get"),
        ("tree.nodeget", "tree.node_get"),
        ("TREE.NODE_GET", "tree.node_get"),
        ("node_get", "tree.node_get"),
        ("fall", "tree.leaf.fall"),
    ],
)
def test_a_method_that_is_not_there_names_the_nearest(registry: Registry, asked: str, near: str) -> None:
    with pytest.raises(MethodNotFound) as caught:
        registry.get(asked)
    assert caught.value.data["near"][0] == near


@pytest.mark.parametrize("asked", ["", ".", "x" * 1_000_000, "\ud800", "zzzz"])
def test_any_name_may_be_asked_for(registry: Registry, asked: str) -> None:
    with pytest.raises(MethodNotFound) as caught:
        registry.get(asked)
    assert len(str(caught.value)) < 400


def test_a_method_is_found_by_its_tool_name(registry: Registry) -> None:
    assert tool_name("tree.leaf.fall") == "tree_leaf_fall"
    assert registry.tool("tree_leaf_fall") is registry.tool("tree.leaf.fall")
    with pytest.raises(MethodNotFound):
        registry.tool("tree_leaf")


def test_removing_an_activation_removes_its_children(registry: Registry) -> None:
    empty = Registry().hashes()
    registry.remove("tree")
    assert registry.methods == ()
    assert registry.hashes() == empty
    registry.remove("tree")
    registry.add(TreeActivation())


def make(namespace_: str, **functions: Any) -> Activation:
    """Return an activation with these methods."""
    made: type[Activation] = type("Made", (Activation,), {"namespace": namespace_, **functions})
    return made()


async def nothing(self: Any) -> None:
    """Do nothing."""


async def untyped(self: Any, value):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """No types."""


def test_a_namespace_that_is_taken_stops_the_second(registry: Registry) -> None:
    before = registry.hashes()
    with pytest.raises(PluginError):
        registry.add(make("tree"))
    with pytest.raises(PluginError):
        registry.add(make("tree.leaf"))
    assert registry.hashes() == before


def test_two_methods_that_would_be_one_tool_stop_the_second(registry: Registry) -> None:
    with pytest.raises(PluginError):
        registry.add(make("tree_leaf", fall=method()(nothing)))
    with pytest.raises(PluginError):
        registry.add(make("tree.node", get=method()(nothing)))
    assert "tree.node.get" not in registry


def test_an_activation_is_added_whole_or_not_at_all() -> None:
    registry = Registry()
    with pytest.raises(SchemaError):
        registry.add(make("half", good=method()(nothing), wrong=method()(untyped)))
    assert registry.methods == ()
    assert dict(registry.namespaces) == {}


@pytest.mark.parametrize("name", ["", "Tree", "tree.", "1tree", "tree/x", "a.b.c.d.e", "x" * 33, None, 5])
def test_a_namespace_against_the_rules_is_refused(name: Any) -> None:
    with pytest.raises(PluginError):
        Registry().add(make(name))


@pytest.mark.parametrize("name", ["Roll", "_roll", "rollé", "x" * 65])
def test_a_method_name_against_the_rules_is_refused(name: str) -> None:
    with pytest.raises(PluginError):
        Registry().add(make("dice", **{name: method()(nothing)}))


def test_a_method_called_like_a_keyword_is_written_with_an_underscore() -> None:
    class Customs(Activation):
        """Customs."""

        namespace = "customs"

        @method()
        async def import_(self) -> None:
            """Import."""

        @method()
        async def list_(self) -> None:
            """No keyword: called as it is."""

    registry = Registry()
    registry.add(Customs(), package=None)
    assert [(found.name, found.scope) for found in registry.methods] == [
        ("customs.import", "customs:import"),
        ("customs.list_", "customs:list_"),
    ]


def test_a_child_must_live_below_its_parent() -> None:
    with pytest.raises(PluginError):
        Registry().add(make("one", children=(make("two"),)))


def test_a_static_method_is_refused() -> None:
    with pytest.raises(PluginError):
        Registry().add(make("one", roll=staticmethod(method()(nothing))))


def test_a_version_is_a_string() -> None:
    with pytest.raises(PluginError):
        Registry().add(make("one", version=1))


# ── hashes ───────────────────────────────────────────────────────────────────


def digest(function: Callable[..., Any], name: str = "take", namespace: str = "probe", **options: Any) -> str:
    [found] = Registry().add(make(namespace, **{name: method(**options)(function)}))
    assert len(found.hash) == 16
    return found.hash


def with_types(*, parameters: dict[str, Any], result: Any = None, doc: str = "Take.", **defaults: Any) -> Any:
    """Return an async function with these annotations."""
    arguments = ", ".join(f"{name}=_{name}" if name in defaults else name for name in parameters)
    scope: dict[str, Any] = {f"_{name}": value for name, value in defaults.items()}
    exec(f"async def function(self, {arguments}): ...", scope)
    function = scope["function"]
    function.__annotations__ = {**parameters, "return": result}
    function.__doc__ = doc
    return function


def object_class(name: str, doc: str = "", **members: Any) -> type:
    """Return a frozen attrs class; a pair is a type with a default."""
    fields = {
        key: attrs.field(type=kind[0], default=kind[1], kw_only=True)
        if isinstance(kind, tuple)
        else attrs.field(type=kind, kw_only=True)
        for key, kind in members.items()
    }
    made = attrs.make_class(name, fields, frozen=True)
    made.__doc__ = doc
    return made


BASE = with_types(parameters={"a": int, "b": str | None}, b=None)


@pytest.mark.parametrize(
    "other",
    [
        with_types(parameters={"a": int, "c": str | None}, c=None),
        with_types(parameters={"b": str | None, "a": int}, b=None, a=1),
        with_types(parameters={"a": float, "b": str | None}, b=None),
        with_types(parameters={"a": int, "b": str | None}),
        with_types(parameters={"a": int, "b": str | None}, b="x"),
        with_types(parameters={"a": int, "b": str}, b="x"),
        with_types(parameters={"a": int}),
        with_types(parameters={"a": Annotated[int, Ge(0)], "b": str | None}, b=None),
        with_types(parameters={"a": int, "b": str | None}, result=int, b=None),
    ],
)
def test_a_change_of_the_signature_changes_the_hash(other: Any) -> None:
    assert digest(other) != digest(BASE)


@pytest.mark.parametrize(
    "options",
    [
        {"scope": "read"},
        {"public": True},
        {"read_only": True},
        {"destructive": True},
        {"idempotent": True},
        {"errors": [NotFound]},
    ],
)
def test_a_change_of_the_options_changes_the_hash(options: dict[str, Any]) -> None:
    assert digest(BASE, **options) != digest(BASE)


def test_a_change_of_the_name_changes_the_hash() -> None:
    assert len({digest(BASE), digest(BASE, name="other"), digest(BASE, namespace="other")}) == 3


def test_streaming_and_durability_are_part_of_the_contract() -> None:
    async def stream(self: Any) -> AsyncIterator[int]:
        """Stream."""
        yield 1

    assert digest(stream) != digest(stream, durable=True)


def test_the_same_contract_has_the_same_hash_whatever_the_prose() -> None:
    other = with_types(
        parameters={"a": int, "b": str | None}, b=None, doc="Quite another text.\n\nArgs:\n    a: With a text.\n"
    )
    assert digest(other) == digest(BASE)


def test_what_is_no_promise_to_callers_does_not_count() -> None:
    assert digest(BASE, deadline_s=5) == digest(BASE)
    assert digest(BASE, errors=[NotFound, Conflict]) == digest(BASE, errors=[Conflict, NotFound])
    assert digest(BASE, scope="take") == digest(BASE)


def result(kind: Any) -> str:
    return digest(with_types(parameters={}, result=kind))


def test_order_names_and_prose_of_classes_do_not_count() -> None:
    one = object_class("One", "A text.", a=int, b=(str, "x"))
    assert result(one) == result(object_class("Two", "Another.", b=(str, "x"), a=int))
    assert result(one) != result(object_class("One", "A text.", a=int, b=str))
    assert result(one) != result(object_class("One", "A text.", a=int, c=(str, "x")))


def test_the_order_of_choices_does_not_count_and_the_choices_do() -> None:
    assert result(Literal["a", "b"]) == result(Literal["b", "a"])
    assert result(int | str) == result(str | int)
    assert result(Literal["a", "b"]) != result(Literal["a", "c"])
    assert result(tuple[int, str]) != result(tuple[str, int])


def test_one_number_in_two_spellings_is_one_contract() -> None:
    assert result(Annotated[float, Ge(1)]) == result(Annotated[float, Ge(1.0)])


@attrs.frozen
class Looped:
    value: int
    below: "Looped | None" = None


@attrs.frozen
class Looped2:
    below: "Looped2 | None" = None
    value: int = attrs.field(kw_only=True)


@attrs.frozen
class Looped3:
    value: str
    below: "Looped3 | None" = None


@attrs.frozen
class Ping:
    pong: "Pong | None" = None


@attrs.frozen
class Pong:
    ping: "Ping | None" = None


def test_classes_that_hold_themselves_are_compared_by_shape() -> None:
    assert result(Looped) == result(Looped2)
    assert result(Looped) != result(Looped3)
    assert result(list[Looped]) != result(Looped)
    assert result(Ping) != result(Pong)


def test_a_deep_lattice_of_classes_is_hashed_in_time() -> None:
    kind = object_class("Level", value=int)
    for _ in range(60):
        kind = object_class("Level", left=kind, right=kind)
    assert result(kind) != result(object_class("Level", left=kind, right=kind))


def test_a_namespaces_hash_covers_its_methods_and_version_and_the_registrys_covers_all() -> None:
    def hashes(version: str, **options: Any) -> dict[str, str]:
        registry = Registry()
        registry.add(make("one", version=version, take=method(**options)(BASE)))
        registry.add(make("two"))
        return registry.hashes()

    before, same = hashes("1"), hashes("1")
    assert before == same
    assert before.keys() == {"", "one", "two"}
    for after in (hashes("2"), hashes("1", scope="read")):
        assert after["one"] != before["one"]
        assert after[""] != before[""]
        assert after["two"] == before["two"]


def test_two_registries_do_not_notice_each_other(registry: Registry) -> None:
    other = Registry()
    other.add(TreeActivation())
    assert other.hashes() == registry.hashes()
    other.remove("tree")
    assert "tree.node_get" in registry
