"""A nursery that stays a secret: one error comes out as itself, not as a group of one."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_secret_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery whose group of a single error is unwrapped; cancellations beside it do not count.

    For context managers with a nursery inside, whose users know nothing of it: what they raise in the body, they get.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        leaves = [leaf for leaf in _leaves(group) if not isinstance(leaf, trio.Cancelled)]
        if len(leaves) != 1:
            raise
        # Its own cause and traceback stay; the group's frames say nothing of use.
        raise leaves[0] from leaves[0].__cause__


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
