"""The one table of error numbers: which code and HTTP status each leaf of the error tree has on the wire."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import attrs

from clonk_core.errors import (
    CallCancelled,
    CallError,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    Internal,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    NotFound,
    ParseError,
    RateLimited,
    ServerRestarted,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from clonk_core.messages import ErrorObject, JsonValue


@attrs.frozen
class ErrorCode:
    """What a leaf of the error tree is on the wire.

    Attributes:
        code: JSON-RPC's own number for the protocol's errors; for ours the number HTTP gives to the same situation,
            outside -32768..-32000, of which MCP claims a part.
        http_status: Status of the HTTP answer to a single direct call.
    """

    code: int
    http_status: int


CODES: Final[Mapping[type[CallError], ErrorCode]] = MappingProxyType(
    {
        # An activation that subclasses no leaf: its own kind, the number of the unforeseen.
        CallError: ErrorCode(-32603, 200),
        ParseError: ErrorCode(-32700, 200),
        InvalidRequest: ErrorCode(-32600, 200),
        MethodNotFound: ErrorCode(-32601, 200),
        InvalidParams: ErrorCode(-32602, 200),
        Internal: ErrorCode(-32603, 200),
        Unauthenticated: ErrorCode(401, 401),
        Forbidden: ErrorCode(403, 403),
        NotFound: ErrorCode(404, 200),
        Conflict: ErrorCode(409, 200),
        TooLarge: ErrorCode(413, 413),
        RateLimited: ErrorCode(429, 429),
        CallCancelled: ErrorCode(499, 200),
        Unavailable: ErrorCode(503, 503),
        StorageFull: ErrorCode(503, 503),
        ServerRestarted: ErrorCode(503, 503),
        DeadlineExceeded: ErrorCode(504, 200),
    }
)

_LEAF_BY_CODE: Final[Mapping[int, type[CallError]]] = MappingProxyType(
    # The first of several with one number wins, so that -32603 is Internal and 503 is Unavailable.
    {entry.code: leaf for leaf, entry in reversed(list(CODES.items())) if leaf is not CallError}
)


def code_of(error: type[CallError]) -> ErrorCode:
    """Return the wire's numbers for an error class: its own leaf's, found through the classes it derives from."""
    for leaf in error.__mro__:
        entry = CODES.get(leaf)
        if entry is not None:
            return entry
    return CODES[CallError]


def code_and_status(error: type[CallError]) -> tuple[int, int]:
    """Return the code and the HTTP status of an error class, as `schema.openrpc.document` wants them."""
    entry = code_of(error)
    return entry.code, entry.http_status


def http_status(error: CallError) -> int:
    """Return the HTTP status of the answer to a single direct call that failed so."""
    return code_of(type(error)).http_status


def error_object(error: CallError) -> ErrorObject:
    """Return what a client sees of an error: `data` has `kind` and the error's own members, made safe for JSON."""
    # An activation's own class may have forgotten `super().__init__`; its answer must not fail for that.
    message = getattr(error, "message", None) or str(error) or (type(error).__doc__ or error.kind).split("\n", 1)[0]
    members = {str(name): _safe(value) for name, value in getattr(error, "data", {}).items() if name != "kind"}
    return ErrorObject(
        code=code_of(type(error)).code,
        message=_safe_text(message),
        data={"kind": error.kind, **members},
    )


def error_from_object(found: ErrorObject) -> CallError:
    """Return the exception that a client raises for an error object it got: of the leaf's class, with the same kind.

    The leaf is found by its kind, else by its code; an activation's own kind (`claudecode.session_busy`) gives an
    instance of a subclass of the leaf made on the spot, so that `except Conflict` catches it.
    """
    kind = str(found.data.get("kind", "call_error"))
    leaf = _leaf_of_kind(kind) or _LEAF_BY_CODE.get(found.code, CallError)
    made: type[CallError] = leaf
    if leaf.kind != kind:
        made = type(leaf.__name__, (leaf,), {"kind": kind, "__module__": leaf.__module__})
    # Leaves build their own text from other arguments; here the text is the server's.
    error: CallError = Exception.__new__(made)
    members = {name: value for name, value in found.data.items() if name != "kind"}
    CallError.__init__(error, found.message)
    error.data = members
    if isinstance(error, InvalidParams):
        error.detail = found.message
        error.path = str(members.get("path", "$"))
        method = members.get("method")
        error.method = method if isinstance(method, str) else None
    return error


def kinds() -> Sequence[tuple[int, str, int, str]]:
    """Return the table for the reference: code, kind, HTTP status and what it means, one row for each leaf."""
    return [
        (entry.code, leaf.kind, entry.http_status, (leaf.__doc__ or "").strip().split("\n", 1)[0])
        for leaf, entry in CODES.items()
        if leaf is not CallError
    ]


def _leaf_of_kind(kind: str) -> type[CallError] | None:
    return next((leaf for leaf in CODES if leaf.kind == kind), None)


def _safe_text(text: str) -> str:
    """Replace what UTF-8 has no bytes for."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _safe(value: Any, depth: int = 0) -> JsonValue:
    """Turn an error's member into a JSON value, whatever it is: an answer that says what failed must not fail."""
    if depth > 32:
        return "…"
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # Beyond 64 bit many a reader loses digits, and the fast encoder refuses.
        return int(value) if -(2**63) <= value < 2**64 else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _safe_text(str(value))
    if isinstance(value, Mapping):
        return {_safe_text(str(key)): _safe(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        return [_safe(item, depth + 1) for item in value]
    return _safe_text(str(value))
