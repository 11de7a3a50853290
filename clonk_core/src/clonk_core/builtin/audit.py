"""`audit`: who did what, from where, and what came of it."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Final

import attrs

from clonk_core.gateway_messages import AuditFilters, AuditReport, AuditRow
from clonk_core.interfaces.hub import Hub
from clonk_core.messages import AuditKind, Caller
from clonk_core.plugin import Activation, Call, Ge, InvalidParams, Le, MaxLen, Unavailable, method

Name = Annotated[str, MaxLen(200)]
Number = Annotated[int, Ge(0), Le(2**53)]

OPERATORS_TENANT: Final = "default"
"""Whose callers see all tenants' rows when they may do everything."""


class Audit(Activation):
    """Who did what, from where, and what came of it. A caller sees what was done in its own tenant."""

    namespace = "audit"
    version = "1.0.0"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @method(scope="read", read_only=True, idempotent=True, errors=[InvalidParams, Unavailable])
    async def query(
        self,
        call: Call,
        caller: Name | None = None,
        kind: AuditKind | None = None,
        action: Name | None = None,
        target: Name | None = None,
        outcome: Name | None = None,
        run_id: Name | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant: Name | None = None,
        limit: Annotated[int, Ge(1), Le(1000)] = 100,
        before: Number | None = None,
        after: Number | None = None,
    ) -> tuple[AuditRow, ...]:
        """Return rows of the audit log, newest first; with `after`, oldest first.

        Args:
            caller: Only what this caller did.
            kind: Only rows of this kind.
            action: Only this method or tool; with a `*` at the end, all that begin so: `claudecode.*`.
            target: Only what was about this, such as a session's name.
            outcome: Only what came to this: `ok`, or an error's kind.
            run_id: Only what belongs to this run (`sub_...`).
            since: Not before this time.
            until: Before this time.
            tenant: Only this tenant's; a caller that does not see all of them finds nothing of another.
            limit: At most this many.
            before: Only rows with a lower number: the last one of the page before.
            after: Only rows with a higher number: the last one of the page before. Not together with `before`.
        """
        filters = AuditFilters(
            caller=caller,
            kind=kind,
            action=action,
            target=target,
            outcome=outcome,
            run_id=run_id,
            since=since,
            until=until,
            tenant=tenant,
        )
        allowed = _allowed(filters, call.caller)
        if tenant not in (None, allowed.tenant):
            return ()
        return tuple(await self._hub.audit.query(allowed, limit=limit, before=before, after=after))

    @method(scope="read", read_only=True, errors=[Unavailable])
    async def follow(
        self,
        call: Call,
        after: Number | None = None,
        caller: Name | None = None,
        kind: AuditKind | None = None,
        action: Name | None = None,
        target: Name | None = None,
    ) -> AsyncIterator[AuditRow]:
        """Show rows of the audit log as they are written.

        Args:
            after: Begin behind the row of this number, 0 for the oldest; with what comes from now on when left out.
            caller: Only what this caller did.
            kind: Only rows of this kind.
            action: Only this method or tool; with a `*` at the end, all that begin so.
            target: Only what was about this.
        """
        filters = AuditFilters(caller=caller, kind=kind, action=action, target=target)
        return self._hub.audit.follow(_allowed(filters, call.caller), after=after)

    @method(scope="read", read_only=True, idempotent=True, deadline_s=3600, errors=[InvalidParams, Unavailable])
    async def verify(self, head: Annotated[str, MaxLen(100)] | None = None) -> AuditReport:
        """Check that no row of the audit log was changed, taken out or put elsewhere.

        That the newest rows were cut off can only be told by a head that was noted earlier and kept elsewhere. The log
        is one for all tenants, and all of it is checked; nothing of the rows is shown.

        Args:
            head: A `head` that an earlier check answered; it must still be in the log.
        """
        return await self._hub.audit.verify(expect_head=head)


def _sees_all(caller: Caller) -> bool:
    """Tell whether a caller sees every tenant's rows: the operator does."""
    return caller.kind == "local" or (caller.tenant == OPERATORS_TENANT and "*" in caller.scopes)


def _allowed(filters: AuditFilters, caller: Caller) -> AuditFilters:
    return filters if _sees_all(caller) else attrs.evolve(filters, tenant=caller.tenant)
