"""The encoder: typed values to JSON bytes, quickly, and never a number that JSON has no word for."""

import enum
import json
import math
import pathlib
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

import attrs
import orjson

from clonk_core.errors import ActivationError
from clonk_core.messages import JsonValue, Written
from clonk_core.wire.misfit import member_path

_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

_FLOATLESS: Final = (str, int, bool, type(None), datetime, date, uuid.UUID, pathlib.Path)


def date_time_text(value: datetime) -> str:
    """Return a moment as RFC 3339 in UTC: `2026-01-31T12:00:00Z`, with microseconds when it has any.

    Raises:
        ActivationError: It has no time zone, so nobody can know which moment it is.
    """
    if value.tzinfo is None:
        raise ActivationError("a datetime without time zone cannot travel")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


@attrs.frozen(eq=False)
class _ClassPlan:
    """How instances of one class are written.

    Attributes:
        shallow: Returns what orjson writes in the instance's place; values inside are asked for in turn.
        floatless: No NaN can be inside, going by the annotations.
    """

    shallow: Callable[[Any], Any]
    floatless: bool


class Encoder:
    """Writes values; what it generates for a class is kept as long as it lives."""

    def __init__(self) -> None:
        self._plans: dict[type, _ClassPlan] = {}
        self._floatless: dict[Any, bool] = {}
        self._search_nan = json.JSONEncoder(allow_nan=False, check_circular=False, default=self._in_search).encode

    def encode(self, value: object, annotation: Any = None) -> bytes:
        """Return the JSON bytes of a result or an event: compact UTF-8, no line ends.

        attrs classes become objects with all public members, tuples arrays, enum members their values, paths strings,
        moments RFC 3339 in UTC. Integers of any size are written out.

        Args:
            value: What to write.
            annotation: Its declared type, when known: one without floats saves a search for NaN.

        Raises:
            ActivationError: NaN, infinity, a lone surrogate, a name that is no string, a type without JSON, nesting
                that is too deep; with the place.
        """
        plan = self._plans.get(type(value)) or self._plan(type(value))
        try:
            encoded = orjson.dumps(plan.shallow(value), self._default, _OPTIONS)
        except (TypeError, ActivationError):
            # Rare: an integer beyond 64 bit, or something that cannot be written; the slow way says which and where.
            return self._encode_slowly(value)
        # orjson writes NaN and infinity as null, so where there is no null there was none.
        if b"null" in encoded and not (plan.floatless or (annotation is not None and self._is_floatless(annotation))):
            self._refuse_nan(value)
        return encoded

    def unstructure(self, value: object) -> JsonValue:
        """Return a value as plain JSON values (dict, list, str, int, float, bool, None).

        Raises:
            ActivationError: As for `encode`.
        """
        try:
            return self._plain(value, "$")
        except RecursionError:
            raise ActivationError("the value is nested too deeply for JSON") from None

    def _refuse_nan(self, value: object) -> None:
        """See that a value that orjson could write holds no NaN.

        The standard library's encoder looks through it in a sixth of the time of `unstructure`, which says the place.
        """
        try:
            self._search_nan(value)
        except (TypeError, ValueError, RecursionError):
            self.unstructure(value)

    def _is_floatless(self, annotation: Any) -> bool:
        """Tell whether a declared type has no room for a float; found once for each."""
        try:
            known = self._floatless.get(annotation)
        except TypeError:
            # Metadata that does not hash.
            return False
        if known is None:
            known = self._floatless[annotation] = _is_floatless(annotation, set())
        return known

    def _encode_slowly(self, value: object) -> bytes:
        plain = self.unstructure(value)
        try:
            return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except RecursionError:
            raise ActivationError("the value is nested too deeply for JSON") from None

    def _default(self, value: Any) -> Any:
        plan = self._plans.get(type(value)) or self._plan(type(value))
        if plan.shallow is _itself:
            raise TypeError
        return plan.shallow(value)

    def _in_search(self, value: Any) -> Any:
        """What the search for NaN looks at in a value's place: nothing, where JSON was written already."""
        return None if isinstance(value, Written) else self._default(value)

    def _plain(self, value: Any, place: str) -> Any:
        """Convert step by step, knowing the place."""
        if value is None or value is True or value is False:
            return value
        if isinstance(value, enum.Enum):
            return self._plain(value.value, place)
        if isinstance(value, str):
            return _checked_text(value, place)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise ActivationError(f"{place}: {value} is no JSON number")
            return float(value)
        if isinstance(value, Mapping):
            return {
                _checked_name(name, place): self._plain(member, place + member_path(str(name)))
                for name, member in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._plain(member, f"{place}[{number}]") for number, member in enumerate(value)]
        plan = self._plans.get(type(value)) or self._plan(type(value))
        if plan.shallow is _itself:
            raise ActivationError(f"{place}: a {type(value).__name__} has no JSON form")
        try:
            shallow = json.loads(value.text) if isinstance(value, Written) else plan.shallow(value)
        except ActivationError as error:
            raise ActivationError(f"{place}: {error}") from error
        return self._plain(shallow, place)

    def _plan(self, kind: type) -> _ClassPlan:
        plan = _ClassPlan(_shallow(kind), _is_floatless(kind, set()))
        self._plans[kind] = plan
        return plan


def _shallow(kind: type) -> Callable[[Any], Any]:
    """Return the function that turns an instance into something orjson knows, one level deep."""
    if attrs.has(kind):
        return _object_function(kind)
    if issubclass(kind, Written):
        return _fragment
    if issubclass(kind, datetime):
        return date_time_text
    if issubclass(kind, date):
        return date.isoformat
    if issubclass(kind, pathlib.PurePath | uuid.UUID):
        return str
    if issubclass(kind, Mapping) and not issubclass(kind, dict):
        return dict
    if issubclass(kind, Sequence) and not issubclass(kind, list | tuple | str | bytes | bytearray | memoryview):
        return list
    return _itself


def _fragment(value: Written[Any]) -> orjson.Fragment:
    return orjson.Fragment(value.text)


def _itself(value: Any) -> Any:
    return value


def _object_function(kind: type) -> Callable[[Any], dict[str, Any]]:
    """Generate `{"name": value.name, ...}` over the public members: a third of the time of a loop with getattr."""
    names = [field.name for field in attrs.fields(kind) if field.init and not field.name.startswith("_")]
    # Names of attrs fields are Python identifiers, so this cannot be anything but attribute reads.
    source = ", ".join(f"{name!r}: value.{name}" for name in names)
    function: Callable[[Any], dict[str, Any]] = eval(f"lambda value: {{{source}}}", {})  # noqa: S307
    return function


def _is_floatless(annotation: Any, seen: set[Any]) -> bool:
    """Tell whether a type has no room for a float, going by its annotations; in doubt it has."""
    if annotation in _FLOATLESS:
        return True
    if isinstance(annotation, type) and attrs.has(annotation):
        if annotation in seen:
            return True
        seen.add(annotation)
        try:
            attrs.resolve_types(annotation)
        except NameError:
            return False
        return all(_is_floatless(field.type, seen) for field in attrs.fields(annotation))
    if typing.get_origin(annotation) in (typing.Literal, Written):
        return True
    arguments = [item for item in typing.get_args(annotation) if item is not Ellipsis]
    if typing.get_origin(annotation) is typing.Annotated:
        return _is_floatless(arguments[0], seen)
    return bool(arguments) and all(_is_floatless(item, seen) for item in arguments)


def _checked_text(value: str, place: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ActivationError(f"{place}: a lone surrogate is no character") from None
    return str(value)


def _checked_name(name: Any, place: str) -> str:
    if not isinstance(name, str) or isinstance(name, enum.Enum):
        raise ActivationError(f"{place}: {name!r} is no name for a member of an object")
    return _checked_text(name, place)
