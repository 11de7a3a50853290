"""Default values as JSON, checked against the type they stand for."""

import datetime as dt
import enum
import math
import pathlib
import re
import uuid
from collections.abc import Mapping
from typing import Any

import attrs

from clonk_core.errors import SchemaError
from clonk_core.messages import JsonValue
from clonk_core.schema.tree import (
    AnyValue,
    Array,
    Boolean,
    Choice,
    Definitions,
    FixedArray,
    Null,
    Numeric,
    OneOf,
    Reference,
    Table,
    Text,
    Type,
)


def default_as_json(found: Type, value: Any, definitions: Definitions, place: str) -> JsonValue:
    """Return a default as a JSON value.

    Raises:
        SchemaError: JSON has no word for it, or it does not fit the type.
    """
    plain = _plain(value, place)
    if not fits(found, plain, definitions):
        raise SchemaError(place, f"the default {value!r} does not fit the type")
    return plain


def _plain(value: Any, place: str) -> JsonValue:
    """Return a Python value as JSON values."""
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise SchemaError(place, f"the default {value} is no JSON number")
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, place) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item, place) for name, item in value.items()}
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            raise SchemaError(place, "the default has no time zone")
        return value.astimezone(dt.UTC).replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, pathlib.PurePath | uuid.UUID):
        return str(value)
    if attrs.has(type(value)):
        return {
            field.name: _plain(getattr(value, field.name), place) for field in attrs.fields(type(value)) if field.init
        }
    raise SchemaError(place, f"the default {value!r} has no JSON form")


def fits(found: Type, value: JsonValue, definitions: Definitions) -> bool:
    """Tell whether a JSON value is of a described type."""
    match found:
        case AnyValue():
            return True
        case Null():
            return value is None
        case Boolean():
            return isinstance(value, bool)
        case Numeric():
            return _fits_numeric(found, value)
        case Text():
            return isinstance(value, str) and _fits_text(found, value)
        case Choice(values):
            return any(type(value) is type(allowed) and value == allowed for allowed in values)
        case OneOf(options):
            return any(fits(option, value, definitions) for option in options)
        case _:
            return _fits_container(found, value, definitions)


def _fits_container(found: Array | FixedArray | Table | Reference, value: JsonValue, definitions: Definitions) -> bool:
    match found:
        case Array():
            return (
                isinstance(value, list)
                and _within(len(value), found.min_items, found.max_items)
                and all(fits(found.item, item, definitions) for item in value)
            )
        case FixedArray(items):
            return (
                isinstance(value, list)
                and len(value) == len(items)
                and all(fits(type_, item, definitions) for type_, item in zip(items, value, strict=True))
            )
        case Table():
            return (
                isinstance(value, dict)
                and _within(len(value), found.min_items, found.max_items)
                and all(fits(found.value, item, definitions) for item in value.values())
            )
        case Reference(name):
            return isinstance(value, dict) and _fits_object(name, value, definitions)


def _fits_object(name: str, value: Mapping[str, JsonValue], definitions: Definitions) -> bool:
    members = {member.name: member for member in definitions[name].members}
    # An object whose own description is still being read (a default inside itself) is taken at its word.
    return not members or (
        all(name in members and fits(members[name].type, item, definitions) for name, item in value.items())
        and all(member.name in value for member in members.values() if member.required)
    )


def _fits_numeric(found: Numeric, value: JsonValue) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if found.whole and not isinstance(value, int):
        return False
    return (
        _within(value, found.minimum, found.maximum)
        and (found.above is None or value > found.above)
        and (found.below is None or value < found.below)
        and (found.multiple_of is None or value % found.multiple_of == 0)
    )


def _fits_text(found: Text, value: str) -> bool:
    return _within(len(value), found.min_length, found.max_length) and all(
        re.fullmatch(pattern, value) for pattern in found.patterns
    )


def _within(value: float, lowest: float | None, highest: float | None) -> bool:
    return (lowest is None or value >= lowest) and (highest is None or value <= highest)
