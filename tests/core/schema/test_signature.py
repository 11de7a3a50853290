"""Signatures: what has a schema gets it, what has none is refused with its place."""

import enum
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NewType, TypeVar
from uuid import UUID

import attrs
import pytest
from annotated_types import Ge, Interval, Len, MaxLen, MinLen, MultipleOf, Predicate

from clonk_core.errors import SchemaError
from clonk_core.interfaces.runs import Following
from clonk_core.plugin import Activation, Call, CallError, Conflict, Done, JsonValue, Pattern, Written, method
from clonk_core.schema.registry import Registry

if TYPE_CHECKING:
    pass

T = TypeVar("T")
Name = NewType("Name", Annotated[str, MinLen(1)])


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Flags(enum.Flag):
    A = 1


class Half(enum.Enum):
    HALF = 0.5


@attrs.frozen(kw_only=True)
class Roll:
    """One throw.

    Attributes:
        sides: Number of sides of the die.
        value, bonus: What it showed.
    """

    sides: int
    value: int = 1
    bonus: int | None = None


@attrs.frozen
class Tree:
    """A tree."""

    value: Roll
    children: "tuple[Tree, ...]" = ()
    parent: "Tree | None" = None


@attrs.frozen
class Circle:
    radius: float
    type: Literal["circle"] = "circle"


@attrs.frozen
class Square:
    side: float
    type: Literal["square"] = "square"


@attrs.frozen
class OtherSquare:
    side: float
    type: Literal["square"] = "square"


@attrs.frozen
class Private:
    shown: int
    _hidden: int = 0


@attrs.frozen
class Computed:
    shown: int
    _hidden: int = attrs.field(init=False, default=3)


Bare: Any = attrs.make_class("Bare", {"value": attrs.field(default=1)})


@attrs.frozen
class HoldsWritten:
    inside: Written[list[int]]


@attrs.frozen
class Holds:
    inside: set[int]


@attrs.frozen
class Page(Generic[T]):
    items: list[T]


@attrs.frozen
class Fresh:
    made: str = attrs.field(factory=lambda: "x")
    empty: list[int] = attrs.field(factory=list)


class ChatDone(Done):
    pass


@attrs.frozen(kw_only=True)
class LongDone(Done):
    cost: float


@attrs.frozen
class FalseDone:
    type: Literal["done"] = "done"


@attrs.frozen
class FalseGap:
    type: Literal["gap"] = "gap"


class Refusal(Conflict):
    """No."""

    kind = "test.refusal"


def schema_of(annotation: Any) -> Any:
    """Return the schema of a parameter with this annotation."""

    class Probe(Activation):
        namespace = "probe"

        @method()
        async def take(self, value: int) -> None:
            """Take a value."""

    Probe.take.__annotations__["value"] = annotation
    [found] = Registry().add(Probe())
    schema = found.params_schema["properties"]["value"]
    return {**schema, "$defs": found.params_schema["$defs"]} if "$defs" in found.params_schema else schema


def result_of(annotation: Any) -> Any:
    """Return the schema of a result with this annotation."""

    class Probe(Activation):
        namespace = "probe"

        @method()
        async def take(self) -> None:
            """Take a value."""

    Probe.take.__annotations__["return"] = annotation
    [found] = Registry().add(Probe())
    return found.result_schema


DATE_TIME = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (JsonValue, {}),
        (JsonValue | None, {}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (tuple[int, int], {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}),
        (
            tuple[int, str],
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Literal["a"], {"type": "string", "const": "a"}),
        (Literal["a", 1, True], {"type": ["string", "integer", "boolean"], "enum": ["a", 1, True]}),
        (Colour, {"type": "string", "enum": ["red", "blue"]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (datetime, {"type": "string", "format": "date-time", "pattern": DATE_TIME}),
        (date, {"type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}),
        (Path, {"type": "string", "pattern": "^[^\\u0000]+$"}),
        (
            UUID,
            {"type": "string", "format": "uuid", "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
        ),
        (Name, {"type": "string", "minLength": 1}),
        (
            Annotated[int, Interval(ge=1, lt=7), Ge(2), MultipleOf(2)],
            {"type": "integer", "minimum": 2, "exclusiveMaximum": 7, "multipleOf": 2},
        ),
        (
            Annotated[str, Len(1, 5), Pattern("a|b")],
            {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^(?:a|b)$"},
        ),
        (
            Annotated[str, Pattern("a+"), Pattern(".b?")],
            {"type": "string", "allOf": [{"pattern": "^(?:a+)$"}, {"pattern": "^(?:.b?)$"}]},
        ),
        (Annotated[list[int], MaxLen(3)], {"type": "array", "items": {"type": "integer"}, "maxItems": 3}),
        (
            Annotated[dict[str, int], MinLen(1)],
            {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
        ),
        (Annotated[int | None, Ge(0)], {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}),
        (Annotated[int, "a remark"], {"type": "integer"}),
    ],
)
def test_each_type_has_its_schema(annotation: Any, schema: Any) -> None:
    assert schema_of(annotation) == schema


def test_an_attrs_class_is_an_object_without_further_members() -> None:
    assert schema_of(Roll) == {
        "$ref": "#/$defs/Roll",
        "$defs": {
            "Roll": {
                "description": "One throw.",
                "type": "object",
                "properties": {
                    "sides": {"type": "integer", "description": "Number of sides of the die."},
                    "value": {"type": "integer", "description": "What it showed.", "default": 1},
                    "bonus": {
                        "anyOf": [{"type": "integer"}, {"type": "null"}],
                        "description": "What it showed.",
                        "default": None,
                    },
                },
                "required": ["sides"],
                "additionalProperties": False,
            }
        },
    }


def test_a_class_that_holds_itself_refers_to_itself() -> None:
    definitions = schema_of(Tree)["$defs"]
    assert definitions.keys() == {"Tree", "Roll"}
    assert definitions["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert {"$ref": "#/$defs/Tree"} in definitions["Tree"]["properties"]["parent"]["anyOf"]


def test_the_tag_of_a_union_is_required() -> None:
    definitions = schema_of(Circle | Square)["$defs"]
    assert definitions["Circle"]["required"] == ["radius", "type"]
    assert definitions["Circle"]["properties"]["type"] == {"type": "string", "const": "circle"}


def test_two_classes_of_one_name_are_told_apart() -> None:
    @attrs.frozen
    class Roll:
        other: str

    outer: Any = globals()["Roll"]
    schema = result_of(tuple.__class_getitem__((outer, Roll)))
    assert len(schema["$defs"]) == 2
    assert schema["prefixItems"][0] != schema["prefixItems"][1]


def test_what_is_computed_or_made_afresh_has_no_default() -> None:
    assert schema_of(Computed)["$defs"]["Computed"]["properties"].keys() == {"shown"}
    members = schema_of(Fresh)["$defs"]["Fresh"]["properties"]
    assert "default" not in members["made"]
    assert members["empty"]["default"] == []


@pytest.mark.parametrize(
    ("annotation", "place"),
    [
        (Any, "probe.take(value)"),
        (object, "probe.take(value)"),
        (bytes, "probe.take(value)"),
        (complex, "probe.take(value)"),
        (set[int], "probe.take(value)"),
        (dict, "probe.take(value)"),
        (list, "probe.take(value)"),
        (tuple, "probe.take(value)"),
        (tuple[()], "probe.take(value)"),
        (dict[int, str], "probe.take(value)"),
        (dict[str, Any], "probe.take(value){}"),
        (list[bytes], "probe.take(value)[]"),
        (timedelta, "probe.take(value)"),
        (Flags, "probe.take(value)"),
        (Half, "probe.take(value)"),
        (T, "probe.take(value)"),
        (type[int], "probe.take(value)"),
        (int | float, "probe.take(value)"),
        (str | Path, "probe.take(value)"),
        (str | Colour, "probe.take(value)"),
        (Circle | Roll, "probe.take(value)"),
        (Square | OtherSquare, "probe.take(value)"),
        (Circle | dict[str, int], "probe.take(value)"),
        (list[int] | tuple[int, str], "probe.take(value)"),
        (JsonValue | int, "probe.take(value)"),
        (Private, "Private._hidden"),
        (Bare, "Bare.value"),
        (Holds, "Holds.inside"),
        (Written[list[int]], "probe.take(value)"),
        (HoldsWritten, "HoldsWritten.inside"),
        (Page, "probe.take(value)"),
        (Page[int], "probe.take(value)"),
        (Annotated[str, Ge(1)], "probe.take(value)"),
        (Annotated[int, MinLen(1)], "probe.take(value)"),
        (Annotated[float, MultipleOf(0.1)], "probe.take(value)"),
        (Annotated[int, Ge("1")], "probe.take(value)"),
        (Annotated[int, Ge(float("nan"))], "probe.take(value)"),
        (Annotated[int, Predicate(bool)], "probe.take(value)"),
        (Annotated[str, Pattern("(")], "probe.take(value)"),
        (Annotated[str | int, Ge(1)], "probe.take(value)"),
        (Annotated[Path, MinLen(1)], "probe.take(value)"),
        ("Decimal", "probe.take"),
        ("NoSuchName", "probe.take"),
    ],
)
def test_what_has_no_schema_is_refused_with_its_place(annotation: Any, place: str) -> None:
    with pytest.raises(SchemaError) as caught:
        schema_of(annotation)
    assert caught.value.place == place


def test_what_is_written_already_has_the_schema_of_what_it_holds() -> None:
    assert result_of(Written[list[int]]) == result_of(list[int])
    assert result_of(HoldsWritten)["$defs"]["HoldsWritten"]["properties"]["inside"] == result_of(list[int])


def test_a_result_without_a_schema_names_the_result() -> None:
    with pytest.raises(SchemaError) as caught:
        result_of(set[int])
    assert caught.value.place == "probe.take -> result"


# ── functions ────────────────────────────────────────────────────────────────


class Good(Activation):
    """Good methods."""

    namespace = "good"

    @method()
    async def roll(self, call: Call, sides: int = 6, *, where: Path = Path("/x")) -> Roll:
        """Throw one die,
        and only one.

        More of it.

        Args:
            sides: Number of sides,
                2 to 1000.
        """
        return Roll(sides=sides)

    @method(durable=True)
    async def stream(self, count: int) -> AsyncIterator[Roll]:
        """Throw many."""
        for _ in range(count):
            yield Roll(sides=count)

    @method()
    async def generate(self) -> AsyncGenerator[Circle | LongDone, None]:
        """Yield with an end of its own."""
        yield Circle(1)

    @method()
    async def checked(self, count: int) -> AsyncIterator[int]:
        """Refuse before the run begins, or return the run."""
        return self._numbers(count)

    async def _numbers(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    @method()
    async def anything(self) -> AsyncIterator[JsonValue]:
        """Yield anything."""
        yield 1

    @method()
    async def follow(self) -> Following:
        """Hand on a run."""
        raise NotImplementedError


@pytest.fixture
def good() -> Registry:
    registry = Registry()
    registry.add(Good())
    return registry


def test_prose_comes_from_the_docstring(good: Registry) -> None:
    roll = good.get("good.roll")
    assert roll.summary == "Throw one die, and only one."
    assert roll.description == "Throw one die,\nand only one.\n\nMore of it."
    assert roll.params_schema["properties"]["sides"] == {
        "type": "integer",
        "description": "Number of sides, 2 to 1000.",
        "default": 6,
    }


def test_the_call_is_given_by_the_host_and_no_part_of_the_schema(good: Registry) -> None:
    roll = good.get("good.roll")
    assert roll.call_parameter == "call"
    assert [parameter.name for parameter in roll.parameters] == ["sides", "where"]
    assert roll.params_schema["properties"]["where"]["default"] == "/x"
    assert "required" not in roll.params_schema


def test_a_streaming_method_is_told_by_its_return_type(good: Registry) -> None:
    streaming = {found.name.removeprefix("good."): (found.streaming, found.hands_on) for found in good}
    assert streaming == {
        "anything": (True, False),
        "checked": (True, False),
        "follow": (True, True),
        "generate": (True, False),
        "roll": (False, False),
        "stream": (True, False),
    }
    assert good.get("good.stream").result is Roll


def test_events_are_those_of_the_method_and_those_of_the_host(good: Registry) -> None:
    def names(method: str) -> list[str]:
        return [option.get("$ref", "").removeprefix("#/$defs/") for option in good.get(method).result_schema["anyOf"]]

    assert names("good.stream") == ["Roll", "Progress", "Gap", "Done"]
    assert names("good.generate") == ["Circle", "LongDone", "Progress", "Gap", "Done"]
    assert names("good.checked") == ["", "Progress", "Gap", "Done"]
    assert good.get("good.anything").result_schema == {}
    assert good.get("good.follow").result_schema == {}


def refused(function: Any, **options: Any) -> str:
    """Return the place at which a method is refused."""

    class Probe(Activation):
        namespace = "probe"
        take = method(**options)(function)

    with pytest.raises(SchemaError) as caught:
        Registry().add(Probe())
    return caught.value.place


async def no_docstring(self: Any) -> None: ...


async def blank_docstring(self: Any) -> None:
    """ """


async def only_arguments(self: Any, value: int) -> None:
    """
    Args:
        value: A value.
    """


def plain(self: Any) -> None:
    """Not async."""


async def no_result(self: Any):  # type: ignore[no-untyped-def] # noqa: ANN201
    """No return annotation."""


async def untyped(self: Any, value) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    """No annotation."""


async def many(self: Any, *values: int) -> None:
    """Many."""


async def named(self: Any, **values: int) -> None:
    """Named."""


async def positional(self: Any, value: int, /) -> None:
    """Positional."""


async def hidden(self: Any, _value: int) -> None:
    """Hidden."""


async def two_calls(self: Any, one: Call, two: Call) -> None:
    """Two calls."""


async def wrong_default(self: Any, value: int = "x") -> None:  # type: ignore[assignment]
    """Wrong default."""


async def none_default(self: Any, value: int = None) -> None:  # type: ignore[assignment] # noqa: RUF013
    """None where it is not allowed."""


async def nan_default(self: Any, value: float = float("nan")) -> None:
    """No number."""


async def bounds_default(self: Any, value: Annotated[int, Ge(1)] = 0) -> None:
    """Out of bounds."""


async def naive_default(self: Any, value: datetime = datetime(2026, 1, 1)) -> None:  # noqa: DTZ001
    """No time zone."""


async def yields_plain(self: Any) -> int:  # type: ignore[misc]
    """Yields, but says it returns."""
    yield 1


async def sends(self: Any) -> AsyncGenerator[int, str]:
    """Wants to be sent something."""
    yield 1


async def false_done(self: Any) -> AsyncIterator[FalseDone]:
    """Has a done of its own that is no Done."""
    yield FalseDone()


async def false_gap(self: Any) -> AsyncIterator[Circle | FalseGap]:
    """Has the host's event."""
    yield FalseGap()


@pytest.mark.parametrize(
    ("function", "place"),
    [
        (no_docstring, "probe.take"),
        (blank_docstring, "probe.take"),
        (only_arguments, "probe.take"),
        (plain, "probe.take"),
        (no_result, "probe.take"),
        (untyped, "probe.take(value)"),
        (many, "probe.take(values)"),
        (named, "probe.take(values)"),
        (positional, "probe.take(value)"),
        (hidden, "probe.take(_value)"),
        (two_calls, "probe.take(two)"),
        (wrong_default, "probe.take(value)"),
        (none_default, "probe.take(value)"),
        (nan_default, "probe.take(value)"),
        (bounds_default, "probe.take(value)"),
        (naive_default, "probe.take(value)"),
        (yields_plain, "probe.take -> result"),
        (sends, "probe.take -> result"),
        (false_done, "probe.take -> result"),
        (false_gap, "probe.take -> result"),
    ],
)
def test_a_function_that_is_no_method_is_refused_with_its_place(function: Any, place: str) -> None:
    assert refused(function) == place


async def fine(self: Any, when: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    "options",
    [
        {"durable": True},
        {"scope": "Not A Verb"},
        {"scope": ""},
        {"scope": ()},
        {"scope": ("read", "")},
        {"scope": "*"},
        {"deadline_s": 0},
        {"errors": [ValueError]},
        {"errors": [CallError]},
        {"idempotency_key": "when"},
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any]) -> None:
    assert refused(fine, **options) == "probe.take"


def test_options_that_fit_are_kept() -> None:
    class Probe(Activation):
        namespace = "probe"
        take = method(scope="read", errors=[Refusal], read_only=True, deadline_s=5)(fine)

    [found] = Registry().add(Probe())
    assert (found.scope, found.errors, found.read_only, found.deadline_s) == ("probe:read", (Refusal,), True, 5)
    assert found.params_schema["properties"]["when"]["default"] == "2026-01-01T00:00:00Z"


@attrs.frozen(kw_only=True)
class WeightedRoll(Roll):
    """A throw of a loaded die.

    Attributes:
        value: What it had to show.
    """

    weight: float = 1.0


def test_inherited_members_are_described_by_the_class_that_has_them() -> None:
    class Loaded(Activation):
        """Throws loaded dice."""

        namespace = "loaded"

        @method(scope="read")
        async def roll(self) -> WeightedRoll:
            """Throw one."""
            return WeightedRoll(sides=6)

    registry = Registry()
    registry.add(Loaded())
    members = registry.get("loaded.roll").result_schema["$defs"]["WeightedRoll"]["properties"]
    assert members["sides"]["description"] == "Number of sides of the die."
    assert members["value"]["description"] == "What it had to show."
