"""How long to wait before coming back to a server that is gone."""

import random
from typing import Final

import trio

RETRIES: Final = 10
"""Attempts in a row before giving up: about 25 s, in which a server is restarted."""

_FIRST_S: Final = 0.1
_LONGEST_S: Final = 5.0


class Backoff:
    """Counts attempts in a row.

    Args:
        retries: How many are made.
    """

    def __init__(self, retries: int = RETRIES) -> None:
        self._retries = retries
        self._made = 0

    def succeeded(self) -> None:
        """Begin to count anew: something was heard."""
        self._made = 0

    async def wait(self) -> bool:
        """Wait until the next attempt is due; tell whether there is one. The first is due at once."""
        if self._made >= self._retries:
            return False
        if self._made:
            longest_s = min(_FIRST_S * 2**self._made, _LONGEST_S)
            await trio.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311  (so that clients do not come in step)
        self._made += 1
        return True
