"""Reads what forges answer: JSON of another program, so each member is looked at before it is used. No I/O."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from clonk_core.plugin import JsonValue
from clonk_gitsync.forges.errors import ForgeFailed


def entry(value: JsonValue) -> Mapping[str, Any]:
    """Return an object.

    Raises:
        ForgeFailed: It is none.
    """
    if not isinstance(value, dict):
        raise ForgeFailed("not_understood")
    return value


def entries(value: JsonValue) -> Sequence[Mapping[str, Any]]:
    """Return a list of objects.

    Raises:
        ForgeFailed: It is none.
    """
    if not isinstance(value, list):
        raise ForgeFailed("not_understood")
    return [entry(one) for one in value]


def text(found: Mapping[str, Any], *path: str) -> str:
    """Return the text that lies at the end of a path of members.

    Raises:
        ForgeFailed: There is none.
    """
    value = text_or_none(found, *path)
    if value is None:
        raise ForgeFailed("not_understood")
    return value


def text_or_none(found: Mapping[str, Any], *path: str) -> str | None:
    """Return the text that lies at the end of a path of members; None for anything else."""
    value: Any = found
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def number(found: Mapping[str, Any], name: str) -> int:
    """Return a whole number.

    Raises:
        ForgeFailed: There is none.
    """
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ForgeFailed("not_understood")
    return value


def moment(found: Mapping[str, Any], name: str) -> datetime:
    """Return a moment, with the zone that it is told in.

    Raises:
        ForgeFailed: There is none.
    """
    try:
        value = datetime.fromisoformat(text(found, name))
    except ValueError as error:
        raise ForgeFailed("not_understood") from error
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def texts(found: Mapping[str, Any], name: str, member: str) -> tuple[str, ...]:
    """Return one member of each object of a list, in order; what is none is left out."""
    values = found.get(name)
    given = values if isinstance(values, list) else []
    named = (text_or_none(one, member) if isinstance(one, dict) else one for one in given)
    return tuple(one for one in named if isinstance(one, str))


def truth(found: Mapping[str, Any], name: str) -> bool | None:
    """Return whether it is so; None when it is not told."""
    value = found.get(name)
    return value if isinstance(value, bool) else None
