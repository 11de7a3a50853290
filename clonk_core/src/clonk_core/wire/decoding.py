"""Decoders: one function for each annotated type, made once, that turns a JSON value into the type or says why not."""

import enum
import pathlib
import re
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, NewType, Union

import annotated_types
import attrs
import cattrs
from cattrs.errors import AttributeValidationNote, ClassValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from clonk_core.errors import ActivationError, CallError, InvalidParams
from clonk_core.messages import AnyJson
from clonk_core.plugin import Pattern
from clonk_core.wire.misfit import MAX_PROBLEMS, Misfit, below, member_path, misfit, unknown_name, wrong_kind

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
            return datetime.fromisoformat(text.upper())
        except ValueError:
            pass
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
_PLAIN: Final[Mapping[Any, Decoder]] = {
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
_ANY: Final = Decoder(_any_json, frozenset(), "any JSON value")


# ── composed values ──────────────────────────────────────────────────────────


def _choice(members: Sequence[tuple[Any, Any]]) -> Decoder:
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


def _array(item: Decoder, build: Callable[[list[Any]], Any]) -> Decoder:
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


def _fixed_array(items: Sequence[Decoder]) -> Decoder:
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


def _map(item: Decoder) -> Decoder:
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


def _all_problems(members: "typing.Iterable[tuple[str, Decode, Any]]") -> list[tuple[str, str]]:
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


def _bounded(inner: Decoder, bounds: Sequence[Any]) -> Decoder:
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


def tag_of(annotated_class: type) -> str | None:
    """Return what the `type` member of an attrs class always is, None when it has no such member."""
    for field in attrs.fields(annotated_class):
        if field.name == "type" and typing.get_origin(field.type) is Literal:
            values = typing.get_args(field.type)
            if len(values) == 1 and type(values[0]) is str:
                return values[0]
    return None


class _Generator(cattrs.Converter):
    """Generates the code for attrs classes, with our decoder for the type of each field.

    Registered hooks would not do: for str, int, float and bool cattrs has its own ahead of them, which coerce.
    """

    def __init__(self, find: Callable[[Any], Decoder]) -> None:
        super().__init__(detailed_validation=True, forbid_extra_keys=True)
        self._find = find

    def get_structure_hook(self, type: Any, cache_result: bool = True) -> Any:
        """Return the decoder of a field's type in the shape that cattrs calls."""
        decode = self._find(type).decode
        return lambda value, _: decode(value)


class Decoders:
    """Makes decoders and keeps them."""

    def __init__(self) -> None:
        self._made: dict[Any, Decoder] = {}
        self._generator = _Generator(self._get)

    def decoder(self, annotation: Any) -> Decode:
        """Return the function that decodes an annotated type.

        Raises:
            ActivationError: The type has no decoder.
        """
        return self._get(annotation).decode

    def _get(self, annotation: Any) -> Decoder:
        try:
            found = self._made.get(annotation)
        except TypeError:
            # Metadata that does not hash.
            return self._make(annotation)
        if found is None:
            found = self._make(annotation)
            self._made[annotation] = found
        return found

    def _make(self, annotation: Any) -> Decoder:  # noqa: PLR0911 - one for each kind of type
        plain = _PLAIN.get(annotation) if isinstance(annotation, type) or annotation is None else None
        if plain is not None:
            return plain
        if isinstance(annotation, NewType):
            return self._get(annotation.__supertype__)
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            return self._annotated(arguments[0], arguments[1:])
        if origin is Literal:
            return _choice([(value, value) for value in arguments])
        if origin in (Union, types.UnionType):
            return self._union(arguments)
        if origin in (list, Sequence):
            return _array(self._get(arguments[0]), lambda items: items)
        if origin is tuple:
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                return _array(self._get(arguments[0]), tuple)
            return _fixed_array([self._get(item) for item in arguments])
        if origin in (dict, Mapping):
            return _map(self._get(arguments[1]))
        if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
            return _choice([(member.value, member) for member in annotation])
        if isinstance(annotation, type) and attrs.has(annotation):
            return self._object(annotation)
        raise ActivationError(f"the type {annotation!r} cannot be decoded")

    def _annotated(self, inner: Any, metadata: Sequence[Any]) -> Decoder:
        if any(isinstance(item, AnyJson) for item in metadata):
            return _ANY
        bounds = bounds_of(metadata)
        return _bounded(self._get(inner), bounds) if bounds else self._get(inner)

    def _union(self, options: Sequence[Any]) -> Decoder:
        """Decide by the JSON type, and between objects by their `type` member."""
        decoders = [self._get(option) for option in options]
        if any(not item.kinds for item in decoders):
            return _ANY
        objects = [option for option in options if isinstance(option, type) and attrs.has(option)]
        by_kind: dict[type, Decode] = {}
        for item in decoders:
            for kind in sorted(item.kinds, key=lambda kind: kind is float):
                by_kind.setdefault(kind, item.decode)
        if len(objects) > 1:
            by_kind[dict] = self._tagged(objects)
        expects = " or ".join(dict.fromkeys(item.expects for item in decoders))

        def decode(value: Any) -> Any:
            chosen = by_kind.get(type(value))
            if chosen is None:
                raise wrong_kind(expects, value)
            return chosen(value)

        return Decoder(decode, frozenset(by_kind), expects)

    def _tagged(self, classes: Sequence[type]) -> Decode:
        by_tag: dict[str, Decode] = {}
        for item in classes:
            attrs.resolve_types(item)
            tag = tag_of(item)
            if tag is None:
                raise ActivationError(f"{item.__name__} needs a member `type: Literal[...]` to be told apart")
            by_tag[tag] = self._get(item).decode
        allowed = ", ".join(repr(tag) for tag in by_tag)

        def decode(value: Any) -> Any:
            tag = value.get("type")
            chosen = by_tag.get(tag) if type(tag) is str else None
            if chosen is None:
                text = "required field missing" if "type" not in value else f"expected one of {allowed}"
                raise Misfit([(".type", text)])
            return chosen(value)

        return decode

    def _object(self, annotated_class: type) -> Decoder:
        """Make the decoder of an attrs class; it may hold itself, so it is known before it is made."""
        generated: Callable[[Any, Any], Any] | None = None
        names: frozenset[str] = frozenset()
        has_tag = False

        def decode(value: Any) -> Any:
            if type(value) is not dict:
                raise wrong_kind("an object", value)
            # A tag is always sent: it tells what the rest is.
            if has_tag and "type" not in value:
                raise Misfit([(".type", "required field missing")])
            try:
                return generated(value, annotated_class)  # type: ignore[misc]
            except ClassValidationError as error:
                raise Misfit(_class_problems(error, names)[:MAX_PROBLEMS]) from None

        decoder = Decoder(decode, frozenset({dict}), "an object")
        self._made[annotated_class] = decoder
        try:
            attrs.resolve_types(annotated_class)
            has_tag = tag_of(annotated_class) is not None
            names = frozenset(field.name for field in attrs.fields(annotated_class) if field.init)
            generated = make_dict_structure_fn(
                annotated_class, self._generator, _cattrs_forbid_extra_keys=True, _cattrs_use_linecache=False
            )
        except BaseException:
            del self._made[annotated_class]
            raise
        return decoder


def _class_problems(group: ClassValidationError, names: frozenset[str]) -> list[tuple[str, str]]:
    """Turn what the generated code gathered into problems: unknown names first, they explain what is missing."""
    unknown: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for error in group.exceptions:
        notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, AttributeValidationNote)]
        step = f".{notes[0].name}" if notes else ""
        if isinstance(error, Misfit):
            others.extend(below(step, error))
        elif isinstance(error, ForbiddenExtraKeysError):
            extra = sorted(str(name) for name in error.extra_fields)
            unknown.extend((member_path(name), unknown_name(name, names)) for name in extra)
        elif isinstance(error, KeyError) and step:
            others.append((step, "required field missing"))
        elif isinstance(error, RecursionError):
            others.append((step, "nested too deeply"))
        elif isinstance(error, InvalidParams):
            others.append((step, error.detail))
        elif isinstance(error, CallError | ValueError | TypeError):
            # An attrs validator's word; its first argument is the sentence.
            others.append((step, str(error.args[0]) if error.args else type(error).__name__))
        else:
            raise error
    return unknown + others
