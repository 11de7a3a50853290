"""Is what a package gave for its section of the configuration one that can be read?"""

from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import attrs

from clonk_core.config.types import choices, fields, is_section, split
from clonk_core.errors import ConfigError

_PLAIN: Final = (bool, int, float, str, Path, datetime, type(None))


def check_section_class(found: object) -> None:
    """Refuse what is no class of settings, before anything is read with it.

    Raises:
        ConfigError: It is no attrs class, a type in it cannot be read, or it cannot be made from its defaults.
    """
    if not (isinstance(found, type) and attrs.has(found)):
        raise ConfigError(f"its settings are {found!r:.100}, which is no attrs class")
    _check_fields(found, found.__name__)
    try:
        found()
    except Exception as error:  # another package's code
        raise ConfigError(f"its settings cannot be made from their defaults: {error}") from error


def _check_fields(section: type[Any], place: str) -> None:
    try:
        found = fields(section)
    except Exception as error:  # annotations are code, too
        raise ConfigError(f"{place}: its annotations cannot be read: {error}") from error
    for name, field in found.items():
        _check_type(field.type, f"{place}.{name}")


def _check_type(annotation: Any, place: str) -> None:
    members = choices(annotation)
    if len(members) > 1:
        for member in members:
            _check_type(member, place)
        return
    inner, _ = split(annotation)
    origin, arguments = get_origin(inner), get_args(inner)
    if is_section(inner):
        _check_fields(inner, f"{place} ({inner.__name__})")
    elif origin in {tuple, list} and arguments:
        _check_type(arguments[0], f"{place}[]")
    elif origin is dict and len(arguments) == 2:
        _check_type(arguments[1], f"{place}{{}}")
    elif not (
        origin is Literal or inner is None or inner in _PLAIN or (isinstance(inner, type) and issubclass(inner, Enum))
    ):
        raise ConfigError(
            f"{place}: {inner!r} cannot be read from a configuration; allowed are bool, int, float, str, Path, "
            "datetime, Literal, enums, tuple, list, dict, unions of these and attrs classes"
        )
