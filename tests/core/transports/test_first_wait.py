"""A coroutine run in place: what it returns, raises and waits for is as with `await`; its first wait is told."""

from collections.abc import Callable

import pytest
import trio

from clonk_core.transports.first_wait import telling_first_wait

Told = list[str]


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def tell(told: Told) -> Callable[[], None]:
    return lambda: told.append("waits")


async def test_what_never_waits_is_run_to_its_end_and_nothing_is_told(told: Told, tell: Callable[[], None]) -> None:
    async def work() -> int:
        return 7

    assert await telling_first_wait(work(), tell) == 7
    assert told == []


async def test_the_first_of_many_waits_is_told_before_anyone_else_runs(told: Told, tell: Callable[[], None]) -> None:
    async def work() -> str:
        told.append("begins")
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        told.append("ends")
        return "done"

    async def other() -> None:
        told.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await telling_first_wait(work(), tell) == "done"
    assert told == ["begins", "waits", "other", "ends"]


@pytest.mark.parametrize("waits", [False, True])
async def test_an_error_comes_out_as_itself(waits: bool, tell: Callable[[], None]) -> None:
    async def work() -> None:
        if waits:
            await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await telling_first_wait(work(), tell)


async def test_scopes_and_nurseries_inside_work(told: Told, tell: Callable[[], None]) -> None:
    async def work() -> bool:
        with trio.move_on_after(0) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
        with pytest.raises(trio.TooSlowError), trio.fail_after(0):
            await trio.sleep_forever()
        return scope.cancelled_caught

    assert await telling_first_wait(work(), tell)
    assert told == ["waits"]


async def test_cancellation_reaches_it_and_its_cleaning_up(told: Told, tell: Callable[[], None]) -> None:
    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            told.append("cleaned up")

    with trio.CancelScope() as scope:
        scope.cancel()
        await telling_first_wait(work(), tell)
    assert scope.cancelled_caught
    assert told == ["waits", "cleaned up"]


async def test_what_swallows_its_cancellation_may_return(tell: Callable[[], None]) -> None:
    async def work() -> str:
        with trio.CancelScope() as inner:
            inner.cancel()
            await trio.sleep_forever()
        return "went on"

    assert await telling_first_wait(work(), tell) == "went on"
