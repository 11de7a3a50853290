"""How much: takes from the limits of the caller, of its tenant, and of an address that has not said who it is."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NoReturn

from clonk_core.config.auth_settings import AuthSettings
from clonk_core.errors import RateLimited
from clonk_core.gateway.authenticate import Grant
from clonk_core.gateway.failures import network_of
from clonk_core.gateway.keys import Allowance, allowance
from clonk_core.gateway.rate_limit import Limiter, Taken, parse_rate
from clonk_core.interfaces.door import Connection
from clonk_core.messages import Caller, Quota

MAX_QUOTAS: Final = 100_000
"""Callers whose last quota is remembered, for `auth.whoami`."""

CountRuns = Callable[[str | None], int]
"""Tells how many runs of a caller are going on, or of the whole tenant with None."""


class Admission:
    """Lets in as much as is allowed.

    Args:
        settings: The limits of tenants and of strangers; those of keys come with the grant.
        limiter: Where the buckets are.
        refused: Told each refusal, by kind: `calls`, `bytes`, `runs`, `stranger`.
    """

    def __init__(self, settings: AuthSettings, limiter: Limiter, refused: Callable[[str], None]) -> None:
        self._limiter = limiter
        self._refused = refused
        self._strangers = None if settings.stranger_limit is None else parse_rate(settings.stranger_limit)
        self._tenants: Mapping[str, Allowance] = {
            one.tenant: allowance(one.rate_limit, one.burst, one.bytes_limit, one.max_runs)
            for one in settings.tenant_limits
        }
        self._quotas: dict[tuple[str, str], Quota] = {}
        self._starting: Counter[tuple[str, str | None]] = Counter()

    async def stranger(self, connection: Connection) -> None:
        """Take one request from an address's limit.

        Raises:
            RateLimited: It had too many.
        """
        if self._strangers is None:
            return
        taken = await self._limiter.take(f"stranger:{network_of(connection.address)}", self._strangers)
        connection.quota = taken.quota
        if not taken.ok:
            self._refuse("stranger", "too many requests without a credential from your address", taken.retry_after_s)

    def is_limited(self, grant: Grant) -> bool:
        """Tell whether any limit of calls or bytes holds for a caller."""
        own = grant.allowance
        return own.calls is not None or own.data is not None or bool(self._tenants)

    async def call(self, grant: Grant, connection: Connection, size: int) -> None:
        """Take one call and its bytes from the caller's limits, then from its tenant's.

        Raises:
            RateLimited: There is not enough left; `data.retry_after_s` says when there is.
        """
        caller = grant.caller
        own = grant.allowance
        connection.quota = None
        await self._take(f"key:{caller.tenant}:{caller.id}", "your", own, size, connection)
        shared = self._tenants.get(caller.tenant)
        if shared is not None:
            await self._take(f"tenant:{caller.tenant}", "your tenant's", shared, size, connection)
        self._remember(caller, connection.quota)

    def _remember(self, caller: Caller, quota: Quota | None) -> None:
        if quota is None:
            return
        self._quotas[caller.tenant, caller.id] = quota
        if len(self._quotas) > MAX_QUOTAS:
            del self._quotas[next(iter(self._quotas))]

    def quota(self, caller: Caller) -> Quota | None:
        """Return what was left after a caller's last call, None for one without a limit."""
        return self._quotas.get((caller.tenant, caller.id))

    async def _take(self, name: str, whose: str, limits: Allowance, size: int, connection: Connection) -> None:
        if limits.data is not None and size:
            taken = await self._limiter.take(f"bytes:{name}", limits.data, size, may_owe=True)
            if not taken.ok:
                self._refuse("bytes", f"{whose} limit of bytes is used up", taken.retry_after_s)
        if limits.calls is None:
            return
        taken = await self._limiter.take(f"calls:{name}", limits.calls)
        connection.quota = _less(connection.quota, taken.quota)
        if not taken.ok:
            self._refuse("calls", f"{whose} limit of calls is used up", taken.retry_after_s, taken)

    @contextmanager
    def run(self, grant: Grant, count: CountRuns) -> Iterator[None]:
        """Hold a place for a run that is being started, so that two at once do not both take the last one.

        Raises:
            RateLimited: As many are going on as may.
        """
        caller = grant.caller
        held: list[tuple[str, str | None]] = []
        try:
            for limits, who, whose in self._limits_of_runs(grant.allowance, caller):
                going_on = count(who) + self._starting[caller.tenant, who]
                if limits.max_runs is not None and going_on >= limits.max_runs:
                    self._refuse("runs", f"{whose} limit of {limits.max_runs} runs at the same time is reached", 1.0)
                self._starting[caller.tenant, who] += 1
                held.append((caller.tenant, who))
            yield
        finally:
            for place in held:
                self._starting[place] -= 1
                if not self._starting[place]:
                    del self._starting[place]

    def _limits_of_runs(self, own: Allowance, caller: Caller) -> Iterator[tuple[Allowance, str | None, str]]:
        if own.max_runs is not None:
            yield own, caller.id, "your"
        shared = self._tenants.get(caller.tenant)
        if shared is not None and shared.max_runs is not None:
            yield shared, None, "your tenant's"

    def _refuse(self, kind: str, text: str, retry_after_s: float, taken: Taken | None = None) -> NoReturn:
        self._refused(kind)
        seconds = max(0.001, round(retry_after_s, 3))
        more = {} if taken is None else {"limit": taken.quota.limit, "span_s": taken.quota.span_s}
        raise RateLimited(f"{text}; try again in {seconds:g} s", retry_after_s=seconds, limit_of=kind, **more)


def _less(one: Quota | None, other: Quota | None) -> Quota | None:
    """Return the quota with less left."""
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda quota: quota.remaining)
