"""Runs on a disk that fills up."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio

from clonk_core.errors import StorageFull
from clonk_core.messages import LOCAL_CALLER
from clonk_core.runs.producer import RunControl


class Endless:
    def __init__(self) -> None:
        self.closed = trio.Event()

    async def events(self, control: RunControl) -> AsyncIterator[object]:
        try:
            number = 0
            while True:
                number += 1
                yield {"type": "text", "number": number, "text": "x" * 1000}
                await trio.lowlevel.checkpoint()
        finally:
            self.closed.set()


async def test_the_run_is_stopped_readers_are_told_and_it_is_closed_when_there_is_room_again(
    tools: Any, small_disk: Path, fill_the_disk: Callable[[Path], None]
) -> None:
    endless = Endless()
    async with tools.open(data_dir=small_disk, retry_first_s=0.02, retry_longest_s=0.02) as book:
        run = await tools.start(book, endless.events)
        await tools.read(run, until=100)
        fill_the_disk(small_disk / "ballast")
        seen = []
        with pytest.raises(StorageFull):
            async with run.follow() as batches:
                async for batch in batches:
                    seen.extend(batch)
        await endless.closed.wait()
        assert run.state == "running"
        with pytest.raises(StorageFull):
            await run.stop("cancelled")
        with pytest.raises(StorageFull):
            await tools.start(book, endless.events)
        # What is stored can be read all the time.
        assert await tools.read(await book.find(LOCAL_CALLER, run.id), until=len(seen)) == seen
        (small_disk / "ballast").unlink()
        while run.state == "running":
            await trio.lowlevel.checkpoint()
        events = await tools.read(run)
        assert events[:-1] == seen
        assert tools.seqs(events) == list(range(1, len(events) + 1))
        done = tools.done(events)
        assert (done["outcome"], done["error"]["data"]["kind"]) == ("failed", "storage_full")
        again = await tools.start(book, tools.count_to(3))
        assert len(await tools.read(again)) == 4


async def test_a_run_that_could_not_be_closed_before_the_end_is_closed_at_the_next_start(
    tools: Any, small_disk: Path, fill_the_disk: Callable[[Path], None]
) -> None:
    endless = Endless()
    async with tools.open(data_dir=small_disk) as book:
        run = await tools.start(book, endless.events)
        await tools.read(run, until=100)
        fill_the_disk(small_disk / "ballast")
        with pytest.raises(StorageFull):
            await tools.read(run)
    (small_disk / "ballast").unlink()
    async with tools.open(data_dir=small_disk) as book:
        events = await tools.read(await book.find(LOCAL_CALLER, run.id))
        assert tools.seqs(events) == list(range(1, len(events) + 1))
        assert tools.done(events)["outcome"] == "failed"


async def test_runs_filling_the_disk_together_each_have_one_done_in_the_end(tools: Any, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(256 * 1024))
    stopped = [Endless() for _ in range(3)]
    async with tools.open(data_dir=small_disk, retry_first_s=0.02, retry_longest_s=0.02) as book:
        runs = [await tools.start(book, endless.events) for endless in stopped]
        for endless in stopped:
            await endless.closed.wait()
        # Which of them are refused their `done` by now, and which found a little room for it, is not said.
        assert {summary.subscription for summary in await book.list(LOCAL_CALLER)} == {run.id for run in runs}
        ballast.unlink()
        for run in runs:
            while run.state == "running":
                await trio.lowlevel.checkpoint()
            events = await tools.read(run)
            assert tools.seqs(events) == list(range(1, len(events) + 1))
            done = tools.done(events)
            assert (done["outcome"], done["error"]["data"]["kind"]) == ("failed", "storage_full")
    # After the next start nothing more has come.
    async with tools.open(data_dir=small_disk) as book:
        for run in runs:
            again = await tools.read(await book.find(LOCAL_CALLER, run.id))
            assert tools.done(again)["outcome"] == "failed"


async def test_progress_and_done_after_the_failure_are_dropped_in_silence(tools: Any, small_disk: Path) -> None:
    ended = trio.Event()

    async def events(control: RunControl) -> AsyncIterator[object]:
        asked = trio.Event()
        control.add_stop_handler(lambda reason: asked.set())
        try:
            while not asked.is_set():
                yield {"type": "text", "text": "x" * 10_000}
                await trio.lowlevel.checkpoint()
            for number in range(2000):
                yield {"type": "late", "number": number}
                await control.report(number, None, None)
        finally:
            ended.set()

    async with tools.open(data_dir=small_disk) as book:
        run = await tools.start(book, events)
        with pytest.raises(StorageFull):
            await tools.read(run)
        await ended.wait()
        kept = await tools.read(run, until=run.last_seq)
        assert all(orjson.loads(event.payload)["type"] == "text" for event in kept)
