"""The trace that a request belongs to, as its sender tells it: W3C Trace Context, https://www.w3.org/TR/trace-context/."""

import re
from typing import Final

_TRACEPARENT: Final = re.compile(
    rb"(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<parent_id>[0-9a-f]{16})-[0-9a-f]{2}(?P<rest>-.*)?",
    re.DOTALL,
)
_VERSION: Final = b"00"
_NO_VERSION: Final = b"ff"
_NO_TRACE: Final = b"0" * 32
_NO_PARENT: Final = b"0" * 16


def trace_id_of(traceparent: bytes | None) -> str | None:
    """Return the trace id of a `traceparent` header, 32 hex digits; None without one, and for one that is malformed.

    A later version may have more behind a further `-` (section 3.2.4); version 00 may not. Joined with a comma, as
    several lines of one header are, it is malformed.
    """
    found = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    if found is None or found["version"] == _NO_VERSION or (found["version"] == _VERSION and found["rest"]):
        return None
    if found["trace_id"] == _NO_TRACE or found["parent_id"] == _NO_PARENT:
        return None
    return found["trace_id"].decode("ascii")
