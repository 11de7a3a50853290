"""Runs that end with their reader."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import trio

from clonk_core.errors import InvalidParams, NotFound
from clonk_core.messages import LOCAL_CALLER
from clonk_core.runs.producer import RunControl


class Endless:
    """An activation that never ends, and what has become of it."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = trio.Event()

    async def events(self, control: RunControl) -> AsyncIterator[object]:
        try:
            while True:
                self.made += 1
                yield {"type": "text", "text": "x" * 100}
        finally:
            self.closed.set()


async def test_it_is_read_from_the_beginning_to_its_done(tools: Any) -> None:
    async with tools.open() as book:
        run = await tools.start(book, tools.count_to(3000), durable=False)
        assert not run.durable
        events = await tools.read(run)
        assert tools.seqs(events) == list(range(1, 3002))
        assert tools.done(events)["outcome"] == "complete"


async def test_leaving_it_ends_it(tools: Any) -> None:
    endless = Endless()
    async with tools.open() as book:
        run = await tools.start(book, endless.events, durable=False)
        async with run.follow() as batches:
            await anext(batches)
        await endless.closed.wait()
        await run.stop("cancelled")
        assert run.outcome == "cancelled"


async def test_it_waits_for_a_slow_reader(tools: Any) -> None:
    endless = Endless()
    async with tools.open() as book:
        run = await tools.start(book, endless.events, durable=False)
        async with run.follow() as batches:
            for _ in range(5):
                batch = await anext(batches)
                assert endless.made <= batch[-1].seq + 1
                await trio.testing.wait_all_tasks_blocked()
                assert endless.made <= batch[-1].seq + 513


async def test_it_is_read_once(tools: Any) -> None:
    async with tools.open() as book:
        run = await tools.start(book, tools.count_to(3), durable=False)
        with pytest.raises(InvalidParams):
            async with run.follow(1):
                pass
        await tools.read(run)
        with pytest.raises(NotFound):
            async with run.follow():
                pass


async def test_nothing_of_it_is_kept(tools: Any) -> None:
    async with tools.open() as book:
        run = await tools.start(book, tools.count_to(3), durable=False)
        await tools.read(run)
        with pytest.raises(NotFound):
            await book.find(LOCAL_CALLER, run.id)
        assert await book.list(LOCAL_CALLER) == []


async def test_it_is_found_and_stopped_while_it_runs(tools: Any) -> None:
    endless = Endless()
    async with tools.open() as book:
        run = await tools.start(book, endless.events, durable=False)
        async with run.follow() as batches:
            await anext(batches)
            await (await book.find(LOCAL_CALLER, run.id)).stop("cancelled")
            rest = [event for batch in [batch async for batch in batches] for event in batch]
        assert tools.done(rest)["outcome"] == "cancelled"


async def test_one_that_nobody_reads_ends_by_itself(tools: Any) -> None:
    endless = Endless()
    async with tools.open(first_reader_s=0.02) as book:
        await tools.start(book, endless.events, durable=False)
        await endless.closed.wait()


async def test_a_reader_is_told_of_an_error(tools: Any) -> None:
    async def events(control: RunControl) -> AsyncIterator[object]:
        yield {"type": "started"}
        raise ValueError("a bug")

    async with tools.open() as book:
        seen = await tools.read(await tools.start(book, events, durable=False))
        assert orjson.loads(seen[-1].payload)["error"]["data"]["kind"] == "internal"


async def test_a_shutdown_ends_it_with_a_done(tools: Any) -> None:
    endless = Endless()
    async with tools.open() as book:
        run = await tools.start(book, endless.events, durable=False)
        async with run.follow() as batches:
            await anext(batches)
            await book.stop_all(within_s=1)
            rest = [event for batch in [batch async for batch in batches] for event in batch]
        assert tools.done(rest)["error"]["data"]["kind"] == "server_restarted"
