"""The audit log: one chain whoever writes, whatever ends the process, and followers see every row."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from clonk_core.errors import StorageFull
from clonk_core.gateway.audit import AuditLog
from clonk_core.gateway_messages import AuditFilters
from clonk_core.storage.core_tables import open_core_database
from clonk_core.storage.sqlite import SqliteDatabase
from tests.core.gateway.audit.rows import EVERYTHING, entry, found, write_many


async def test_two_connections_that_write_at_once_keep_one_chain(tmp_path: Path) -> None:
    async with open_core_database(tmp_path) as one, open_core_database(tmp_path) as two:
        logs = AuditLog(one), AuditLog(two)
        async with trio.open_nursery() as nursery:
            for log in logs:
                for _ in range(10):
                    nursery.start_soon(write_many, log, 10)
        report = await logs[0].verify()
    assert (report.rows, found(report)) == (200, [])


WRITER = """
import sys
from pathlib import Path
import trio
from clonk_core.gateway.audit import AuditLog
from clonk_core.gateway_messages import AuditEntry
from clonk_core.messages import LOCAL_CALLER
from clonk_core.storage.core_tables import open_core_database

async def write_for_ever(log):
    while True:
        await log.write(AuditEntry(kind="key", caller=LOCAL_CALLER, action="keys.create", detail={"a": "b" * 2000}))
        print("written", flush=True)

async def main():
    async with open_core_database(Path(sys.argv[1])) as database, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(write_for_ever, AuditLog(database))

trio.run(main)
"""


def _read_lines(process: "subprocess.Popen[str]", count: int) -> int:
    assert process.stdout is not None
    return sum(process.stdout.readline() == "written\n" for _ in range(count))


@pytest.fixture
def start_writer(tmp_path: Path) -> Any:
    """Start a process that writes until it is killed."""
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def test_another_process_that_writes_and_is_killed_leaves_the_chain_whole(
    tmp_path: Path, start_writer: Callable[[], "subprocess.Popen[str]"]
) -> None:
    async with open_core_database(tmp_path) as database:
        log = AuditLog(database)
        for _ in range(3):
            process = start_writer()
            seen = await trio.to_thread.run_sync(_read_lines, process, 5)
            await write_many(log, 20)
            seen += await trio.to_thread.run_sync(_read_lines, process, 20)
            assert seen == 25
            process.kill()
            await trio.to_thread.run_sync(process.wait)
            await write_many(log, 5)
        report = await log.verify()
    assert found(report) == []
    assert report.rows >= 3 * (25 + 25)


async def test_a_follower_sees_the_rows_of_this_process_and_of_others(
    log: AuditLog, database: SqliteDatabase, start_writer: Callable[[], "subprocess.Popen[str]"]
) -> None:
    await write_many(log, 3)
    actions: list[str] = []
    async for row in log.follow(EVERYTHING, after=1):
        actions.append(row.action)
        if len(actions) == 2:
            assert actions == ["dice.roll", "dice.roll"]
            start_writer()
        if row.action == "keys.create":
            break
    assert row.seq == 4


async def test_a_follower_begins_with_what_comes_unless_told_otherwise(log: AuditLog) -> None:
    await write_many(log, 3)
    seen: list[int] = []

    async def read(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        async for row in log.follow(AuditFilters(action="dice.*")):
            seen.append(row.seq)
            if len(seen) == 2:
                return

    async with trio.open_nursery() as nursery:
        await nursery.start(read)
        await trio.testing.wait_all_tasks_blocked(0.2)
        await log.write(entry("arbor.tree_create"))
        await log.write(entry())
        await log.write(entry())
    assert seen == [5, 6]


async def test_a_disk_that_is_full_is_told_to_the_writer_and_leaves_the_chain_whole(
    small_disk: Path, fill_the_disk: Callable[[Path], None]
) -> None:
    async with open_core_database(small_disk) as database:
        log = AuditLog(database)
        await write_many(log, 3)
        fill_the_disk(small_disk / "ballast")
        with pytest.raises(StorageFull):
            for _ in range(200):
                await log.write(entry(detail={"a": "b" * 60_000}))
        (small_disk / "ballast").unlink()
        await write_many(log, 2)
        report = await log.verify()
    assert found(report) == []
    assert report.rows >= 5
