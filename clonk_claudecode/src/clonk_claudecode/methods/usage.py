"""Methods about what was spent."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import attrs

from clonk_claudecode.clock import now
from clonk_claudecode.messages import SessionName
from clonk_claudecode.metering.messages import BudgetState, Grouping, UsageSum
from clonk_claudecode.methods.base import Methods
from clonk_claudecode.store import usage_rows
from clonk_core.plugin import Call, InvalidParams, MaxLen, method

DEFAULT_SPAN: Final = timedelta(days=30)
EARLIEST: Final = datetime(1, 1, 31, tzinfo=UTC)
"""Before it there is no room for that span."""

MAX_GROUPS: Final = 10_000


class UsageMethods(Methods):
    """See what was spent, and what may be."""

    @method(scope=("usage", "read"), narrows=True, read_only=True, idempotent=True, errors=[InvalidParams])
    async def usage(
        self,
        call: Call,
        group_by: Grouping = "total",
        since: datetime | None = None,
        until: datetime | None = None,
        session: SessionName | None = None,
        caller: Annotated[str, MaxLen(200)] | None = None,
    ) -> tuple[UsageSum, ...]:
        """Return what turns have spent, added up. Turns count from their end on; deleted sessions count too.

        Args:
            group_by: What is added up together.
            since: Turns that began then or later; 30 days ago when left out.
            until: Turns that began before; now when left out.
            session: Of this session alone, by the name that it had.
            caller: Of the prompts of this caller alone: a key's id, `user:` and a subject, `local`.
        """
        end = now() + timedelta(milliseconds=1) if until is None else _in_utc(until, "$.until")
        begin = max(end, EARLIEST) - DEFAULT_SPAN if since is None else _in_utc(since, "$.since")
        if begin > end:
            raise InvalidParams("must be before `until`", path="$.since")
        rows = await self._sessions.database.read(
            usage_rows.sums,
            group_by,
            since=begin,
            until=end,
            session=session,
            caller=caller,
            # Where the database need not tell them apart: adding up many thousands here would hold up everybody else.
            by_session=call.is_narrowed,
        )
        found: dict[str, UsageSum] = {}
        for name, row in rows:
            if call.may_reach(name):
                known = found.get(row.group)
                found[row.group] = row if known is None else _added(known, row)
        if len(found) > MAX_GROUPS:
            raise InvalidParams(f"gives more than {MAX_GROUPS:,} groups; ask for a shorter time", path="$.group_by")
        return tuple(found.values())

    @method(scope=("usage", "read", "chat"), read_only=True, idempotent=True, narrows=True)
    async def budgets(self, call: Call) -> tuple[BudgetState, ...]:
        """Return the budgets that hold for the caller, and what is left of them. Empty where there are none."""
        return await self._sessions.budgets.states(call.caller.id)


def _in_utc(moment: datetime, path: str) -> datetime:
    if moment.tzinfo is None:
        raise InvalidParams("needs an offset from UTC, such as `Z`", path=path)
    return moment.astimezone(UTC)


def _added(one: UsageSum, other: UsageSum) -> UsageSum:
    numbers = [field.name for field in attrs.fields(UsageSum) if field.name != "group"]
    return attrs.evolve(one, **{name: getattr(one, name) + getattr(other, name) for name in numbers})
