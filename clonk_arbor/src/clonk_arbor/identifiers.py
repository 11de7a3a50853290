"""Ids of many nodes at once: one new id, and numbers in place of its last digits."""

from collections.abc import Iterator
from typing import Final

from clonk_core.plugin import new_id

_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = tuple(first + second for first in _DIGITS for second in _DIGITS)

_NUMBERED: Final = 1 << 20
"""Ids that share a beginning: 54 random bits are left in it, besides the time."""


def node_ids(count: int) -> Iterator[str]:
    """Give new ids that sort in their order; a tenth of the cost of `new_id` for each."""
    beginning = ""
    for number in range(count):
        low = number % _NUMBERED
        if low == 0:
            beginning = new_id("node")[:-4]
        yield beginning + _PAIRS[low >> 10] + _PAIRS[low & 1023]
