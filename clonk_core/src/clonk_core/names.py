"""Rules for the names of namespaces, methods and scopes."""

import re
from fnmatch import fnmatchcase
from typing import Final

NAMESPACE: Final = re.compile(r"[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){0,3}")
"""A namespace: lower-case words joined by dots, at most four levels (`claudecode`, `claudecode.session`)."""

METHOD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""The last part of a method's name."""

SCOPE_VERB: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""The verb of a scope: `read` in `arbor:read`."""

PLUGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""A plugin: its section in the configuration and its folder in the data directory are called the same."""

KEY_ID: Final = re.compile(r"(?!(?:local|stranger|service)$)[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Name of an API key; callers are known by it, so it is none of the names that other callers have."""

USER_PREFIX: Final = "user:"
PLUGIN_PREFIX: Final = "plugin:"
SERVICE_PREFIX: Final = "service:"
"""What ids begin with of callers that the identity provider knows, or a plugin, or that are activations at work in the
background. Ids of keys have no colon."""

DATABASE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""A database: its file is called the same, with `.db`."""

SECRET: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""A stored secret: `claude_oauth_token`."""


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


def is_secret(name: str) -> bool:
    """Tell whether `name` may be a stored secret's."""
    return SECRET.fullmatch(name) is not None


def scope_for(namespace: str, verb: str) -> str:
    """Return the scope a key must hold: `claudecode:chat`. Nested namespaces share their root's scopes."""
    return f"{namespace.split('.', 1)[0]}:{verb}"


SCOPE: Final = re.compile(r"(\*|[a-z][a-z0-9_]{0,31}:(\*|[a-z][a-z0-9_]{0,63}))(@[^\s@]{1,200})?")
"""A scope that a key may hold: `*`, `arbor:*`, `arbor:read`, each with a pattern of targets, `claudecode:chat@ci-*`."""


_WILDCARDS: Final = frozenset("*?[")


def scope_allows(held: frozenset[str], wanted: str, target: str | None = None) -> bool:
    """Tell whether the scopes held cover the one wanted: itself, its `namespace:*`, or `*`.

    Args:
        held: `*`, `arbor:*`, `arbor:read`, each perhaps narrowed to targets by a pattern: `claudecode:chat@ci-*`.
        wanted: `arbor:read`.
        target: What it is wanted for (a session's name); a narrowed scope covers nothing without one. `*` in a pattern
            stands for any characters, `?` for one, `[ab]` for one of several.
    """
    if "*" in held or wanted in held:
        return True
    every = f"{wanted.split(':', 1)[0]}:*"
    if every in held:
        return True
    if target is None:
        return False
    for scope in held:
        base, at, pattern = scope.partition("@")
        if at and base in ("*", wanted, every) and fnmatchcase(target, pattern):
            return True
    return False


def scope_covers(held: frozenset[str], given: str) -> bool:
    """Tell whether the scopes held cover all that `given`, itself a scope that may be held, would allow."""
    base, _, pattern = given.partition("@")
    every = f"{base.split(':', 1)[0]}:*"
    if "*" in held or given in held or (base != "*" and (base in held or every in held)):
        return True
    # Of two patterns nobody tells easily which is the wider one; a name is one target.
    return pattern != "" and not _WILDCARDS & set(pattern) and scope_allows(held, base, pattern)


def scopes_in_both(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """Return scopes that allow what both allow, and no more.

    Two patterns of targets for one scope have nothing in common here unless they are the same text.
    """
    pairs = (_in_both(first, second) for first in one for second in other)
    return frozenset(scope for scope in pairs if scope is not None)


def _in_both(one: str, other: str) -> str | None:
    """Return the scope that allows what two scopes allow both, None for none."""
    (base, _, pattern), (other_base, _, other_pattern) = one.partition("@"), other.partition("@")
    if pattern and other_pattern and pattern != other_pattern:
        return None
    if not scope_covers(frozenset({base}), other_base):
        if not scope_covers(frozenset({other_base}), base):
            return None
        other_base = base
    narrowed = pattern or other_pattern
    return f"{other_base}@{narrowed}" if narrowed else other_base


def scope_is_narrowed(held: frozenset[str], wanted: str) -> bool:
    """Tell whether the scopes held cover the one wanted for some targets only."""
    covering = ("*", wanted, f"{wanted.split(':', 1)[0]}:*")
    return not any(base in held for base in covering) and any(scope.partition("@")[0] in covering for scope in held)
