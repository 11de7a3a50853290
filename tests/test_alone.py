"""A test that is marked `alone` has the machine for itself, and is not kept waiting by those that come after it."""

from collections.abc import Callable
from pathlib import Path

import trio

from tests.alone import room


class Someone:
    """Who wants to be in the room, and when they were."""

    def __init__(self, folder: Path, *, alone: bool) -> None:
        self._folder, self._alone = folder, alone
        self.entered, self.may_leave = trio.Event(), trio.Event()

    async def stay(self) -> None:
        await trio.to_thread.run_sync(self._stay)

    def _stay(self) -> None:
        with room(self._folder, alone=self._alone):
            trio.from_thread.run_sync(self.entered.set)
            trio.from_thread.run(self.may_leave.wait)


async def wait_until(true: Callable[[], bool]) -> None:
    while not true():
        await trio.sleep(0.005)


def waiting(folder: Path, name: str) -> int:
    """How many wait for a lock, as the kernel lists them."""
    inode = (folder / name).stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return sum("->" in line and f":{inode} " in line for line in lines)


async def test_others_share_the_room_and_whoever_is_alone_has_it_before_those_that_come_later(tmp_path: Path) -> None:
    first, second, lonely, late = (Someone(tmp_path, alone=alone) for alone in (False, False, True, False))
    async with trio.open_nursery() as nursery:
        for someone in (first, second):
            nursery.start_soon(someone.stay)
            await someone.entered.wait()
        nursery.start_soon(lonely.stay)
        await wait_until(lambda: waiting(tmp_path, "room") == 1)
        nursery.start_soon(late.stay)
        await wait_until(lambda: waiting(tmp_path, "door") == 1)
        first.may_leave.set()
        second.may_leave.set()
        await lonely.entered.wait()
        # Let in, it would stop waiting.
        await wait_until(lambda: waiting(tmp_path, "room") + waiting(tmp_path, "door") == 1)
        assert not late.entered.is_set()
        lonely.may_leave.set()
        await late.entered.wait()
        late.may_leave.set()
