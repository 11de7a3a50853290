"""The strict converter: nothing is coerced, every problem has its path, every value goes out as JSON or not at all."""

import enum
import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import attrs
import pytest
from annotated_types import Interval, Len
from hypothesis import given
from hypothesis import strategies as st

from clonk_core.errors import ActivationError, InvalidParams
from clonk_core.messages import Done, ErrorObject
from clonk_core.methods import Method, Parameter
from clonk_core.plugin import Ge, JsonValue, Le, MaxLen, MinLen, Pattern, Written
from clonk_core.wire.converter import Converter


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Endless(enum.Enum):
    EVER = math.inf


Name = NewType("Name", str)


@attrs.frozen(kw_only=True)
class Item:
    name: str
    count: int = 1


@attrs.frozen(kw_only=True)
class Order:
    items: tuple[Item, ...]
    by_name: dict[str, Item] = attrs.field(factory=dict)


@attrs.frozen
class Tree:
    value: int
    children: "list[Tree]" = attrs.field(factory=list)
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
class Positive:
    number: int = attrs.field()

    @number.validator
    def _check(self, attribute: Any, value: int) -> None:
        if value <= 0:
            raise ValueError("must be positive")


async def nothing() -> None: ...


def method(**annotations: Any) -> Method:
    parameters = tuple(
        Parameter(name=name, annotation=annotation, required=not name.endswith("_"))
        for name, annotation in annotations.items()
    )
    return Method(
        name="test.method",
        namespace="test",
        summary="",
        description="",
        parameters=parameters,
        call_parameter=None,
        result=None,
        scope="test:method",
        function=nothing,
    )


@pytest.fixture
def converter() -> Converter:
    return Converter()


def problem(converter: Converter, annotation: Any, value: Any) -> InvalidParams:
    with pytest.raises(InvalidParams) as caught:
        converter.decode(annotation, value)
    return caught.value


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (str, "x", "x"),
        (str, "5", "5"),
        (int, 5, 5),
        (int, 2**70, 2**70),
        (int, 2.0, 2),
        (float, 5, 5.0),
        (float, 5.5, 5.5),
        (bool, True, True),
        (None, None, None),
        (list[int], [1, 2], [1, 2]),
        (Sequence[int], [1, 2], [1, 2]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, str], [1, "x"], (1, "x")),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Mapping[str, int], {"a": 1}, {"a": 1}),
        (Literal["a", 1, None], 1, 1),  # noqa: PYI061 - may be written so
        (Literal["a", 1, None], None, None),  # noqa: PYI061
        (Colour, "red", Colour.RED),
        (Level, 2, Level.HIGH),
        (int | None, None, None),
        (str | int | list[int], [1], [1]),
        (Name, "x", "x"),
        (Path, "/a/b", Path("/a/b")),
        (date, "2026-01-31", date(2026, 1, 31)),
        (datetime, "2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (datetime, "2026-01-31t12:00:00.5z", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        (
            datetime,
            "2026-01-31T12:00:00.123456789+02:00",
            datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=2))),
        ),
        (UUID, "0190a5f2-7c1e-7000-8000-00000000000A", UUID("0190a5f27c1e7000800000000000000a")),
        (JsonValue, {"any": [1, None]}, {"any": [1, None]}),
        (JsonValue | None, [1], [1]),
        (Item, {"name": "x"}, Item(name="x")),
        (Circle | Square, {"type": "square", "side": 2}, Square(2.0)),
        (Circle | Square | None, None, None),
        (Circle | str, {"type": "circle", "radius": 1.5}, Circle(1.5)),
        (Tree, {"value": 1, "children": [{"value": 2}]}, Tree(1, [Tree(2)])),
        (Annotated[int, Ge(1), Le(6)] | None, 6, 6),
        (Annotated[int | None, Ge(1)], None, None),
        (Annotated[str, Pattern("[a-z]+")], "abc", "abc"),
    ],
)
def test_what_fits_is_decoded(converter: Converter, annotation: Any, value: Any, expected: Any) -> None:
    found = converter.decode(annotation, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "path"),
    [
        (int, "5", "$"),
        (int, True, "$"),
        (int, 2.5, "$"),
        (int, None, "$"),
        (float, "1.5", "$"),
        (float, False, "$"),
        (float, math.inf, "$"),
        (float, math.nan, "$"),
        (float, 10**400, "$"),
        (str, 5, "$"),
        (str, None, "$"),
        (str, "\ud800", "$"),
        (bool, 1, "$"),
        (bool, "no", "$"),
        (None, 0, "$"),
        (list[int], "ab", "$"),
        (list[int], {"0": 1}, "$"),
        (list[int], [1, "2"], "$[1]"),
        (tuple[int, str], [1], "$"),
        (tuple[int, str], [1, 2], "$[1]"),
        (dict[str, int], [["a", 1]], "$"),
        (dict[str, int], {"a b": "x"}, "$['a b']"),
        (dict[str, int], {"\ud800": 1}, "$"),
        (Literal["a", "b"], "c", "$"),
        (Literal[1], True, "$"),
        (Literal[True], 1, "$"),
        (Literal["a"], ["a"], "$"),
        (Colour, "RED", "$"),
        (Colour, "green", "$"),
        (Level, "1", "$"),
        (Level, True, "$"),
        (int | None, "x", "$"),
        (str | int, True, "$"),
        (Path, "", "$"),
        (Path, "a\0b", "$"),
        (date, "2026-02-30", "$"),
        (date, "20260131", "$"),
        (datetime, "2026-01-31T12:00:00", "$"),
        (datetime, "2026-01-31 12:00:00Z", "$"),
        (datetime, "2026-13-01T12:00:00Z", "$"),
        (datetime, "0001-01-01T00:00:00+23:59", "$"),
        (datetime, "9999-12-31T23:59:59-23:59", "$"),
        (datetime, 1700000000, "$"),
        (UUID, "0190a5f27c1e7000800000000000000a", "$"),
        (UUID, "{0190a5f2-7c1e-7000-8000-00000000000a}", "$"),
        (Item, [], "$"),
        (Item, {}, "$.name"),
        (Item, {"name": "x", "nam": 1}, "$.nam"),
        (Item, {"name": 1}, "$.name"),
        (Order, {"items": [{"name": "a"}, {"name": "b"}, {"name": 3}]}, "$.items[2].name"),
        (Order, {"items": [], "by_name": {"x": {"name": None}}}, "$.by_name.x.name"),
        (Tree, {"value": 1, "children": [{"value": 2, "parent": {"value": "x"}}]}, "$.children[0].parent.value"),
        (Circle | Square, {"side": 2}, "$.type"),
        (Circle | Square, {"type": "triangle"}, "$.type"),
        (Circle | Square, {"type": ["circle"]}, "$.type"),
        (Circle | Square, {"type": "square", "radius": 1}, "$.radius"),
        (Circle, {"radius": 1}, "$.type"),
        (Circle, {"radius": 1, "type": "square"}, "$.type"),
        (Annotated[int, Ge(1), Le(6)], 0, "$"),
        (Annotated[int, Interval(ge=1, lt=7)], 7, "$"),
        (Annotated[str, MinLen(2)], "x", "$"),
        (Annotated[str, Len(0, 2)], "xxx", "$"),
        (Annotated[list[int], MaxLen(1)], [1, 2], "$"),
        (Annotated[str, Pattern("[a-z]+", says="small letters")], "abc\n", "$"),
        (Annotated[str, Pattern("a|ab")], "abc", "$"),
        (Positive, {"number": -1}, "$"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(
    converter: Converter, annotation: Any, value: Any, path: str
) -> None:
    assert problem(converter, annotation, value).path == path


def test_arguments_may_be_named_or_positional_and_those_left_out_stay_out(converter: Converter) -> None:
    found = method(name=str, count_=int)
    assert converter.decode_arguments(found, {"name": "x"}) == {"name": "x"}
    assert converter.decode_arguments(found, ["x", 2]) == {"name": "x", "count_": 2}
    assert converter.decode_arguments(method(count_=int), None) == {}


@pytest.mark.parametrize(
    ("params", "path"),
    [
        (None, "$.name"),
        ({}, "$.name"),
        ([], "$.name"),
        ({"nam": "x"}, "$.nam"),
        ({"name": "x", "count_": "2"}, "$.count_"),
        (["x", 2, 3], "$[2]"),
        ({"name": "x", "odd name": 1}, "$['odd name']"),
    ],
)
def test_wrong_arguments_name_path_and_method(converter: Converter, params: Any, path: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        converter.decode_arguments(method(name=str, count_=int), params)
    assert (caught.value.path, caught.value.data["method"]) == (path, "test.method")


def test_a_mistyped_name_is_told_the_nearest_one(converter: Converter) -> None:
    with pytest.raises(InvalidParams) as caught:
        converter.decode_arguments(method(working_dir=str), {"workingdir": "x"})
    assert "'working_dir'" in caught.value.detail
    assert caught.value.data["problems"] == [{"path": "$.working_dir", "message": "required field missing"}]


def test_the_specifications_message_for_a_missing_name_is_kept(converter: Converter) -> None:
    with pytest.raises(InvalidParams) as caught:
        converter.decode_arguments(method(name=str), {})
    assert caught.value.message == "test.method: name: required field missing"


def test_further_problems_are_told_up_to_ten(converter: Converter) -> None:
    error = problem(converter, list[int], ["x"] * 1000)
    assert error.path == "$[0]"
    assert [one["path"] for one in error.data["problems"]] == [f"$[{number}]" for number in range(1, 11)]


def test_a_method_that_was_replaced_is_read_anew(converter: Converter) -> None:
    assert converter.decode_arguments(method(a=int), {"a": 1}) == {"a": 1}
    assert converter.decode_arguments(method(a=str), {"a": "x"}) == {"a": "x"}


def test_values_nested_to_the_limit_are_decoded_or_refused_but_break_nothing(converter: Converter) -> None:
    value: dict[str, Any] = {"value": 0}
    for _ in range(2000):
        value = {"value": 0, "parent": value}
    assert "deep" in problem(converter, Tree, value).detail


def test_an_annotation_without_a_decoder_is_the_authors_fault(converter: Converter) -> None:
    with pytest.raises(ActivationError):
        converter.decode(set[int], [1])


def test_two_converters_do_not_notice_each_other() -> None:
    one, other = Converter(), Converter()
    assert one.decode(Tree, {"value": 1}) == other.decode(Tree, {"value": 1})
    assert one._decoders._made.keys() == other._decoders._made.keys()
    assert one._decoders._made[Tree] is not other._decoders._made[Tree]


# ── encoding ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Item(name="x"), {"name": "x", "count": 1}),
        (Order(items=(Item(name="é"),)), {"items": [{"name": "é", "count": 1}], "by_name": {}}),
        (Tree(1, [Tree(2)]), {"value": 1, "children": [{"value": 2, "children": [], "parent": None}], "parent": None}),
        ((1, "x", None), [1, "x", None]),
        (Path("/a"), "/a"),
        ([Colour.RED, Level.HIGH], ["red", 2]),
        (datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T10:00:00Z"),
        (date(2026, 1, 31), "2026-01-31"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        ({"a": 2**70, "b": -(2**70), "c": [Path("x"), None]}, {"a": 2**70, "b": -(2**70), "c": ["x", None]}),
        (
            Done(outcome="failed", error=ErrorObject(code=1, message="m", data={"kind": "k"})),
            {"type": "done", "outcome": "failed", "error": {"code": 1, "message": "m", "data": {"kind": "k"}}},
        ),
        (1.5, 1.5),
        (None, None),
    ],
)
def test_values_go_out_as_json(converter: Converter, value: Any, expected: Any) -> None:
    encoded = converter.encode(value)
    assert json.loads(encoded) == expected
    assert converter.unstructure(value) == expected
    assert b"\n" not in encoded


def test_private_and_computed_attributes_stay_inside(converter: Converter) -> None:
    @attrs.define
    class Half:
        shown: int
        _hidden: int = 0
        computed: int = attrs.field(init=False, default=3)

    assert json.loads(converter.encode(Half(1))) == {"shown": 1}


def test_line_ends_in_text_do_not_reach_the_line(converter: Converter) -> None:
    assert b"\n" not in converter.encode({"a": "x\ny", "b": 2**70})


@attrs.frozen
class Reading:
    value: float
    note: str | None = None


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (math.nan, "$"),
        ({"a": [1, math.inf]}, "$.a[1]"),
        ({"a": -math.inf, "b": 2**70}, "$.a"),
        ({"a": None, "b": [Level.LOW, Colour.RED, Endless.EVER]}, "$.b[2]"),
        (Reading(math.nan), "$.value"),
        ([Reading(1.0), Reading(math.inf, "x")], "$[1].value"),
        ({"a": "\ud800"}, "$.a"),
        ({"\ud800": 1}, "$"),
        ({1: "x"}, "$"),
        ({"a": {1, 2}}, "$.a"),
        ({"a": b"x"}, "$.a"),
        ({"a": [object()]}, "$.a[0]"),
        ([datetime(2026, 1, 1)], "$[0]"),  # noqa: DTZ001 - that is the point
        (Reading, "$"),
    ],
)
def test_what_json_has_no_word_for_never_goes_out(converter: Converter, value: Any, place: str) -> None:
    for write in (converter.encode, converter.unstructure):
        with pytest.raises(ActivationError) as caught:
            write(value)
        assert str(caught.value).startswith(f"{place}: ")


@attrs.frozen
class Stored:
    rows: Written[list[Any]]
    number: JsonValue = None


def test_what_is_written_already_goes_out_as_it_is(converter: Converter) -> None:
    text = '[{"b":1.50,"a":"\\n\\ud83d\\ude00"},null]'
    assert converter.encode(Stored(Written(text))) == f'{{"rows":{text},"number":null}}'.encode()
    assert converter.encode(Written(text)) == text.encode()
    assert converter.unstructure(Stored(Written(text)))["rows"] == json.loads(text)
    # Also where another part has to be written the slow way, or holds what JSON has no word for.
    assert json.loads(converter.encode(Stored(Written(text), 2**70))) == {"rows": json.loads(text), "number": 2**70}
    with pytest.raises(ActivationError) as caught:
        converter.encode([Stored(Written(text)), Stored(Written(text), math.nan)])
    assert str(caught.value).startswith("$[1].number: ")


@pytest.mark.parametrize("text", ["[1,\n2]", '"a\r"'])
def test_what_is_written_already_has_no_line_ends(text: str) -> None:
    with pytest.raises(ValueError, match="line ends"):
        Written(text)


def test_a_value_that_holds_itself_is_the_authors_fault(converter: Converter) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ActivationError):
        converter.encode(loop)


def test_deep_values_still_go_out(converter: Converter) -> None:
    value: list[Any] = []
    for _ in range(300):
        value = [value]
    assert json.loads(converter.encode(value)) == value


def test_the_declared_type_only_saves_work(converter: Converter) -> None:
    assert converter.encode((Item(name="x"), None), tuple[Item | None, ...]) == b'[{"name":"x","count":1},null]'
    with pytest.raises(ActivationError):
        converter.encode([None, math.nan], list[float | None])


def test_a_large_value_with_nulls_is_searched_for_nan_without_a_step_in_python_for_each_of_its_values(
    converter: Converter,
) -> None:
    value = {"rows": [{"role": "user", "words": ["null", None, 1.5, number]} for number in range(10_000)]}
    converter.encode(value)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        converter.encode(value)
    finally:
        sys.setprofile(None)
    assert calls < 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_every_json_value_goes_out_and_comes_back_or_is_refused(value: Any) -> None:
    converter = Converter()
    try:
        encoded = converter.encode(value)
    except ActivationError:
        assert any(word in json.dumps(value) for word in ("NaN", "Infinity", "\\ud"))
        return
    assert json.loads(encoded) == value
