"""Rules for the names of namespaces, methods and scopes."""

import re
from typing import Final

NAMESPACE: Final = re.compile(r"[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){0,3}")
"""A namespace: lower-case words joined by dots, at most four levels (`claudecode`, `claudecode.session`)."""

METHOD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""The last part of a method's name."""

SCOPE_VERB: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""The verb of a scope: `read` in `arbor:read`."""

PLUGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""A plugin: its section in the configuration and its folder in the data directory are called the same."""

DATABASE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""A database: its file is called the same, with `.db`."""


def is_namespace(name: str) -> bool:
    """Tell whether `name` may be a namespace."""
    return NAMESPACE.fullmatch(name) is not None


def is_method(name: str) -> bool:
    """Tell whether `name` may be the last part of a method's name."""
    return METHOD.fullmatch(name) is not None


def is_plugin(name: str) -> bool:
    """Tell whether `name` may be a plugin's."""
    return PLUGIN.fullmatch(name) is not None


def is_database(name: str) -> bool:
    """Tell whether `name` may be a database's."""
    return DATABASE.fullmatch(name) is not None


def scope_for(namespace: str, verb: str) -> str:
    """Return the scope a key must hold: `claudecode:chat`. Nested namespaces share their root's scopes."""
    return f"{namespace.split('.', 1)[0]}:{verb}"


def scope_allows(held: frozenset[str], wanted: str) -> bool:
    """Tell whether the scopes held cover the one wanted: itself, its `namespace:*`, or `*`."""
    return "*" in held or wanted in held or f"{wanted.split(':', 1)[0]}:*" in held
