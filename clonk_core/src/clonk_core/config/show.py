"""The effective configuration as YAML, each value with a comment that says where it came from; secrets masked."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
import yaml

from clonk_core.config.decode import MASK
from clonk_core.config.load import Loaded
from clonk_core.config.nodes import DEFAULT, Origin, join
from clonk_core.config.types import fields

_COMMENT_COLUMN = 48
"""Where comments begin, when the value leaves room."""


def show(loaded: Loaded) -> str:
    """Return the whole configuration, defaults included, as YAML that `clonk config check` accepts (secrets apart)."""
    lines = list(_section(loaded.settings, "", 0, loaded.origins))
    for name, section in sorted(loaded.sections.items()):
        lines.append(f"{name}:")
        lines.extend(_section(section, name, 1, loaded.origins))
    return "\n".join(lines) + "\n"


def _section(section: Any, path: str, depth: int, origins: Mapping[str, Origin]) -> Iterator[str]:
    for key, field in fields(type(section)).items():
        value = getattr(section, field.name)
        yield from _entry(key, value, join(path, key), depth, origins, secret=bool(field.metadata.get("secret")))


def _entry(
    key: str, value: Any, path: str, depth: int, origins: Mapping[str, Origin], *, secret: bool
) -> Iterator[str]:
    indent = "  " * depth
    if attrs.has(type(value)):
        yield f"{indent}{key}:"
        yield from _section(value, path, depth + 1, origins)
    elif isinstance(value, dict) and value:
        yield f"{indent}{scalar(key)}:"
        for name, item in value.items():
            yield from _entry(scalar(name), item, join(path, name), depth + 1, origins, secret=secret)
    elif isinstance(value, tuple | list) and any(attrs.has(type(item)) for item in value):
        yield f"{indent}{key}:"
        for index, item in enumerate(value):
            first, *rest = _section(item, f"{path}[{index}]", depth + 2, origins)
            yield f"{indent}  - {first.lstrip()}"
            yield from rest
    else:
        line = f"{indent}{key}: {_plain(value, secret=secret)}"
        yield f"{line:<{_COMMENT_COLUMN}}  # {_origin(path, origins)}"


def _origin(path: str, origins: Mapping[str, Origin]) -> Origin:
    """Return where a value came from; an entry of a list or mapping that was given whole came from there."""
    while path:
        if path in origins:
            return origins[path]
        path = path.rpartition(".")[0]
    return DEFAULT


def _plain(value: Any, *, secret: bool) -> str:
    if secret and value not in (None, (), [], {}):
        return f'"{MASK}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(scalar(item) for item in value)}]"
    return scalar(value)


def scalar(value: Any) -> str:
    """Return one plain value as YAML, in quotes where YAML 1.1 could take it for something else."""
    if isinstance(value, Path):
        value = str(value)
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, datetime):
        value = value.isoformat()
    elif isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        plain = yaml.safe_dump(value, width=10**6, allow_unicode=True).removesuffix("...\n").rstrip("\n")
        safe = plain == value and not any(mark in value for mark in ",[]{}")
        return plain if safe else yaml.safe_dump(value, default_style='"', width=10**6, allow_unicode=True).rstrip("\n")
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").rstrip("\n")
