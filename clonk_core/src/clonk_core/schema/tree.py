"""The neutral description of types: what a value may be, apart from Python's spelling and from JSON Schema's."""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import attrs

from clonk_core.messages import JsonValue

JsonKind: TypeAlias = Literal["null", "boolean", "number", "string", "array", "object"]


class _NoDefault:
    def __repr__(self) -> str:
        return "NO_DEFAULT"


NO_DEFAULT: Final = _NoDefault()
"""There is no default, or none that is always the same (null is a default)."""


@attrs.frozen
class AnyValue:
    """Any JSON value."""


@attrs.frozen
class Null:
    """Null."""


@attrs.frozen
class Boolean:
    """True or false."""


@attrs.frozen(kw_only=True)
class Numeric:
    """A number, or a whole number.

    Attributes:
        whole: Whether it is an integer.
        minimum, maximum: Bounds that are allowed themselves.
        above, below: Bounds that are not.
        multiple_of: What it must be a multiple of.
    """

    whole: bool = False
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    multiple_of: float | None = None


@attrs.frozen(kw_only=True)
class Text:
    """A string.

    Attributes:
        format: What it means, `plain` for nothing.
        min_length, max_length: In characters (code points).
        patterns: Each must match the whole string; in the dialect that Python's `re` and ECMA 262 share.
        secret: Whether it is masked wherever it is written down.
    """

    format: Literal["plain", "date-time", "date", "uuid", "path"] = "plain"
    min_length: int | None = None
    max_length: int | None = None
    patterns: tuple[str, ...] = ()
    secret: bool = False


@attrs.frozen
class Choice:
    """One of a few values: strings, integers, booleans, null."""

    values: tuple[str | int | bool | None, ...]


@attrs.frozen(kw_only=True)
class Array:
    """A list of like items."""

    item: "Type"
    min_items: int | None = None
    max_items: int | None = None


@attrs.frozen
class FixedArray:
    """A list with one type for each place."""

    items: "tuple[Type, ...]"


@attrs.frozen(kw_only=True)
class Table:
    """An object with any names and like values."""

    value: "Type"
    min_items: int | None = None
    max_items: int | None = None


@attrs.frozen
class Reference:
    """An object described once in `Definitions`, under this name."""

    name: str


@attrs.frozen
class OneOf:
    """One of several types, told apart by JSON type or by the `type` member."""

    options: "tuple[Type, ...]"


Type: TypeAlias = AnyValue | Null | Boolean | Numeric | Text | Choice | Array | FixedArray | Table | Reference | OneOf


@attrs.frozen(kw_only=True)
class Member:
    """One member of an object, or one parameter of a method.

    Attributes:
        name: On the wire.
        type: What it may be.
        required: Whether it must be there.
        default: What holds when it is not, as a JSON value; `NO_DEFAULT` when that is not always the same.
        description: From the docstring.
    """

    name: str
    type: Type
    required: bool
    default: JsonValue = NO_DEFAULT
    description: str = ""


@attrs.frozen(kw_only=True)
class ObjectType:
    """An object with named members and no others.

    Attributes:
        name: The class's name; made longer where two classes of one method share it.
        description: Prose of the class's docstring.
        members: In the order of the class.
    """

    name: str
    description: str
    members: tuple[Member, ...]

    @property
    def tag(self) -> str | None:
        """What its `type` member always is, None when it has none."""
        for member in self.members:
            if member.name == "type" and isinstance(member.type, Choice) and len(member.type.values) == 1:
                value = member.type.values[0]
                return value if isinstance(value, str) else None
        return None


Definitions: TypeAlias = Mapping[str, ObjectType]


def kinds_of(found: Type) -> frozenset[JsonKind]:  # noqa: PLR0911 - one for each kind of type
    """Return the JSON types that values of a type may have."""
    match found:
        case AnyValue():
            return frozenset({"null", "boolean", "number", "string", "array", "object"})
        case Null():
            return frozenset({"null"})
        case Boolean():
            return frozenset({"boolean"})
        case Numeric():
            return frozenset({"number"})
        case Text():
            return frozenset({"string"})
        case Choice(values):
            return frozenset(_kind_of_value(value) for value in values)
        case Array() | FixedArray():
            return frozenset({"array"})
        case Table() | Reference():
            return frozenset({"object"})
        case OneOf(options):
            return frozenset(kind for option in options for kind in kinds_of(option))


def _kind_of_value(value: str | int | bool | None) -> JsonKind:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"
