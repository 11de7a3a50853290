"""Patterns of methods, and which methods may be given to sessions at all."""

from collections.abc import Iterable
from typing import Annotated, Final

from clonk_core.plugin import MaxLen, Pattern

ToolPattern = Annotated[
    str,
    MaxLen(200),
    Pattern(
        r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.(\*|[a-z][a-z0-9_]*)",
        "a method (`dice.roll`), or all of a namespace (`dice.*`)",
    ),
]

GUARDED: Final = frozenset({"arbor", "audit", "auth", "claudecode", "health", "hub", "keys", "rpc", "secrets"})
"""The server's own namespaces, and arbor's, whose trees hold what was said in every session: each of their methods must
stand in the allowlist by its name; `*` is not enough."""

OF_SESSIONS: Final = frozenset(
    {
        "claudecode.chat",
        "claudecode.get",
        "claudecode.history",
        "claudecode.interrupt",
        "claudecode.list",
        "claudecode.search",
    }
)
"""What can be given of sessions. All else could let a session answer its own permission requests, or lift its limits:
`permit` and `update` at once, `share` and `create` by way of a token or of another session."""


def matches(pattern: str, method: str) -> bool:
    """Tell whether a pattern stands for a method."""
    return method == pattern or (pattern.endswith(".*") and method.startswith(pattern[:-1]))


def is_matched(patterns: Iterable[str], method: str) -> bool:
    """Tell whether one of the patterns stands for a method."""
    return any(matches(pattern, method) for pattern in patterns)


def is_allowed(method: str, allowed: Iterable[str], *, by_name_only: bool = False) -> bool:
    """Tell whether the configuration lets a method be given to sessions.

    Args:
        method: Its name.
        allowed: `claudecode.tools.allowed`.
        by_name_only: Whether patterns are not enough, as for methods that need no credential.
    """
    namespace = method.partition(".")[0]
    if namespace == "claudecode" and method not in OF_SESSIONS:
        return False
    if by_name_only or namespace in GUARDED:
        return method in tuple(allowed)
    return is_matched(allowed, method)
