"""Grouped writes: who leads, and who takes over."""

from collections.abc import Sequence

import trio
from trio.testing import wait_all_tasks_blocked

from clonk_core.storage.group_commit import GroupCommit, Job


async def test_a_writer_cancelled_as_it_is_given_the_lead_hands_it_on() -> None:
    at_work, go_on = trio.Event(), trio.Event()
    cancelled = trio.CancelScope()

    async def commit(jobs: Sequence[Job]) -> None:
        at_work.set()
        await go_on.wait()
        cancelled.cancel()  # in the same round in which the lead passes on to whoever waits
        for job in jobs:
            job.result = "written"

    grouped = GroupCommit(commit)

    async def give_up() -> None:
        with cancelled:
            await grouped.write(lambda _: None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(grouped.write, lambda _: None)
        await at_work.wait()
        nursery.start_soon(give_up)
        await wait_all_tasks_blocked()
        go_on.set()
    assert cancelled.cancelled_caught
    with trio.fail_after(5):
        assert await grouped.write(lambda _: None) == "written"
