"""What travels between the rooms: frozen messages without behaviour."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, Literal, TypeAlias, TypeVar

import attrs

from clonk_core.names import scope_allows, scopes_in_both


class AnyJson:
    """Marks a type whose schema is "any JSON value"."""


JsonValue: TypeAlias = Annotated[Any, AnyJson()]
"""Any JSON value: None, bool, int, float, str, list or dict with string keys."""

Shape = TypeVar("Shape")


class Written(Generic[Shape]):
    """A part of a result whose JSON text is known already, and goes out as it is.

    For much that is stored as JSON: to parse it, build objects and write them again costs several times more. It is
    annotated by what a reader finds in it, `Written[tuple[Entry, ...]]`; that is its schema. Only results and events
    hold it; no parameter does.

    Args:
        text: One whole JSON text (RFC 8259), which nobody checks any more.

    Raises:
        ValueError: There is a line end in it: messages are told from each other by these.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        if "\n" in text or "\r" in text:
            raise ValueError("a JSON text that is sent as it is must have no line ends")
        self.text = text


Outcome: TypeAlias = Literal["complete", "cancelled", "refused", "limited", "failed"]
"""How a run ended."""

StopReason: TypeAlias = Literal["cancelled", "limited", "shutdown", "reader_gone"]
"""Why a run is asked to stop: on request, out of time, the server ends, nobody reads a run that is not durable."""


CallerKind: TypeAlias = Literal["local", "service", "key", "token", "session", "stranger"]
"""How a caller is known."""

AuditKind: TypeAlias = Literal["call", "tool", "auth", "key", "secret", "system"]
"""What a row of the audit log is about."""


class _NotGiven:
    """The id of a notification: no id at all (null is an id)."""

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = _NotGiven()


@attrs.frozen(kw_only=True)
class Request:
    """One JSON-RPC 2.0 request.

    Attributes:
        method: Dotted name, as sent.
        params: Named (a mapping) or positional (a sequence) arguments; None when left out.
        id: String, number or None as sent; `NOT_GIVEN` makes it a notification.
        size: Bytes of the message it came in; in a batch its share of them.
        plain_only: Answer `invalid_request` instead of starting a streaming method: there is no room for its events.
    """

    method: str
    params: Mapping[str, JsonValue] | Sequence[JsonValue] | None = None
    id: object = NOT_GIVEN
    size: int = 0
    plain_only: bool = False

    @property
    def is_notification(self) -> bool:
        """Whether the sender wants no answer."""
        return self.id is NOT_GIVEN


@attrs.frozen(kw_only=True)
class Caller:
    """Who calls.

    Attributes:
        id: Stable name: a key's id, a user's (`sub` of its token), `local`, `service:<package>`.
        kind: `local` for the operator's own machine, `service` for an activation's background work, `key` for an API
            key, `token` for a token of an identity provider, `session` for a tool that a Claude Code session uses in
            its owner's name, `stranger` for one who has not said who it is.
        tenant: Whose realm the caller lives in.
        scopes: What the caller may do; `*` is everything; `claudecode:chat@ci-*` is narrowed to some targets.
    """

    id: str
    kind: CallerKind = "local"
    tenant: str = "default"
    scopes: frozenset[str] = frozenset()

    def may(self, scope: str, target: str | None = None) -> bool:
        """Tell whether the caller's scopes cover `scope`, for `target` where they are narrowed."""
        return scope_allows(self.scopes, scope, target)

    def limited_to(self, scopes: frozenset[str]) -> "Caller":
        """Return the same caller with what its scopes and the given ones both allow, and no more."""
        return attrs.evolve(self, scopes=scopes_in_both(self.scopes, scopes))


@attrs.frozen(kw_only=True)
class Identity:
    """Whose credential it is, as a plugin's `clonk_credentials` has found out.

    Attributes:
        subject: Stable name, 1 to 200 printable characters. Calls, runs and audit rows name the caller
            `plugin:<plugin>:<subject>`.
        scopes: What it may do: `("claudecode:chat@ci-*", "arbor:read")`. What is no scope is left out.
        expires_at: When the credential is over, with its zone. Until then an open connection goes on without asking
            again; so it is also how long one that was taken back stays good there.
    """

    subject: str
    scopes: Sequence[str]
    expires_at: datetime


LOCAL_CALLER: Final = Caller(id="local", scopes=frozenset({"*"}))
"""The one who sits at the machine: the process's own stdio, and whoever reaches the loopback without authentication."""

STRANGER: Final = Caller(id="stranger", kind="stranger")
"""One who has not said who it is."""


@attrs.frozen(kw_only=True)
class Quota:
    """What is left of a rate limit.

    Attributes:
        limit: Calls in a span of time.
        span_s: That span, in seconds.
        remaining: Calls that may be made now.
        reset_s: Seconds until all of them may be made again.
    """

    limit: int
    span_s: float
    remaining: int
    reset_s: float


async def _no_progress(done: float, total: float | None, message: str | None) -> None:
    """Drop a report of progress that nobody asked for."""


def _no_stop(handler: Callable[[StopReason], None]) -> None:
    """Forget a stop handler: a plain call is stopped by cancellation."""


@attrs.frozen(kw_only=True)
class Call:
    """One call, as its activation sees it: a parameter annotated `Call` is given by the host.

    Attributes:
        id: Names this call in the log and the audit (`req_...`); for a streaming method `run_id` names its run.
        caller: Who calls.
        method: Dotted name of the method called.
        run_id: Subscription of the run (`sub_...`), None for a plain call.
    """

    id: str
    caller: Caller
    method: str
    run_id: str | None = None
    _deadline_at: float | None = attrs.field(default=None, alias="deadline_at", repr=False)
    _report: Callable[[float, float | None, str | None], Awaitable[None]] = attrs.field(
        default=_no_progress, alias="report", repr=False
    )
    _add_stop_handler: Callable[[Callable[[StopReason], None]], None] = attrs.field(
        default=_no_stop, alias="add_stop_handler", repr=False
    )
    _reaches: Callable[[str], bool] | None = attrs.field(default=None, alias="reaches", repr=False)

    @property
    def deadline(self) -> datetime | None:
        """Clock time (UTC) by which the call is stopped, None for none."""
        return None if self._deadline_at is None else datetime.fromtimestamp(self._deadline_at, UTC)

    @property
    def is_narrowed(self) -> bool:
        """Whether the caller may see some targets only, so that a method with `narrows` must look at each."""
        return self._reaches is not None

    def may_reach(self, target: str) -> bool:
        """Tell whether the caller's scopes for this method cover a target, such as a session's name.

        Always true for whoever's scopes are not narrowed, and for calls of other activations.
        """
        return self._reaches is None or self._reaches(target)

    async def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the work is: a `progress` event of a streaming method; nothing for a plain one."""
        await self._report(done, total, message)

    def on_stop(self, handler: Callable[[StopReason], None]) -> None:
        """Ask to be told before a run is stopped.

        `handler` is called once with the reason and must return at once. The method then has `streams.stop_grace_s`
        seconds to yield its last events and end; after that it is cancelled. Without a handler it is cancelled
        at once. Plain methods are always cancelled. A handler given while the run is being stopped is called at once.
        """
        self._add_stop_handler(handler)


@attrs.frozen(kw_only=True)
class Reply:
    """The answer of a plain method.

    Attributes:
        result: JSON bytes of the result.
    """

    result: bytes


@attrs.frozen
class Event:
    """One stored event of a run.

    Attributes:
        seq: Its number, from 1 without holes.
        payload: JSON bytes of what a client sees as `result`.
    """

    seq: int
    payload: bytes


@attrs.frozen(kw_only=True)
class ErrorObject:
    """A JSON-RPC error object, as it appears in answers and in the `done` event of a run that failed.

    Attributes:
        code: Number from the table of errors.
        message: One sentence for a person.
        data: `kind` and what belongs to it.
    """

    code: int
    message: str
    data: dict[str, JsonValue] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Done:
    """The last event of every run, exactly once.

    An activation may yield one as its last event, or a subclass with more members; when it does not, the host adds it.

    Attributes:
        outcome: How the run ended.
        error: What a plain call would have answered, when it did not end well.
    """

    type: Literal["done"] = "done"
    outcome: Outcome = "complete"
    error: ErrorObject | None = None
