"""The decoders' parts: one for each plain type, and what puts them together to arrays, maps, choices and bounds."""

import pathlib
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

import annotated_types
import attrs

from clonk_core.errors import ActivationError
from clonk_core.plugin import Pattern
from clonk_core.wire.misfit import MAX_PROBLEMS, Misfit, below, member_path, misfit, wrong_kind

Decode = Callable[[Any], Any]

_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_NONE: Final = type(None)


@attrs.frozen(eq=False)
class Decoder:
    """How values of one type are decoded.

    Attributes:
        decode: Returns the typed value or raises `Misfit`.
        kinds: Python types of the JSON values it may take; all when empty.
        expects: What is allowed, in words.
    """

    decode: Decode
    kinds: frozenset[type]
    expects: str


# ── plain values ─────────────────────────────────────────────────────────────


def _string(value: Any) -> str:
    if type(value) is not str:
        raise wrong_kind("a string", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise misfit("a lone surrogate is no character") from None
    return value


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise wrong_kind("a boolean", value)
    return value


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    # JSON has one kind of number, and JSON Schema calls 2.0 an integer.
    if type(value) is float and value.is_integer():
        return int(value)
    raise wrong_kind("an integer", value)


def _number(value: Any) -> float:
    if type(value) is float:
        if value - value != 0.0:
            raise misfit("expected a finite number")
        return value
    if type(value) is not int:
        raise wrong_kind("a number", value)
    try:
        return float(value)
    except OverflowError:
        raise misfit("the number is too large") from None


def _null(value: Any) -> None:
    if value is not None:
        raise wrong_kind("null", value)


def _any_json(value: Any) -> Any:
    return value


def _date_time(value: Any) -> datetime:
    text = _string(value)
    if _DATE_TIME.fullmatch(text):
        try:
            moment = datetime.fromisoformat(text.upper())
            moment.astimezone(UTC)  # there may be no such year
        except (ValueError, OverflowError):
            pass
        else:
            return moment
    raise misfit("expected a date and time with offset (RFC 3339) such as '2026-01-31T12:00:00Z'")


def _date(value: Any) -> date:
    text = _string(value)
    if _DATE.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise misfit("expected a date such as '2026-01-31'")


def _uuid(value: Any) -> uuid.UUID:
    text = _string(value)
    if not _UUID.fullmatch(text):
        raise misfit("expected a UUID such as '0190a5f2-7c1e-7000-8000-000000000000'")
    return uuid.UUID(text)


def _path(value: Any) -> pathlib.Path:
    text = _string(value)
    if not text or "\0" in text:
        raise misfit("expected a path: not empty, without NUL characters")
    return pathlib.Path(text)


_STRING_KIND: Final = frozenset({str})
PLAIN: Final[Mapping[Any, Decoder]] = {
    str: Decoder(_string, _STRING_KIND, "a string"),
    bool: Decoder(_boolean, frozenset({bool}), "a boolean"),
    int: Decoder(_integer, frozenset({int, float}), "an integer"),
    float: Decoder(_number, frozenset({int, float}), "a number"),
    None: Decoder(_null, frozenset({_NONE}), "null"),
    _NONE: Decoder(_null, frozenset({_NONE}), "null"),
    datetime: Decoder(_date_time, _STRING_KIND, "a date and time"),
    date: Decoder(_date, _STRING_KIND, "a date"),
    uuid.UUID: Decoder(_uuid, _STRING_KIND, "a UUID"),
    pathlib.Path: Decoder(_path, _STRING_KIND, "a path"),
}
ANY: Final = Decoder(_any_json, frozenset(), "any JSON value")


# ── composed values ──────────────────────────────────────────────────────────


def choice(members: Sequence[tuple[Any, Any]]) -> Decoder:
    """Make the decoder of a `Literal` or an enum from pairs of JSON value and Python value."""
    # 1 and True are equal in Python and not in JSON.
    table = {(type(shown), shown): member for shown, member in members}
    expects = ", ".join(_shown(value) for value, _ in members)
    if len(members) > 1:
        expects = f"one of {expects}"
    kinds = {type(shown) for shown, _ in members}

    def decode(value: Any) -> Any:
        kind = type(value)
        if kind is float and value.is_integer():
            kind, value = int, int(value)
        # Only what hashes can be looked up.
        if kind in kinds:
            found = table.get((kind, value), table)
            if found is not table:
                return found
            shown = _shown(value) if len(str(value)) <= 50 else "something else"
            raise misfit(f"expected {expects}, got {shown}")
        raise wrong_kind(expects, value)

    return Decoder(decode, frozenset(kinds | {float} if int in kinds else kinds), expects)


def _shown(value: Any) -> str:
    return {True: "true", False: "false", None: "null"}[value] if value is None or type(value) is bool else repr(value)


def array(item: Decoder, build: Callable[[list[Any]], Any]) -> Decoder:
    """Make the decoder of an array of like items; `build` turns the list into what is wanted."""
    decode_item = item.decode

    def decode(value: Any) -> Any:
        if type(value) is not list:
            raise wrong_kind("an array", value)
        try:
            return build([decode_item(member) for member in value])
        except Misfit:
            members = ((f"[{place}]", decode_item, member) for place, member in enumerate(value))
            raise Misfit(_all_problems(members)) from None

    return Decoder(decode, frozenset({list}), "an array")


def fixed_array(items: Sequence[Decoder]) -> Decoder:
    """Make the decoder of an array with a type for each place."""
    decoders = [item.decode for item in items]

    def decode(value: Any) -> Any:
        if type(value) is not list:
            raise wrong_kind("an array", value)
        if len(value) != len(decoders):
            raise misfit(f"expected an array of {len(decoders)} items, got {len(value)}")
        try:
            return tuple(decode_item(member) for decode_item, member in zip(decoders, value, strict=True))
        except Misfit:
            pairs = enumerate(zip(decoders, value, strict=True))
            raise Misfit(_all_problems((f"[{place}]", *pair) for place, pair in pairs)) from None

    return Decoder(decode, frozenset({list}), f"an array of {len(items)} items")


def table(item: Decoder) -> Decoder:
    """Make the decoder of an object with any names and like values."""
    decode_item = item.decode

    def decode(value: Any) -> Any:
        if type(value) is not dict:
            raise wrong_kind("an object", value)
        try:
            return {_string(name): decode_item(member) for name, member in value.items()}
        except Misfit:
            members = ((member_path(str(name)), decode_item, member) for name, member in value.items())
            raise Misfit(_all_problems(members) or [("", "a name in it is no string of characters")]) from None

    return Decoder(decode, frozenset({dict}), "an object")


def _all_problems(members: Iterable[tuple[str, Decode, Any]]) -> list[tuple[str, str]]:
    """Decode members again to gather their problems, up to a bound."""
    problems: list[tuple[str, str]] = []
    for step, decode, value in members:
        try:
            decode(value)
        except Misfit as error:
            problems.extend(below(step, error))
            if len(problems) >= MAX_PROBLEMS:
                break
    return problems


def bounded(inner: Decoder, bounds: Sequence[Any]) -> Decoder:
    """Add the bounds of an `Annotated` type."""
    checks = [_check(bound) for bound in bounds]
    decode_inner = inner.decode

    def decode(value: Any) -> Any:
        decoded = decode_inner(value)
        if decoded is not None:
            for holds, text in checks:
                if not holds(decoded):
                    raise misfit(text)
        return decoded

    return Decoder(decode, inner.kinds, inner.expects)


def _check(bound: Any) -> tuple[Callable[[Any], bool], str]:
    """Return a bound's test and what to say when it fails."""
    match bound:
        case annotated_types.Ge(limit):
            return lambda value: bool(value >= limit), f"must be at least {limit}"
        case annotated_types.Gt(limit):
            return lambda value: bool(value > limit), f"must be more than {limit}"
        case annotated_types.Le(limit):
            return lambda value: bool(value <= limit), f"must be at most {limit}"
        case annotated_types.Lt(limit):
            return lambda value: bool(value < limit), f"must be less than {limit}"
        case annotated_types.MinLen(limit):
            return lambda value: len(value) >= limit, f"must have a length of at least {limit}"
        case annotated_types.MaxLen(limit):
            return lambda value: len(value) <= limit, f"must have a length of at most {limit}"
        case annotated_types.MultipleOf(step):
            return lambda value: bool(value % step == 0), f"must be a multiple of {step}"
        case Pattern(regex=regex, says=says):
            compiled = re.compile(regex)
            return lambda value: compiled.fullmatch(value) is not None, says or f"must match {regex}"
    raise ActivationError(f"the bound {bound!r} cannot be checked")


def bounds_of(metadata: Sequence[Any]) -> list[Any]:
    """Return the bounds among an annotation's metadata, groups such as `Interval` and `Len` taken apart."""
    found: list[Any] = []
    for item in metadata:
        if isinstance(item, annotated_types.GroupedMetadata):
            found.extend(bounds_of(list(item)))
        elif isinstance(item, Pattern | annotated_types.BaseMetadata):
            found.append(item)
    return found
