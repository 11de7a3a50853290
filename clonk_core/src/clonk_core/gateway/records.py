"""What became of each call: in the audit log before the answer leaves, in the metrics, and in the log."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Literal, Protocol

import attrs
import trio

from clonk_core.errors import CallError, ClonkError, StorageFull, Unavailable
from clonk_core.gateway.rate_limit import Limiter, Rate
from clonk_core.gateway_messages import AuditEntry
from clonk_core.interfaces.door import Connection
from clonk_core.interfaces.host import Log
from clonk_core.interfaces.keeping import AuditWriter
from clonk_core.interfaces.runs import Following
from clonk_core.messages import STRANGER, JsonValue, Request
from clonk_core.methods import Method

if TYPE_CHECKING:
    from clonk_core.gateway.dispatch import CallNotes

_SHOWN_CHARACTERS: Final = 100
"""Of a method's name: one that is not there may be as long as a message."""

_REFUSALS: Final = Rate(600, 60.0, 600)
"""Refused credentials that are written down: a flood of them, from however many addresses, must not fill the disk. The
metrics count all."""

BEGUN: Final = "begun"
"""Outcome of a call that is let in and not done yet."""

WRITE_WITHIN_S: Final = 10.0
"""Longest time that an entry may take to be written after its call was cancelled."""

ShowParams = Callable[[Method, JsonValue], JsonValue]
"""Gives a call's arguments as they are written down: shortened, secrets masked."""


class Counters(Protocol):
    """What the gateway counts."""

    def call_ended(self, method: str, outcome: str, duration_s: float) -> None: ...

    def authentication_failed(self, reason: str) -> None: ...

    def rate_limited(self, kind: str) -> None: ...


class Records:
    """Writes down what happens at the door.

    Args:
        audit: The audit log; None when it is off.
        show_params: Gives arguments as they may be written down.
        counters: The metrics; None when they are off.
        limiter: Bounds how many refusals are written down.
        log: Where calls are told.
        requests: Which calls are told.
        audit_required: Whether calls that change something are written down before they are done, too.
    """

    def __init__(
        self,
        audit: AuditWriter | None,
        show_params: ShowParams,
        counters: Counters | None,
        limiter: Limiter,
        log: Log,
        *,
        requests: Literal["all", "failed", "none"] = "all",
        audit_required: bool = False,
    ) -> None:
        self._audit = audit
        self._show_params = show_params
        self._counters = counters
        self._limiter = limiter
        self._log = log
        self._requests = requests
        self._audit_required = audit_required
        # Whether the last row was not kept: until one is, nothing is changed that could not be written down.
        self._row_lost = False

    def begin(
        self, request: Request, connection: Connection, call_id: str, notes: "CallNotes"
    ) -> Awaitable[None] | None:
        """Write down a call that is let in, before it is done, where it must not be done otherwise.

        That is so for calls that change something when the configuration asks for it, and after a row was lost. Not for
        those that need no scope: whoever stops its own run on a full disk shall be able to. Return what is to be
        awaited for it, if anything.

        Raises:
            StorageFull, Unavailable: It cannot be written down.
        """
        method = notes.method
        if self._audit is None or method is None or method.read_only or method.public:
            return None
        if not (self._audit_required or self._row_lost) or connection.caller is None:
            return None
        begun = attrs.evolve(notes, outcome=BEGUN)
        return self._begin(attrs.evolve(self._entry(request, connection, call_id, begun), duration_ms=None))

    async def _begin(self, entry: AuditEntry) -> None:
        error = await self._lost(entry)
        if error is not None:
            raise _not_recorded(error) from error

    def call(
        self, request: Request, connection: Connection, call_id: str, notes: "CallNotes"
    ) -> Awaitable[None] | None:
        """Write down a call that has ended; a cancelled one too. Return what is to be awaited for that, if anything.

        Raises:
            StorageFull, Unavailable: It cannot be written down, and it was none that only reads: it is not answered.
        """
        method = notes.method
        if self._counters is not None:
            self._counters.call_ended(method.name if method else "unknown", notes.outcome, notes.duration_s)
        if self._requests == "all" or (self._requests == "failed" and notes.outcome != "ok"):
            self._tell(request, connection, notes)
        # Strangers' calls are no entries: what they may do is harmless, and what they may not is refused and counted.
        if self._audit is None or connection.caller is None or connection.caller.kind == "stranger":
            return None
        return self._keep(self._entry(request, connection, call_id, notes), notes)

    async def _keep(self, entry: AuditEntry, notes: "CallNotes") -> None:
        if notes.outcome == "cancelled":
            with trio.move_on_after(WRITE_WITHIN_S, shield=True):
                await self._write(entry, notes)
        else:
            await self._write(entry, notes)

    def _tell(self, request: Request, connection: Connection, notes: "CallNotes") -> None:
        self._log.info(
            "request",
            method=request.method[:_SHOWN_CHARACTERS],
            caller=connection.caller.id if connection.caller else None,
            transport=connection.transport,
            peer=connection.peer,
            outcome=notes.outcome,
            duration_ms=round(notes.duration_s * 1000, 3),
        )

    async def refused(self, reason: str, connection: Connection) -> None:
        """Write down a credential that was refused."""
        if self._counters is not None:
            self._counters.authentication_failed(reason)
        self._log.info("credential refused", reason=reason, peer=connection.peer, transport=connection.transport)
        if self._audit is None or not (await self._limiter.take("audit:refusals", _REFUSALS)).ok:
            return
        entry = AuditEntry(
            kind="auth",
            caller=connection.caller or STRANGER,
            action="auth.authenticate",
            outcome="unauthenticated",
            transport=connection.transport,
            peer=connection.peer,
            detail={"reason": reason},
        )
        await self._lost(entry)

    def _entry(self, request: Request, connection: Connection, call_id: str, notes: "CallNotes") -> AuditEntry:
        assert connection.caller is not None  # noqa: S101  (looked at by `call`)
        method, answer = notes.method, notes.answer
        return AuditEntry(
            kind="call",
            caller=connection.caller,
            action=request.method[:_SHOWN_CHARACTERS],
            target=None if notes.target is None else notes.target[:_SHOWN_CHARACTERS],
            outcome=notes.outcome,
            transport=connection.transport,
            peer=connection.peer,
            duration_ms=round(notes.duration_s * 1000, 3),
            request_bytes=request.size,
            answer_bytes=None if answer is None or isinstance(answer, Following) else len(answer.result),
            run_id=answer.run.id if isinstance(answer, Following) else connection.run_id,
            request_id=call_id,
            detail={} if method is None else {"params": self._show_params(method, request.params)},
        )

    async def _write(self, entry: AuditEntry, notes: "CallNotes") -> None:
        error = await self._lost(entry)
        if error is None or notes.answer is None or (notes.method is not None and notes.method.read_only):
            return
        if isinstance(notes.answer, Following) and notes.answer.after == 0:
            await notes.answer.run.stop("cancelled")
        raise _not_recorded(error) from error

    async def _lost(self, entry: AuditEntry) -> ClonkError | None:
        """Write an entry; return why it was not kept, None when it was."""
        assert self._audit is not None  # noqa: S101  (looked at by whoever makes entries)
        try:
            await self._audit.write(entry)
        except ClonkError as error:
            self._row_lost = True
            self._log.error("audit entry lost", action=entry.action, outcome=entry.outcome, error=str(error))
            return error
        self._row_lost = False
        return None


def _not_recorded(error: ClonkError) -> CallError:
    if isinstance(error, StorageFull):
        return StorageFull("the call cannot be written into the audit log: the disk is full")
    return Unavailable("the call cannot be written into the audit log; the server's log says why")
