"""The audit log: what is too old is dropped, and the chain holds."""

from datetime import timedelta
from typing import Any

import pytest
import trio
import trio.testing

from clonk_core.config.settings import AuditSettings
from clonk_core.gateway.audit import AuditLog, open_audit
from clonk_core.storage.sqlite import SqliteDatabase
from tests.core.gateway.audit.rows import EVERYTHING, NOON, Clock, found, write_many


async def test_retention_drops_what_is_too_old_and_says_so(log: AuditLog, clock: Clock) -> None:
    await write_many(log, 2500)
    clock.now += timedelta(days=20)
    await write_many(log, 3)
    assert await log.sweep(clock.now) == 0
    clock.now += timedelta(days=20)
    assert await log.sweep(clock.now) == 2500
    rows = await log.query(EVERYTHING, limit=100, after=0)
    assert [row.seq for row in rows] == list(range(2501, 2507))
    told = [row for row in rows if row.kind == "system"]
    assert [row.detail["dropped"] for row in told] == [1000, 1000, 500]
    assert told[-1].detail["last_seq"] == 2500
    report = await log.verify()
    assert (found(report), report.first_seq) == ([], 2501)
    assert await log.sweep(clock.now) == 0


async def test_retention_that_drops_everything_keeps_the_chain(log: AuditLog, clock: Clock) -> None:
    for _ in range(3):
        await write_many(log, 4)
        clock.now += timedelta(days=40)
        await log.sweep(clock.now)
        assert found(await log.verify()) == []
    rows = await log.query(EVERYTHING, limit=100)
    assert [(row.kind, row.seq) for row in rows] == [("system", 15)]


async def test_a_young_row_in_front_keeps_the_older_ones_behind_it(log: AuditLog, clock: Clock) -> None:
    clock.now = NOON + timedelta(days=100)
    await write_many(log, 1)
    clock.now = NOON
    await write_many(log, 3)
    assert await log.sweep(NOON + timedelta(days=60)) == 0
    assert await log.sweep(NOON + timedelta(days=140)) == 4


async def test_a_sweep_in_the_middle_of_a_check_is_no_finding(
    log: AuditLog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clonk_core.gateway.audit._VERIFY_PAGE", 10)
    await write_many(log, 100)
    clock.now += timedelta(days=40)
    await write_many(log, 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.sweep, clock.now)
        for _ in range(5):
            assert found(await log.verify()) == []
    assert found(await log.verify()) == []


async def test_an_open_log_sweeps_by_itself(
    database: SqliteDatabase, log: AuditLog, clock: Clock, list_log: Any
) -> None:
    await write_many(log, 3)
    clock.now += timedelta(days=400)
    with pytest.raises(KeyError):  # as itself, not in a group
        async with open_audit(database, AuditSettings(), log=list_log, clock=clock) as opened:
            async for row in opened.follow(EVERYTHING, after=0):
                if row.kind == "system":
                    break
            await trio.testing.wait_all_tasks_blocked(0.1)
            raise KeyError
    assert list_log.records == [("info", "old audit rows dropped", {"rows": 3})]
