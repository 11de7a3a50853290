"""Who gets the next place for a process, and what becomes of idle ones when memory runs short."""

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from clonk_claudecode.engine.engine import open_engine
from clonk_claudecode.engine.memory import free_memory
from clonk_claudecode.engine.slots import Slots
from clonk_claudecode.engine.spec import EngineSettings, SessionSpec
from clonk_claudecode.errors import CapacityReached, EngineStopped
from tests.claudecode.conftest import Diary
from tests.claudecode.engine.test_live_session import begin


async def _take(slots: Slots, owner: str, session: str, order: list[str]) -> None:
    assert await slots.take_place(slots.get(session), owner)
    order.append(session)


async def _all_waiting(slots: Slots, nursery: trio.Nursery, *wanted: tuple[str, str]) -> list[str]:
    order: list[str] = []
    for owner, session in wanted:
        nursery.start_soon(_take, slots, owner, session, order)
        await trio.testing.wait_all_tasks_blocked()
    return order


def _free(slots: Slots, session: str) -> None:
    slots.get(session).is_starting = False
    slots.tidy(session)


async def test_one_who_waits_with_many_prompts_does_not_keep_another_waiting() -> None:
    slots = Slots(1, wait_s=30)
    async with trio.open_nursery() as nursery:
        wanted = [("a", "a1"), ("a", "a2"), ("a", "a3"), ("a", "a4"), ("b", "b1"), ("c", "c1"), ("b", "b2")]
        order = await _all_waiting(slots, nursery, *wanted)
        while len(order) < len(wanted):
            _free(slots, order[-1])
            await trio.testing.wait_all_tasks_blocked()
    assert order == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_a_place_that_becomes_free_is_not_snatched_by_one_who_comes_later() -> None:
    slots = Slots(1, wait_s=30)
    async with trio.open_nursery() as nursery:
        order = await _all_waiting(slots, nursery, ("a", "a1"), ("b", "b1"))
        _free(slots, "a1")
        nursery.start_soon(_take, slots, "a", "a2", order)
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["a1", "b1"]
        _free(slots, "b1")


async def test_one_who_gives_up_leaves_its_turn_to_the_next() -> None:
    slots = Slots(1, wait_s=30)
    async with trio.open_nursery() as nursery:
        order = await _all_waiting(slots, nursery, ("a", "a1"))
        with trio.CancelScope() as given_up:
            async with trio.open_nursery() as impatient:
                impatient.start_soon(_take, slots, "b", "b1", order)
                await trio.testing.wait_all_tasks_blocked()
                given_up.cancel()
                _free(slots, "a1")  # just as it gives up
        await _take(slots, "c", "c1", order)
        assert order[-1] == "c1"


async def test_waiting_has_an_end(autojump_clock: trio.testing.MockClock) -> None:
    slots = Slots(1, wait_s=10)
    assert await slots.take_place(slots.get("a1"), "a")
    with pytest.raises(CapacityReached):
        await slots.take_place(slots.get("b1"), "b")
    assert trio.current_time() == pytest.approx(10)
    slots.is_stopping = True
    with pytest.raises(EngineStopped):
        await slots.take_place(slots.get("c1"), "c")


def test_free_memory_is_the_machines_or_what_the_group_leaves(tmp_path: Path) -> None:
    meminfo, group = tmp_path / "meminfo", tmp_path / "group"
    group.mkdir()
    meminfo.write_text("MemTotal:  8000000 kB\nMemAvailable:    4000000 kB\n")
    assert free_memory(meminfo, group) == 4_000_000 * 1024
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000\n")
    assert free_memory(meminfo, group) == 4_000_000 * 1024
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("900000\n")
    (group / "memory.stat").write_text("anon 800000\ninactive_file 50000\nactive_file 1\n")
    assert free_memory(meminfo, group) == 150_000
    (group / "memory.current").write_text("2000000\n")
    (group / "memory.stat").unlink()
    assert free_memory(meminfo, group) == 0
    assert free_memory(tmp_path / "nothing", tmp_path / "nowhere") is None
    assert free_memory() is not None


async def test_idle_processes_are_parked_one_by_one_while_memory_is_short(
    settings: EngineSettings,
    diary: Diary,
    new_spec: Callable[..., SessionSpec],
) -> None:
    left = [10**9]
    short = attrs.evolve(settings, min_free_memory_bytes=10**8, memory_every_s=0.05)
    async with open_engine(short, log=diary, free_memory=lambda: left[0]) as engine:
        first, second = new_spec(), new_spec()
        for spec in (first, second):
            async with begin(engine, spec, "hello") as turn:
                async for _ in turn:
                    pass
        await trio.sleep(0.3)
        assert engine.live_count == 2
        left[0] = 10**7
        with trio.fail_after(20):
            await engine.wait_state(first.session_id, "parked")  # the one that was idle longest
            await engine.wait_state(second.session_id, "parked")
        left[0] = 10**9
        async with begin(engine, first, "again") as turn:
            async for _ in turn:
                pass
        assert turn.result.outcome == "complete"
