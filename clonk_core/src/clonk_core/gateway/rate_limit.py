"""How often: token buckets, in memory here, behind an interface that a store shared by several servers can fill.

A bucket holds up to `burst` tokens and is filled at the rate's pace; a call takes one. So `100/min` lets a hundred
calls through at once after a quiet minute, and then one every 0.6 s.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

import attrs
import trio

from clonk_core.messages import Quota

_SPANS_S: Final = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86_400.0}
_UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_RATE: Final = re.compile(r"([1-9][0-9]{0,8})(KiB|MiB|GiB|)/(s|min|h|day)")

MAX_BUCKETS: Final = 100_000
"""Buckets that are kept, of 200 bytes each. Those not used for longest are let go, and are full if they return."""


@attrs.frozen
class Rate:
    """So much in so long.

    Attributes:
        amount: Calls, or bytes.
        span_s: In this many seconds.
        burst: Most at once.
    """

    amount: int
    span_s: float
    burst: int

    @property
    def per_s(self) -> float:
        """Tokens that come back in a second."""
        return self.amount / self.span_s


def parse_rate(text: str, burst: int | None = None) -> Rate:
    """Read `100/min`, `10/s`, `50MiB/h`.

    Args:
        text: What the configuration says.
        burst: Most at once; as many as in one span when None.

    Raises:
        ValueError: It is no rate.
    """
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no rate such as 100/min, 10/s or 50MiB/h; spans are s, min, h and day")
    amount = int(found[1]) * _UNITS[found[2]]
    return Rate(amount, _SPANS_S[found[3]], burst or amount)


@attrs.frozen
class Taken:
    """What came of taking.

    Attributes:
        ok: Whether there was enough.
        retry_after_s: When there will be, in seconds; 0 when there was.
        quota: What is left.
    """

    ok: bool
    retry_after_s: float
    quota: Quota


class Limiter(Protocol):
    """Where the buckets are."""

    async def take(self, name: str, rate: Rate, amount: int = 1, *, may_owe: bool = False) -> Taken:
        """Take from the bucket `name`, which is full when it is new.

        Args:
            name: Which bucket: `calls:key:ci`.
            rate: How it is filled.
            amount: How much to take; nothing is taken when there is not enough.
            may_owe: Take all of it when there is anything at all, and owe the rest: for bytes, which have come already.
        """


class MemoryLimiter:
    """Buckets of this process.

    Args:
        clock: Gives a time in seconds that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, list[float]] = OrderedDict()

    async def take(self, name: str, rate: Rate, amount: int = 1, *, may_owe: bool = False) -> Taken:
        """Take from a bucket; see `Limiter`."""
        now = self._clock()
        per_s = rate.per_s
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = [float(rate.burst), now]
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
            bucket[0] = min(float(rate.burst), bucket[0] + max(0.0, now - bucket[1]) * per_s)
            bucket[1] = now
        needed = 1e-9 if may_owe else amount - 1e-9  # sums of fractions are not exact
        ok = bucket[0] >= needed
        if ok:
            bucket[0] -= amount
        missing = max(0.0, (1 if may_owe else amount) - bucket[0])
        quota = Quota(
            limit=rate.amount,
            span_s=rate.span_s,
            remaining=max(0, int(bucket[0] + 1e-9)),
            reset_s=(rate.burst - bucket[0]) / per_s,
        )
        return Taken(ok, 0.0 if ok else missing / per_s, quota)
