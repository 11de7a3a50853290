"""Every error that Clonk raises on purpose.

    ClonkError
    ├── CallError                what a caller did or may know of; travels as a JSON-RPC error object
    │   ├── ParseError           parse_error          the bytes are not JSON
    │   ├── InvalidRequest       invalid_request      JSON, but no JSON-RPC 2.0 request
    │   ├── MethodNotFound       method_not_found     no such method, with the nearest names
    │   ├── InvalidParams        invalid_params       arguments do not fit, with a path
    │   ├── Internal             internal             our bug; only an incident id is told
    │   ├── Unauthenticated      unauthenticated      who are you?
    │   ├── Forbidden            forbidden            a scope is missing
    │   ├── NotFound             not_found            the thing named does not exist (for this caller)
    │   ├── Conflict             conflict             name taken, busy, stale version
    │   ├── TooLarge             too_large            over a size limit
    │   ├── RateLimited          rate_limited         too often, with `retry_after_s`
    │   ├── CallCancelled        cancelled            stopped on request
    │   ├── Unavailable          unavailable          cannot be served now
    │   │   ├── StorageFull      storage_full         no room left on the disk
    │   │   └── ServerRestarted  server_restarted     the server ended before the run did
    │   └── DeadlineExceeded     deadline_exceeded    out of time
    ├── ActivationError          the plugin author's fault
    │   ├── SchemaError          a signature has no schema
    │   └── PluginError          a package could not be loaded
    ├── ConfigError              the operator's fault: file, line, path and what is allowed
    └── StorageError             the database does not do what it must
        └── ConstraintViolation  a row is refused by a constraint: a name is taken, a reference hangs

Activations subclass the leaves of `CallError` with a kind of their own (`claudecode.session_busy`). The number on the
wire belongs to the leaf and stands in one table, `wire/error_codes.py`. Anything that is no `CallError` is a bug: the
caller is told an incident id, the log has the rest.
"""

from collections.abc import Sequence
from typing import Any, ClassVar


class ClonkError(Exception):
    """Base of everything below."""


class CallError(ClonkError):
    """The caller can mend it, or may at least see it.

    Attributes:
        kind: Stable name that programs act on.
        message: One sentence for a person, with the way out.
        data: Further members of the error object's `data`, JSON values only; `kind` is added on the wire.
    """

    kind: ClassVar[str] = "call_error"

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data: dict[str, Any] = data


class ParseError(CallError):
    """The bytes are not JSON (JSON-RPC 2.0, section 5.1)."""

    kind = "parse_error"


class InvalidRequest(CallError):
    """JSON, but not a JSON-RPC 2.0 request object."""

    kind = "invalid_request"


class MethodNotFound(CallError):
    """No method of that name.

    Args:
        method: The name that was asked for.
        near: Names that look like it, best first.

    Attributes:
        method, near: The same.
    """

    kind = "method_not_found"

    def __init__(self, method: str, near: Sequence[str] = ()) -> None:
        hint = f"did you mean {', '.join(near)}? " if near else ""
        shown = method if len(method) <= 100 else method[:100] + "…"
        super().__init__(f"no method named {shown!r}; {hint}`rpc.discover` lists all", method=shown, near=list(near))
        self.method = method
        self.near = tuple(near)


class InvalidParams(CallError):
    """The arguments do not fit the method's signature.

    Args:
        message: What is wrong and what is allowed, without method and path.
        path: Where, as a JSONPath such as `$.name` or `$.items[2]`.
        method: The method called, when known.
    """

    kind = "invalid_params"

    def __init__(self, message: str, *, path: str = "$", method: str | None = None) -> None:
        where = path.removeprefix("$").removeprefix(".")
        text = ": ".join(part for part in (method, where, message) if part)
        super().__init__(text, path=path, **({"method": method} if method else {}))
        self.detail = message
        self.path = path
        self.method = method

    def named(self, method: str) -> "InvalidParams":
        """Return the same error naming the method."""
        return InvalidParams(self.detail, path=self.path, method=method)


class Internal(CallError):
    """A bug, Clonk's or a plugin's. The log has the traceback under `data.incident`; the caller gets nothing else."""

    kind = "internal"

    def __init__(self, incident: str) -> None:
        super().__init__(f"internal error; the server's log has it as incident {incident}", incident=incident)


class Unauthenticated(CallError):
    """The caller is not known."""

    kind = "unauthenticated"


class Forbidden(CallError):
    """The caller is known and lacks a scope, named in `data.scope`."""

    kind = "forbidden"


class NotFound(CallError):
    """The thing named does not exist, or not for this caller."""

    kind = "not_found"


class Conflict(CallError):
    """The state forbids it: a name is taken, a session is busy, a version is stale."""

    kind = "conflict"


class TooLarge(CallError):
    """Over a size limit; `data.limit` says which."""

    kind = "too_large"


class RateLimited(CallError):
    """Too often; come back after `data.retry_after_s` seconds."""

    kind = "rate_limited"


class CallCancelled(CallError):
    """Stopped because the caller asked for it."""

    kind = "cancelled"


class Unavailable(CallError):
    """Cannot be served now: shutting down, activation not loaded, binary missing."""

    kind = "unavailable"


class StorageFull(Unavailable):
    """The disk has no room left; nothing of this call was kept."""

    kind = "storage_full"


class ServerRestarted(Unavailable):
    """The server ended before the run did; what it had shown until then is kept."""

    kind = "server_restarted"


class DeadlineExceeded(CallError):
    """The call's time was up."""

    kind = "deadline_exceeded"


class ActivationError(ClonkError):
    """The plugin author's fault; the operator sees it in `hub.plugins` and the log."""


class SchemaError(ActivationError):
    """A signature has no schema.

    Args:
        place: Where, such as `dice.roll(sides)` or `Roll.value`.
        reason: What is there and what would be allowed.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


class PluginError(ActivationError):
    """A package could not be loaded."""


class ConfigError(ClonkError):
    """The configuration is wrong; the text has one problem a line, each with its place and what is allowed."""


class StorageError(ClonkError):
    """The database does not do what it must: corrupt, newer than this program, locked by another."""


class ConstraintViolation(StorageError):
    """A row is refused by a constraint of its table. Packages turn it into an error of their own (name taken).

    Attributes:
        constraint: The database's own words, such as `UNIQUE constraint failed: trees.name`.
    """

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint
