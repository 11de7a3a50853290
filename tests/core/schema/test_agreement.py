"""The published schema of a type and the decoder of the same type accept exactly the same values."""

import copy
import enum
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import attrs
import pytest
from annotated_types import Interval, Len, MultipleOf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from clonk_core.errors import InvalidParams
from clonk_core.plugin import Activation, Done, Ge, JsonValue, Le, Lt, MaxLen, MinLen, Pattern, method
from clonk_core.schema.registry import Registry
from clonk_core.wire.converter import Converter


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen(kw_only=True)
class Item:
    name: Annotated[str, MinLen(1)]
    count: int = 1


@attrs.frozen(kw_only=True)
class Order:
    items: tuple[Item, ...]
    by_name: dict[str, Item] = attrs.field(factory=dict)
    level: Level | None = None


@attrs.frozen
class Tree:
    value: int
    children: "list[Tree]" = attrs.field(factory=list)
    parent: "Tree | None" = None


@attrs.frozen
class Circle:
    radius: Annotated[float, Ge(0)]
    type: Literal["circle"] = "circle"


@attrs.frozen
class Square:
    side: float
    type: Literal["square"] = "square"
    inside: "Circle | Square | None" = None


ANNOTATIONS: list[Any] = [
    str,
    int,
    float,
    bool,
    None,
    JsonValue,
    int | None,
    str | int | bool | None,
    list[int],
    tuple[str, ...],
    tuple[int, str],
    tuple[int, int, int],
    dict[str, int],
    dict[str, list[bool]] | list[str] | None,
    Literal["a", "red", 1, True],
    Literal["a"],
    Literal[1, 2] | str | None,
    Colour,
    Level,
    Colour | Level | None,
    Path,
    UUID,
    date,
    datetime,
    Annotated[int, Interval(ge=0, lt=3)],
    Annotated[int, MultipleOf(2)],
    Annotated[float, Lt(1.5)] | None,
    Annotated[str, Len(1, 3)],
    Annotated[str, Pattern("a|[0-9]+")],
    Annotated[str, Pattern("a.*"), MaxLen(3)],
    Annotated[list[Annotated[int, Le(1)]], Len(1, 2)],
    Annotated[dict[str, int], MaxLen(1)],
    Item,
    Item | None,
    Order,
    Tree,
    Circle,
    Circle | Square,
    Circle | Square | str | None,
    list[Circle | Square],
    Done,
]

ATOMS: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, True, False, 0, 1, 2, -1, 3, 1.0, 2.0, 1.5, -0.0, 2**70, 1e300, "", "a", "abc", "abcd", "red", "RED", "1",
        "circle", "square", "2026-01-31", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+02:00", "2026-01-31T12:00:00",
        "0190a5f2-7c1e-7000-8000-00000000000a", "0190a5f27c1e7000800000000000000a", "/a/b", "a\0b", "é", [], {},
    ]
)  # fmt: skip
NAMES = st.sampled_from(
    ["name", "count", "items", "by_name", "value", "children", "parent", "type", "radius", "side", "x"]
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)

CASES: dict[str, tuple[Any, dict[str, Any]]] = {}


def case(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """Return the schema of the one parameter of a method with this annotation, as the registry has it."""

    class Probe(Activation):
        namespace = "probe"

        @method()
        async def take(self, x: int) -> None:
            """Take a value."""

    Probe.take.__annotations__["x"] = annotation
    [found] = Registry().add(Probe())
    return found, found.params_schema


def near(schema: dict[str, Any], definitions: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Return values that a schema allows, more or less: bounds are not looked at."""
    if "$ref" in schema:
        return near(definitions[schema["$ref"].rpartition("/")[2]], definitions, depth)
    if "allOf" in schema and "type" not in schema:
        return near(schema["allOf"][0], definitions, depth)
    if "anyOf" in schema:
        options = schema["anyOf"]
        if depth > 3:
            options = [option for option in options if option == {"type": "null"}] or options
        return st.one_of([near(option, definitions, depth) for option in options])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("prefixItems")
        if items:
            return st.tuples(*(near(item, definitions, depth + 1) for item in items)).map(list)
        size = schema.get("minItems", 0), schema.get("maxItems", 0 if depth > 3 else 2)
        if not max(size):
            return st.just([])
        return st.lists(near(schema["items"], definitions, depth + 1), min_size=size[0], max_size=max(size))
    if kind == "object" and "properties" in schema:
        required = set(schema.get("required", ()))
        members = {
            name: near(member, definitions, depth + 1)
            for name, member in schema["properties"].items()
            if name in required or depth <= 3
        }
        return st.fixed_dictionaries(
            {name: member for name, member in members.items() if name in required},
            optional={name: member for name, member in members.items() if name not in required},
        )
    if kind == "object":
        return st.dictionaries(NAMES, near(schema["additionalProperties"], definitions, depth + 1), max_size=2)
    return ATOMS


def spoil(value: Any, place: int, atom: Any) -> Any:
    """Return a copy in which one value, somewhere inside, is another."""
    places: list[tuple[Any, Any]] = []

    def walk(item: Any) -> None:
        for key in item if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ():
            places.append((item, key))
            walk(item[key])

    value = copy.deepcopy(value)
    walk(value)
    if not places:
        return atom
    holder, key = places[place % len(places)]
    if isinstance(holder, dict) and place % 3 == 0:
        del holder[key]
    else:
        holder[key] = atom
    return value


def name_of(annotation: Any) -> str:
    """The same in every process, which an object's address is not."""
    return str(annotation).partition(" object at ")[0]


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=name_of)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_schema_and_decoder_accept_the_same_values(annotation: Any, data: st.DataObject) -> None:
    found, schema = CASES.setdefault(repr(annotation), case(annotation))
    values = near(schema["properties"]["x"], schema.get("$defs", {}))
    spoiled = st.builds(spoil, values, st.integers(0, 30), VALUES)
    params = data.draw(
        st.fixed_dictionaries({"x": values | spoiled | VALUES}) | st.fixed_dictionaries({}, optional={"y": ATOMS})
    )
    allowed = Draft202012Validator(schema).is_valid(params)
    try:
        Converter().decode_arguments(found, params)
        decoded = True
    except InvalidParams:
        decoded = False
    assert decoded == allowed, params
    if "prefixItems" not in str(schema):
        assert Draft7Validator(schema).is_valid(params) == allowed


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=name_of)
def test_schemas_are_valid_in_both_drafts(annotation: Any) -> None:
    _, schema = case(annotation)
    Draft202012Validator.check_schema(schema)
    Draft7Validator.check_schema(schema)


@pytest.mark.parametrize(
    "value",
    [
        Order(items=(Item(name="x"),), level=Level.HIGH),
        Tree(1, [Tree(2)], Tree(3)),
        Square(2.0, inside=Square(1.0, inside=Circle(0.5))),
        Done(outcome="failed"),
    ],
)
def test_what_is_encoded_fits_the_schema_and_comes_back_the_same(value: Any) -> None:
    found, schema = case(type(value))
    converter = Converter()
    params = {"x": converter.unstructure(value)}
    Draft202012Validator(schema).validate(params)
    assert converter.decode_arguments(found, params) == {"x": value}
