"""Two gits at the same time: one that reads what the other writes, or each for itself."""

import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from clonk_gitsync.git.process import Done, GitFailed

A = TypeVar("A")
B = TypeVar("B")


async def pipe(write: Callable[[int], Awaitable[Done]], read: Callable[[int], Awaitable[Done]]) -> None:
    """Let one git read what another writes.

    Raises:
        GitFailed: One of them failed; the writer's failure explains the reader's.
    """
    reading, writing = os.pipe()
    failures: list[GitFailed] = []

    async def hold(start: Callable[[int], Awaitable[Done]], descriptor: int) -> None:
        try:
            await start(descriptor)
        except GitFailed as error:
            failures.append(error)
        finally:
            os.close(descriptor)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, write, writing)
        nursery.start_soon(hold, read, reading)
    if failures:
        raise failures[0]


async def both(one: Callable[[], Awaitable[A]], other: Callable[[], Awaitable[B]]) -> tuple[A, B]:
    """Do two things at the same time. When one fails, the other is ended, and its failure is raised by itself."""
    first: list[A] = []
    second: list[B] = []
    failures: list[Exception] = []

    async with trio.open_nursery() as nursery:

        async def hold() -> None:
            try:
                second.append(await other())
            except Exception as error:  # noqa: BLE001 - raised again below, by itself
                failures.append(error)
                nursery.cancel_scope.cancel()

        nursery.start_soon(hold)
        try:
            first.append(await one())
        except Exception as error:  # noqa: BLE001 - raised again below, by itself
            failures.append(error)
            nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return first[0], second[0]
