"""The audit log: one chain of hashes, in which whatever was touched is found."""

from datetime import timedelta

import pytest
import trio
import trio.testing

from clonk_core.errors import InvalidParams
from clonk_core.gateway.audit import AuditLog
from clonk_core.gateway.audit_chain import BEFORE_THE_FIRST, COLUMNS
from clonk_core.storage.sqlite import SqliteDatabase
from tests.core.gateway.audit.rows import EVERYTHING, Clock, change, entry, found, write_many


async def test_an_empty_log_is_whole(log: AuditLog) -> None:
    report = await log.verify()
    assert (report.intact, report.rows, report.first_seq, report.head) == (True, 0, 1, f"0:{BEFORE_THE_FIRST}")


async def test_a_thousand_at_once_are_one_chain_without_holes(log: AuditLog) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(log.write, entry(target=str(number)))
    report = await log.verify()
    assert (report.rows, found(report)) == (1000, [])
    rows = await log.query(EVERYTHING, limit=1000, after=0)
    assert [row.seq for row in rows] == list(range(1, 1001))
    assert {row.target for row in rows} == {str(number) for number in range(1000)}


CHANGES = {
    "at": "2020-01-01T00:00:00.000Z",
    "kind": "tool",
    "tenant": "other",
    "caller": "bob",
    "caller_kind": "local",
    "transport": "stdio",
    "peer": "elsewhere",
    "action": "dice.stream",
    "target": None,
    "outcome": "forbidden",
    "duration_ms": 7.5,
    "request_bytes": 5,
    "answer_bytes": 5,
    "run_id": "sub_other",
    "request_id": "req_other",
    "detail": '{"a":1}',
    "hash": "f" * 64,
}


@pytest.mark.parametrize("column", [*COLUMNS[1:], "hash"])
async def test_a_row_changed_in_any_column_is_found(log: AuditLog, database: SqliteDatabase, column: str) -> None:
    await write_many(log, 5)
    await change(database, f"update audit set {column} = ? where seq = 3", CHANGES[column])
    # A changed hash also cuts off the row behind it.
    assert found(await log.verify()) == [("changed", 3)] + ([("changed", 4)] if column == "hash" else [])


async def test_a_changed_number_is_a_hole_and_a_stranger(log: AuditLog, database: SqliteDatabase) -> None:
    await write_many(log, 5)
    await change(database, "update audit set seq = 9 where seq = 3")
    assert found(await log.verify()) == [("missing", 4), ("missing", 9)]


async def test_a_value_of_a_wrong_type_is_found(log: AuditLog, database: SqliteDatabase) -> None:
    await write_many(log, 3)
    await change(database, "update audit set peer = x'00ff' where seq = 2")
    await change(database, "update audit set hash = x'00ff' where seq = 3")
    assert found(await log.verify()) == [("changed", 2), ("changed", 3)]


async def test_rows_cut_out_of_the_middle_are_found(log: AuditLog, database: SqliteDatabase) -> None:
    await write_many(log, 9)
    await change(database, "delete from audit where seq between 4 and 6")
    assert found(await log.verify()) == [("missing", 7)]


async def test_a_hole_that_is_closed_by_new_numbers_is_found(log: AuditLog, database: SqliteDatabase) -> None:
    await write_many(log, 5)
    await change(database, "delete from audit where seq = 3")
    await change(database, "update audit set seq = seq - 1 where seq > 3")
    assert found(await log.verify())[0] == ("changed", 3)


async def test_rows_in_another_order_are_found(log: AuditLog, database: SqliteDatabase) -> None:
    await write_many(log, 6)
    for old, new in ((3, -1), (4, 3), (-1, 4)):
        await change(database, "update audit set seq = ? where seq = ?", new, old)
    assert found(await log.verify()) == [("changed", 3), ("changed", 4), ("changed", 5)]


async def test_the_beginning_cut_off_is_found(log: AuditLog, database: SqliteDatabase) -> None:
    await write_many(log, 6)
    await change(database, "delete from audit where seq <= 2")
    assert found(await log.verify()) == [("missing", 3)]


async def test_an_anchor_that_is_forged_to_hide_that_is_found(log: AuditLog, database: SqliteDatabase) -> None:
    await write_many(log, 6)
    await change(database, "insert into audit_anchor select 1, seq, hash from audit where seq = 2")
    await change(database, "delete from audit where seq <= 2")
    assert found(await log.verify()) == [("anchor", 2)]


async def test_an_anchor_with_another_hash_is_found(log: AuditLog, database: SqliteDatabase) -> None:
    await write_many(log, 6)
    await change(database, "insert into audit_anchor values (1, 2, ?)", "a" * 64)
    await change(database, "delete from audit where seq <= 2")
    assert ("anchor", 3) in found(await log.verify())


async def test_an_anchor_in_front_of_the_rows_is_found(log: AuditLog, database: SqliteDatabase) -> None:
    await write_many(log, 6)
    await change(database, "insert into audit_anchor select 1, seq, hash from audit where seq = 2")
    assert found(await log.verify())[0] == ("anchor", 1)


async def test_what_the_anchor_lost_is_found(log: AuditLog, database: SqliteDatabase, clock: Clock) -> None:
    await write_many(log, 3)
    clock.now += timedelta(days=40)
    await log.sweep(clock.now)
    await log.write(entry())
    await change(database, "delete from audit_anchor")
    assert found(await log.verify()) == [("missing", 4), ("anchor", 0)]


async def test_the_end_cut_off_is_found_by_a_head_noted_before(log: AuditLog, database: SqliteDatabase) -> None:
    await write_many(log, 6)
    head = (await log.verify()).head
    await write_many(log, 2)
    assert found(await log.verify(expect_head=head)) == []
    await change(database, "delete from audit where seq > 4")
    assert found(await log.verify()) == []  # the chain alone cannot tell
    assert found(await log.verify(expect_head=head)) == [("head", 6)]
    await write_many(log, 4)  # written over
    assert found(await log.verify(expect_head=head)) == [("head", 6)]


async def test_a_head_that_retention_has_dropped_is_no_finding(
    log: AuditLog, database: SqliteDatabase, clock: Clock
) -> None:
    await write_many(log, 3)
    head = (await log.verify()).head
    clock.now += timedelta(days=40)
    await log.sweep(clock.now)
    assert found(await log.verify(expect_head=head)) == []
    assert found(await log.verify(expect_head=f"3:{'a' * 64}")) == [("head", 3)]


@pytest.mark.parametrize("head", ["", "3", "3:abc", f"-1:{'a' * 64}", f"3:{'A' * 64}", f"3:{'a' * 65}"])
async def test_what_is_no_head_is_refused(log: AuditLog, head: str) -> None:
    with pytest.raises(InvalidParams):
        await log.verify(expect_head=head)


async def test_a_log_of_several_pages_is_walked_whole(log: AuditLog, database: SqliteDatabase) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(700):
            nursery.start_soon(log.write, entry())
    await change(database, "update audit set peer = 'x' where seq in (256, 257, 600)")
    report = await log.verify()
    assert found(report) == [("changed", 256), ("changed", 257), ("changed", 600)]
    assert report.rows == 700
