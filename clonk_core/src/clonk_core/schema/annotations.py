"""Python annotations to the neutral description; what has no schema is refused with its place."""

import datetime as dt
import enum
import math
import pathlib
import re
import types
import typing
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NewType, Union

import annotated_types
import attrs

from clonk_core.errors import SchemaError
from clonk_core.messages import AnyJson, Written
from clonk_core.plugin import Pattern, Secret
from clonk_core.schema.defaults import default_as_json
from clonk_core.schema.docstrings import read_docstring
from clonk_core.schema.tree import (
    NO_DEFAULT,
    AnyValue,
    Array,
    Boolean,
    Choice,
    FixedArray,
    Member,
    Null,
    Numeric,
    ObjectType,
    OneOf,
    Reference,
    Table,
    Text,
    Type,
    kinds_of,
)

ALLOWED: Final = (
    "allowed are str, int, float, bool, None, list, tuple, dict[str, ...], Literal, enums, unions, datetime, date, "
    "Path, UUID, NewType, JsonValue, attrs classes and Annotated with bounds"
)

_PLAIN: Final[Mapping[Any, Type]] = {
    None: Null(),
    type(None): Null(),
    bool: Boolean(),
    int: Numeric(whole=True),
    float: Numeric(),
    str: Text(),
    dt.datetime: Text(format="date-time"),
    dt.date: Text(format="date"),
    uuid.UUID: Text(format="uuid"),
    pathlib.Path: Text(format="path"),
}

_HINTS: Final[Mapping[Any, str]] = {
    Any: "Any says nothing; write JsonValue for any JSON value",
    object: "object says nothing; write JsonValue for any JSON value",
    dict: "write dict[str, T]",
    list: "write list[T]",
    tuple: "write tuple[T, ...] or tuple[A, B]",
    bytes: "JSON has no bytes; write str and say which encoding",
    set: "JSON has no sets; write list[T]",
    frozenset: "JSON has no sets; write tuple[T, ...]",
    Written: "what comes in is decoded; only results and events hold what is written already",
    dt.timedelta: "write a number with its unit in the name, such as `delay_s: float`",
    dt.time: "write str",
}


class TypeInspector:
    """Describes annotations and keeps the objects they name, each once, so that classes may hold themselves.

    Attributes:
        definitions: The objects found so far, by the name under which they are referred to.
        for_results: Whether what is described goes out: only there may JSON be written already.
    """

    def __init__(self, *, for_results: bool = False) -> None:
        self.for_results = for_results
        self.definitions: dict[str, ObjectType] = {}
        self._names: dict[type, str] = {}

    def describe(self, annotation: Any, place: str) -> Type:
        """Return the description of an annotation.

        Raises:
            SchemaError: It has none; `place` names where it stands.
        """
        if annotation is None or isinstance(annotation, type):
            return self._class(annotation, place)
        if isinstance(annotation, NewType):
            return self.describe(annotation.__supertype__, place)
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            return self._annotated(arguments[0], arguments[1:], place)
        if origin is Literal:
            return _literal(arguments, place)
        if origin in (Union, types.UnionType):
            return self.one_of([self.describe(option, place) for option in arguments], place)
        if origin is Written and self.for_results:
            return self.describe(arguments[0], place)
        return self._container(annotation, place)

    def _class(self, annotation: Any, place: str) -> Type:
        plain = _PLAIN.get(annotation)
        if plain is not None:
            return plain
        if typing.get_origin(annotation) is not None:
            # list[int] is a type for isinstance.
            return self._container(annotation, place)
        if issubclass(annotation, enum.Enum):
            return _enum(annotation, place)
        if attrs.has(annotation):
            return self._object(annotation, place)
        raise _refused(annotation, place)

    def _container(self, annotation: Any, place: str) -> Type:
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin in (list, Sequence) and len(arguments) == 1:
            return Array(item=self.describe(arguments[0], f"{place}[]"))
        if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
            return Array(item=self.describe(arguments[0], f"{place}[]"))
        if origin is tuple and arguments:
            items = enumerate(arguments)
            return FixedArray(tuple(self.describe(item, f"{place}[{number}]") for number, item in items))
        if origin in (dict, Mapping) and len(arguments) == 2:
            if arguments[0] is not str:
                raise SchemaError(place, f"names of a JSON object are str, not {_spelled(arguments[0])}")
            return Table(value=self.describe(arguments[1], f"{place}{{}}"))
        raise _refused(annotation, place)

    # ── bounds ───────────────────────────────────────────────────────────────

    def _annotated(self, inner: Any, metadata: Sequence[Any], place: str) -> Type:
        if any(isinstance(item, AnyJson) for item in metadata):
            return AnyValue()
        found = self.describe(inner, place)
        for bound in _bounds(metadata, place):
            found = _bounded(found, bound, place)
        return found

    # ── unions ───────────────────────────────────────────────────────────────

    def one_of(self, options: Sequence[Type], place: str) -> Type:
        """Return the union of several types.

        Raises:
            SchemaError: A reader of JSON could not tell them apart.
        """
        flat: list[Type] = []
        for option in options:
            flat.extend(option.options if isinstance(option, OneOf) else (option,))
        # By their text: Choice((1,)) and Choice((True,)) are equal in Python.
        flat = list({repr(option): option for option in flat}.values())
        others: list[Type] = [option for option in flat if not isinstance(option, Null)]
        if any(isinstance(option, AnyValue) for option in others):
            if len(others) > 1:
                raise SchemaError(place, "any JSON value covers the other types of the union; write JsonValue alone")
            return AnyValue()
        if any("null" in kinds_of(option) for option in others):
            flat = others
        self._check_apart(flat, place)
        return flat[0] if len(flat) == 1 else OneOf(tuple(flat))

    def _check_apart(self, options: Sequence[Type], place: str) -> None:
        taken: dict[str, Type] = {}
        tags: dict[str, str] = {}
        for option in options:
            for kind in kinds_of(option):
                other = taken.setdefault(kind, option)
                if other is option:
                    continue
                if not (isinstance(option, Reference) and isinstance(other, Reference)):
                    raise SchemaError(
                        place, f"two types of the union are both a JSON {kind}: nobody can tell them apart"
                    )
        references = [option for option in options if isinstance(option, Reference)]
        for reference in references if len(references) > 1 else ():
            tag = self.definitions[reference.name].tag
            if tag is None:
                text = f"{reference.name} needs a member `type: Literal[...]` with one value to be told from the others"
                raise SchemaError(place, text)
            if tags.setdefault(tag, reference.name) != reference.name:
                raise SchemaError(place, f"{tags[tag]} and {reference.name} have the same `type` {tag!r}")

    # ── objects ──────────────────────────────────────────────────────────────

    def _object(self, found: type, place: str) -> Reference:
        if found in self._names:
            return Reference(self._names[found])
        if getattr(found, "__parameters__", ()) or "__orig_bases__" in vars(found):
            raise SchemaError(place, f"{found.__name__} is generic; write a class for each use")
        name = self._free_name(found)
        self._names[found] = name
        prose = read_docstring(vars(found).get("__doc__"), found.__name__)
        texts = _texts(found)
        # Known before its members are, for those that hold it again; the tag alone is needed so early.
        self.definitions[name] = ObjectType(name=name, description=prose.prose, members=())
        hints = resolved_hints(found, found.__name__)
        fields = [field for field in attrs.fields(found) if field.init]
        tag = [field for field in fields if field.name == "type" and typing.get_origin(hints.get("type")) is Literal]
        members: dict[str, Member] = {}
        # The tag first, since a union inside may need it.
        for field in [*tag, *(field for field in fields if field not in tag)]:
            members[field.name] = self._member(found, field, hints, texts.get(field.name, ""))
            ordered = tuple(members[one.name] for one in fields if one.name in members)
            self.definitions[name] = ObjectType(name=name, description=prose.prose, members=ordered)
        return Reference(name)

    def _member(self, owner: type, field: Any, hints: Mapping[str, Any], description: str) -> Member:
        place = f"{owner.__name__}.{field.name}"
        if field.name.startswith("_"):
            raise SchemaError(place, "a private attribute cannot travel; give it init=False or a public name")
        if field.alias != field.name:
            raise SchemaError(place, f"on the wire it is {field.name!r}; leave out the alias {field.alias!r}")
        if field.name not in hints:
            raise SchemaError(place, "has no annotation")
        found = self.describe(hints[field.name], place)
        is_tag = field.name == "type" and isinstance(found, Choice) and len(found.values) == 1
        default = NO_DEFAULT
        if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
            empty = _EMPTY_BY_FACTORY.get(field.default.factory)
            default = default_as_json(found, empty(), self.definitions, place) if empty else NO_DEFAULT
        elif field.default is not attrs.NOTHING:
            default = default_as_json(found, field.default, self.definitions, place)
        # A tag is always sent: it tells what the rest is.
        required = field.default is attrs.NOTHING or is_tag
        return Member(name=field.name, type=found, required=required, default=default, description=description)

    def _free_name(self, found: type) -> str:
        """Name a class; a second one of the same name gets its package in front, and then a number."""
        names = [found.__name__, f"{found.__module__.split('.', 1)[0]}_{found.__name__}"]
        names += [f"{found.__name__}_{number}" for number in range(2, len(self.definitions) + 3)]
        return next(name for name in names if name not in self.definitions)


_EMPTY_BY_FACTORY: Final[Mapping[Any, Any]] = {list: list, dict: dict, tuple: tuple}
"""Factories whose value is always the same; any other may be a clock or a new id."""


def resolved_hints(found: Any, place: str) -> dict[str, Any]:
    """Return the annotations of a class or function with strings resolved.

    Raises:
        SchemaError: A name in them cannot be found at run time.
    """
    try:
        return typing.get_type_hints(found, include_extras=True)
    except NameError as error:
        text = f"the annotation names {error.name!r}, which is not there at run time; import it outside TYPE_CHECKING"
        raise SchemaError(place, text) from error
    except (TypeError, AttributeError, SyntaxError) as error:
        raise SchemaError(place, f"an annotation cannot be read: {error}") from error


def _refused(annotation: Any, place: str) -> SchemaError:
    hint = next(
        (text for found, text in _HINTS.items() if annotation is found or typing.get_origin(annotation) is found), ""
    )
    return SchemaError(place, f"{_spelled(annotation)} has no schema; {hint or ALLOWED}")


def _spelled(annotation: Any) -> str:
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation.__name__
    return str(annotation).removeprefix("typing.")


def _literal(values: Sequence[Any], place: str) -> Choice:
    for value in values:
        if value is not None and type(value) not in (str, int, bool):
            raise SchemaError(place, f"Literal[{value!r}]: allowed are strings, integers, booleans and None")
    return Choice(tuple(values))


def _enum(found: type[enum.Enum], place: str) -> Choice:
    if issubclass(found, enum.Flag):
        raise SchemaError(
            place, f"{found.__name__} is a Flag, which has more values than members; write list of an Enum"
        )
    values = [member.value for member in found]
    for value in values:
        if type(value) not in (str, int):
            raise SchemaError(place, f"{found.__name__} has the value {value!r}: allowed are strings and integers")
    if not values:
        raise SchemaError(place, f"{found.__name__} has no members")
    return Choice(tuple(values))


def _bounds(metadata: Sequence[Any], place: str) -> list[Any]:
    """Return the bounds among an annotation's metadata, groups such as `Interval` and `Len` taken apart."""
    found: list[Any] = []
    for item in metadata:
        if isinstance(item, annotated_types.GroupedMetadata):
            found.extend(_bounds(list(item), place))
        elif item is Secret:
            raise SchemaError(place, "write Secret(), not Secret")
        elif isinstance(item, Pattern | Secret | annotated_types.BaseMetadata):
            found.append(item)
    return found


def _bounded(found: Type, bound: Any, place: str) -> Type:
    """Add one bound to a description."""
    if isinstance(found, OneOf):
        bounded = [option for option in found.options if not isinstance(option, Null)]
        if len(bounded) == 1:
            options = (_bounded(option, bound, place) if option is bounded[0] else option for option in found.options)
            return OneOf(tuple(options))
    name = type(bound).__name__
    match bound, found:
        case ((annotated_types.Ge() | annotated_types.Gt() | annotated_types.Le() | annotated_types.Lt()), Numeric()):
            return _numeric_bound(found, bound, place)
        case annotated_types.MultipleOf(step), Numeric(whole=True, multiple_of=None) if type(step) is int and step > 0:
            return attrs.evolve(found, multiple_of=step)
        case annotated_types.MinLen(length), (Text(format="plain") | Array() | Table()):
            return _length_bound(found, name, length, place)
        case annotated_types.MaxLen(length), (Text(format="plain") | Array() | Table()):
            return _length_bound(found, name, length, place)
        case Secret(), Text(format="plain"):
            return attrs.evolve(found, secret=True)
        case Pattern(regex=regex), Text(format="plain"):
            try:
                re.compile(regex)
            except re.error as error:
                raise SchemaError(place, f"the pattern {regex!r} is no regular expression: {error}") from error
            return attrs.evolve(found, patterns=(*found.patterns, regex))
    if isinstance(bound, annotated_types.MultipleOf):
        raise SchemaError(place, "MultipleOf is for int with a positive int: multiples of a float are not exact")
    raise SchemaError(place, f"the bound {name} cannot be put on this type")


def _numeric_bound(found: Numeric, bound: Any, place: str) -> Numeric:
    [limit] = [getattr(bound, name) for name in ("ge", "gt", "le", "lt") if hasattr(bound, name)]
    if type(limit) not in (int, float) or not math.isfinite(limit):
        raise SchemaError(place, f"a bound is a finite number, not {limit!r}")

    def tighter(old: float | None, *, largest: bool) -> Any:
        return limit if old is None else (max(old, limit) if largest else min(old, limit))

    match bound:
        case annotated_types.Ge():
            return attrs.evolve(found, minimum=tighter(found.minimum, largest=True))
        case annotated_types.Gt():
            return attrs.evolve(found, above=tighter(found.above, largest=True))
        case annotated_types.Le():
            return attrs.evolve(found, maximum=tighter(found.maximum, largest=False))
        case _:
            return attrs.evolve(found, below=tighter(found.below, largest=False))


def _length_bound(found: Any, name: str, length: Any, place: str) -> Type:
    if type(length) is not int or length < 0:
        raise SchemaError(place, f"{name} wants a whole number from 0, not {length!r}")
    noun = "length" if isinstance(found, Text) else "items"
    if name == "MinLen":
        old = getattr(found, f"min_{noun}")
        bounds = {f"min_{noun}": length if old is None else max(old, length)}
    else:
        old = getattr(found, f"max_{noun}")
        bounds = {f"max_{noun}": length if old is None else min(old, length)}
    changed: Type = attrs.evolve(found, **bounds)
    return changed


def _texts(found: type) -> dict[str, str]:
    """Return the text for each attribute, also for those inherited, whose own class describes them."""
    texts: dict[str, str] = {}
    for base in reversed(found.__mro__):
        if attrs.has(base):
            texts |= read_docstring(vars(base).get("__doc__"), base.__name__).members
    return texts
