"""Memory stays bounded whatever the length of a run."""

import gc
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from clonk_core.runs.producer import RunControl


@pytest.mark.deadline(120)
async def test_two_hundred_thousand_events_take_no_more_memory_than_two_thousand(tools: Any) -> None:
    async def peak_of(book: Any, count: int) -> int:
        gc.collect()
        tracemalloc.start()
        run = await tools.start(book, tools.count_to(count, text="x" * 100))
        async with run.follow() as stalled:
            await anext(stalled)
            last = 0
            async with run.follow() as batches:
                async for batch in batches:
                    last = batch[-1].seq
            assert last == count + 1
            (_, peak) = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    async with tools.open() as book:
        await peak_of(book, 2_000)
        short = await peak_of(book, 4_000)
        long = await peak_of(book, 200_000)
        assert long < short + 1_000_000
        assert long < 4_000_000


async def test_a_live_run_that_waits_takes_less_than_a_mebibyte(tools: Any) -> None:
    async def events(control: RunControl) -> AsyncIterator[object]:
        for _ in range(5000):
            yield {"type": "text", "text": "x" * 100}
        await trio.sleep_forever()

    async with tools.open() as book:
        first = await tools.start(book, events)
        await tools.read(first, until=5000)
        gc.collect()
        tracemalloc.start()
        runs = []
        for _ in range(10):
            run = await tools.start(book, events)
            await tools.read(run, until=5000)
            runs.append(run)
        gc.collect()
        (now, _) = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert now / len(runs) < 1_000_000
