"""Wrong credentials: counted for each address, and answered later and later."""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_network
from typing import Final

import trio

from clonk_core.gateway.keys import parsed_address

MAX_ADDRESSES: Final = 10_000
"""Addresses that are kept count of."""

FORGET_AFTER_S: Final = 600.0
"""An address that has made no mistake for so long begins anew."""

FREE: Final = 3
"""Mistakes that are answered at once: people mistype."""

MAX_WAITING: Final = 200
"""Refusals that wait at the same time; further ones are answered at once, so that waiting costs us nothing more."""

_FIRST_DELAY_S: Final = 0.1


class Failures:
    """The mistakes of each address.

    Args:
        max_delay_s: Longest time that a refusal is held back.
        clock: Gives a time in seconds that never goes back.
    """

    def __init__(self, max_delay_s: float, clock: Callable[[], float] = trio.current_time) -> None:
        self._max_delay_s = max_delay_s
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._waiting = 0

    def count(self, address: str) -> int:
        """Note a mistake and return how many the address has made lately."""
        place, now = network_of(address), self._clock()
        count, last = self._counts.pop(place, (0, now))
        if now - last > FORGET_AFTER_S:
            count = 0
        self._counts[place] = (count + 1, now)
        if len(self._counts) > MAX_ADDRESSES:
            self._counts.popitem(last=False)
        return count + 1

    def forget(self, address: str) -> None:
        """Begin anew: the address has shown a credential that is good."""
        self._counts.pop(network_of(address), None)

    async def hold_back(self, count: int) -> None:
        """Wait before the refusal of mistake number `count` is answered."""
        if count <= FREE or self._waiting >= MAX_WAITING:
            return
        self._waiting += 1
        try:
            await trio.sleep(min(self._max_delay_s, _FIRST_DELAY_S * 2 ** min(count - FREE - 1, 16)))
        finally:
            self._waiting -= 1


def network_of(address: str) -> str:
    """Return what is counted as one: an IPv4 address; of IPv6 the /64, which one customer has to themselves."""
    found = parsed_address(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((found, 64), strict=False))
    return str(found or address)
