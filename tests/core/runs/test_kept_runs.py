"""Runs on disk: after a restart, after a crash, and until retention drops them."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio

from clonk_core.errors import NotFound
from clonk_core.messages import LOCAL_CALLER
from clonk_core.runs.producer import RunControl

WRITER = '''
"""Starts runs that never end and prints what it is shown of them."""
import sys
from pathlib import Path
import attrs, orjson, trio
from clonk_core.errors import Internal
from clonk_core.messages import LOCAL_CALLER, ErrorObject
from clonk_core.runs.book import open_runs
from clonk_core.storage.core_tables import open_core_database

async def events(control):
    number = 0
    while True:
        number += 1
        yield {"type": "text", "number": number}
        if number % 5 == 0:
            await trio.sleep(0)

async def follow(run):
    async with run.follow() as batches:
        async for batch in batches:
            print(run.id, batch[-1].seq, flush=True)

async def main():
    async with open_core_database(Path(sys.argv[1])) as database, open_runs(
        database,
        encode=orjson.dumps,
        error_object=lambda error: ErrorObject(code=1, message=error.message),
        incident=lambda error: Internal("inc_1"),
    ) as book, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(follow, await book.start("test.stream", LOCAL_CALLER, events, durable=True))

trio.run(main)
'''


async def test_after_a_restart_a_run_is_read_from_any_point(tools: Any) -> None:
    async with tools.open() as book:
        run = await tools.start(book, tools.count_to(2000))
        before = await tools.read(run)
    async with tools.open() as book:
        kept = await book.find(LOCAL_CALLER, run.id)
        assert (kept.state, kept.outcome, kept.last_seq, kept.method) == ("done", "complete", 2001, "test.stream")
        assert kept.caller.id == LOCAL_CALLER.id
        assert await tools.read(kept) == before
        for after in (1, 511, 512, 513, 1999, 2000, 2001):
            assert await tools.read(kept, after) == before[after:]
        await kept.stop("cancelled")
        (summary,) = await book.list(LOCAL_CALLER)
        assert summary.subscription == run.id


async def test_after_kill_minus_9_everything_shown_is_there_and_the_run_is_ended_honestly(tools: Any) -> None:
    for _ in range(3):
        shown = await trio.to_thread.run_sync(write_and_kill, tools.data_dir)
        assert len(shown) == 3
        async with tools.open() as book:
            for run_id, last_shown in shown.items():
                run = await book.find(LOCAL_CALLER, run_id)
                events = await tools.read(run)
                assert tools.seqs(events) == list(range(1, len(events) + 1))
                assert len(events) > last_shown
                numbers = [orjson.loads(event.payload)["number"] for event in events[:-1]]
                assert numbers == list(range(1, len(events)))
                done = tools.done(events)
                assert (done["outcome"], done["error"]["data"]["kind"]) == ("failed", "server_restarted")
                assert (run.outcome, run.last_seq) == ("failed", len(events))


def write_and_kill(data_dir: Path) -> dict[str, int]:
    """Have three runs written, kill the writer, and return the last number shown of each."""
    shown: dict[str, int] = {}
    with subprocess.Popen([sys.executable, "-c", WRITER, str(data_dir)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            run_id, seq = line.split()
            shown[run_id] = int(seq)
            if len(shown) == 3 and min(shown.values()) > 500:
                process.send_signal(signal.SIGKILL)
                break
        for line in process.stdout:
            if line.endswith("\n"):
                run_id, seq = line.split()
                shown[run_id] = int(seq)
    return shown


async def test_after_its_time_a_run_is_dropped_and_a_running_one_is_not(tools: Any) -> None:
    async def never(control: RunControl) -> AsyncIterator[object]:
        yield {"type": "started"}
        await trio.sleep_forever()

    async with tools.open(retention_s=0) as book:
        ended = await tools.start(book, tools.count_to(3000))
        running = await tools.start(book, never)
        await tools.read(ended)
        await past_this_millisecond()
        assert await book.sweep() == 1
        with pytest.raises(NotFound):
            await book.find(LOCAL_CALLER, ended.id)
        assert [summary.subscription for summary in await book.list(LOCAL_CALLER)] == [running.id]
        assert await tools.database.read(
            lambda t: t.one("select count(*) from run_events where run_id = ?", (ended.id,))
        ) == (0,)


async def past_this_millisecond() -> None:
    """Return when the clock has moved on by a millisecond, the unit in which ends are stored."""
    now = datetime.now(UTC)
    while (datetime.now(UTC) - now).total_seconds() < 0.002:
        await trio.lowlevel.checkpoint()


async def test_a_run_within_its_time_is_kept(tools: Any) -> None:
    async with tools.open(retention_s=3600) as book:
        run = await tools.start(book, tools.count_to(3))
        await tools.read(run)
        assert await book.sweep() == 0
        assert len(await tools.read(await book.find(LOCAL_CALLER, run.id))) == 4


async def test_a_run_that_is_being_read_is_kept_until_its_reader_has_gone(tools: Any) -> None:
    async with tools.open(retention_s=0) as book:
        run = await tools.start(book, tools.count_to(3000))
        await tools.read(run)
        await past_this_millisecond()
        async with (await book.find(LOCAL_CALLER, run.id)).follow() as batches:
            events = list(await anext(batches))
            assert await book.sweep() == 0
            events += [event for batch in [batch async for batch in batches] for event in batch]
        assert len(events) == 3001
        assert await book.sweep() == 1


async def test_over_the_total_size_the_runs_that_ended_first_go(tools: Any) -> None:
    async with tools.open(max_total_bytes=25_000) as book:
        runs = [await tools.start(book, tools.count_to(10, text="x" * 1000)) for _ in range(4)]
        for run in runs:
            await tools.read(run)
        assert await book.sweep() == 2
        assert len(await book.list(LOCAL_CALLER)) == 2


async def test_a_run_that_outgrows_its_bound_loses_its_oldest_events_and_says_so(tools: Any) -> None:
    async with tools.open(max_run_bytes=100_000, tail_events=16, ahead_events=32) as book:
        run = await tools.start(book, tools.count_to(1000, text="x" * 1000))
        await tools.read(run, run.last_seq)
        for reader in (run, await book.find(LOCAL_CALLER, run.id)):
            events = await tools.read(reader, 5)
            gap = orjson.loads(events[0].payload)
            assert gap == {"type": "gap", "from": 6, "to": events[0].seq}
            assert tools.seqs(events[1:]) == list(range(events[0].seq + 1, 1002))
            assert 50 <= len(events) <= 150
            tools.done(events)
        (stored,) = await tools.database.read(lambda t: t.one("select stored_bytes from runs"))
        assert stored <= 100_000
