"""What may be stored: JSON text and its bounds, handles, the words in it, the time."""

import json
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson

from clonk_arbor.errors import ContentTooLarge
from clonk_arbor.limits import MAX_METADATA_BYTES, MAX_NESTING
from clonk_arbor.messages import Handle, Metadata
from clonk_core.plugin import InvalidParams, JsonValue

HANDLE: Final = "$handle"
"""Content with this one member is a handle."""

MAX_HANDLE_METHOD: Final = 200

Kind = Literal["text", "json", "handle"]


Stored = tuple[Kind, str, int]
"""A content, checked: what it is, its JSON text, the bytes of that."""


def stored_content(content: JsonValue, limit: int, path: str = "$.content") -> Stored:
    """Return a content as it is kept.

    Args:
        content: Any JSON value.
        limit: Most bytes of its JSON text.
        path: Where it stands, for errors.

    Raises:
        InvalidParams: It is no JSON, nested too deeply, or a handle that is none.
        ContentTooLarge: It is over the limit.
    """
    kind: Kind = "json"
    if type(content) is str:
        kind = "text"
    elif type(content) is dict and HANDLE in content:
        check_handle(content, path)
        kind = "handle"
    text, size = json_text(content, limit, path)
    return kind, text, size


def check_handle(content: dict[str, Any], path: str) -> Handle:
    """Return the handle that a content is.

    Raises:
        InvalidParams: It is none.
    """
    where = f"{path}.{HANDLE}"
    if len(content) != 1:
        raise InvalidParams(f"a content with the member `{HANDLE}` has no other", path=path)
    handle = content[HANDLE]
    if not isinstance(handle, dict) or not set(handle) <= {"method", "params"}:
        raise InvalidParams("a handle has the members `method` and `params`", path=where)
    method, params = handle.get("method"), handle.get("params", {})
    if not isinstance(method, str) or not 0 < len(method) <= MAX_HANDLE_METHOD:
        raise InvalidParams(
            f"names a method that only reads, such as `claudecode.get`; at most {MAX_HANDLE_METHOD} characters",
            path=f"{where}.method",
        )
    if method.split(".")[0] == "arbor":
        raise InvalidParams("a handle is to an object of another activation than arbor", path=f"{where}.method")
    if not isinstance(params, dict) or not all(isinstance(name, str) for name in params):
        raise InvalidParams("must be an object with the method's arguments", path=f"{where}.params")
    return Handle(method=method, params=params)


def read_handle(text: str) -> Handle:
    """Return a stored handle."""
    handle = json.loads(text)[HANDLE]
    return Handle(method=handle["method"], params=handle.get("params", {}))


def metadata_text(metadata: Metadata | None, path: str = "$.metadata") -> str:
    """Return metadata as they are kept; errors as for `stored_content`."""
    return "{}" if not metadata else json_text(metadata, MAX_METADATA_BYTES, path)[0]


def json_text(value: JsonValue, limit: int, path: str) -> tuple[str, int]:
    """Return `value` as JSON text, and its size in bytes.

    Raises:
        InvalidParams: It is nested too deeply, or no JSON (the wire lets no such value in; another activation might).
        ContentTooLarge: It is over `limit` bytes.
    """
    try:
        encoded = orjson.dumps(value, option=_ONLY_JSON)
    except TypeError:
        # An integer beyond 64 bit, or something that cannot be written: the slow way says which.
        encoded = _encode_slowly(value, path)
    if b"null" in encoded:
        # orjson writes NaN and infinity as null, so where there is no null there was none.
        encoded = _encode_slowly(value, path)
    size = len(encoded)
    if size > limit:
        raise ContentTooLarge(path, size, limit)
    # Counting brackets is fast and errs on the safe side; few values need the look at each part.
    if size > MAX_NESTING and encoded.count(b"[") + encoded.count(b"{") > MAX_NESTING and _nesting(value) > MAX_NESTING:
        raise _nested_too_deeply(path)
    return encoded.decode(), size


_ONLY_JSON: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS


def _encode_slowly(value: JsonValue, path: str) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except RecursionError as error:
        raise _nested_too_deeply(path) from error
    except (TypeError, ValueError) as error:
        raise InvalidParams(f"no JSON value: {error}", path=path) from error


def _nested_too_deeply(path: str) -> InvalidParams:
    return InvalidParams(f"nested too deeply; at most {MAX_NESTING} levels", path=path)


def _nesting(value: JsonValue) -> int:
    """Return how many lists and objects lie inside each other."""
    depth = 0
    level: list[JsonValue] = [value]
    while containers := [part for part in level if isinstance(part, dict | list | tuple)]:
        depth += 1
        level = [inner for part in containers for inner in (part.values() if isinstance(part, dict) else part)]
    return depth


def strings_of(value: JsonValue, limit: int) -> str:
    """Return the strings in a stored value, one a line and in their order, up to about `limit` characters."""
    if isinstance(value, str):
        return value[:limit]
    found: list[str] = []
    room = limit
    stack: list[JsonValue] = [value]
    while stack and room > 0:
        part = stack.pop()
        if isinstance(part, str):
            found.append(part[:room])
            room -= len(part)
        elif isinstance(part, dict):
            stack.extend(reversed(part.values()))
        elif isinstance(part, list):
            stack.extend(reversed(part))
    return "\n".join(found)


def now() -> str:
    """Return the clock time as it is kept."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """Return a time that was kept."""
    return datetime.fromisoformat(text)
