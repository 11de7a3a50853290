"""Budgets: how much a tenant, and each caller, may spend in a time; the turn after the last of it is refused."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from clonk_claudecode.clock import now
from clonk_claudecode.errors import BudgetExhausted
from clonk_claudecode.metering.messages import BudgetState
from clonk_claudecode.settings import Budget, BudgetSettings, Period
from clonk_claudecode.store import usage_rows
from clonk_core.plugin import Database

EVER: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class Budgets:
    """What may be spent. What running turns spend is not known yet, so that those may go beyond a budget.

    Args:
        settings: What the configuration says.
        database: Holds what was spent.
    """

    def __init__(self, settings: BudgetSettings, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def check(self, caller: str) -> None:
        """See that a caller may spend more.

        Raises:
            BudgetExhausted: Theirs or their tenant's is used up.
        """
        for state in await self.states(caller):
            if state.exhausted:
                raise BudgetExhausted(state.of, state.period, state.resets_at, now())

    async def states(self, caller: str) -> tuple[BudgetState, ...]:
        """Return the budgets that hold for a caller; for a token of `claudecode.share` those of who gave it out."""
        moment = now()
        payer = await self._database.read(usage_rows.payer_of, caller)
        return tuple([await self._state(of, budget, moment) for of, budget in self._of(payer)])

    def _of(self, caller: str) -> Iterator[tuple[str, Budget]]:
        if self._settings.tenant is not None:
            yield "tenant", self._settings.tenant
        own = self._settings.callers.get(caller, self._settings.each_caller)
        if own is not None:
            yield caller, own

    async def _state(self, of: str, budget: Budget, moment: datetime) -> BudgetState:
        since, resets_at = period_around(moment, budget.period)
        cost, tokens = await self._database.read(usage_rows.spent, since, None if of == "tenant" else of)
        used_up = (budget.cost_usd is not None and cost >= budget.cost_usd) or (
            budget.tokens is not None and tokens >= budget.tokens
        )
        return BudgetState(
            of=of,
            period=budget.period,
            resets_at=resets_at,
            limit_usd=budget.cost_usd,
            spent_usd=cost,
            limit_tokens=budget.tokens,
            spent_tokens=tokens,
            exhausted=used_up,
        )


def period_around(moment: datetime, period: Period) -> tuple[datetime, datetime | None]:
    """Return the beginning of the period that a moment lies in, and that of the next one; None when there is none.

    Args:
        moment: In UTC.
        period: Days and months are those of UTC.
    """
    if period == "ever":
        return EVER, None
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return day, day + timedelta(days=1)
    month = day.replace(day=1)
    return month, (month + timedelta(days=32)).replace(day=1)
