"""The audit log: one chain whoever writes, whatever ends the process; what was touched is found."""

import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from clonk_core.config.settings import AuditSettings
from clonk_core.errors import InvalidParams, StorageFull
from clonk_core.gateway.audit import AuditLog, open_audit
from clonk_core.gateway.audit_chain import BEFORE_THE_FIRST, COLUMNS
from clonk_core.gateway_messages import AuditEntry, AuditFilters, AuditReport
from clonk_core.messages import Caller
from clonk_core.storage.core_tables import open_core_database
from clonk_core.storage.sqlite import SqliteDatabase

ANN = Caller(id="ann", kind="key", tenant="default")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERYTHING = AuditFilters()


def entry(action: str = "dice.roll", **members: Any) -> AuditEntry:
    return AuditEntry(**{"kind": "call", "caller": ANN, "action": action, **members})


@attrs.define
class Clock:
    """A clock that a test turns."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    async with open_core_database(tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(database: SqliteDatabase, clock: Clock) -> AuditLog:
    return AuditLog(database, retention_days=30, clock=clock)


async def change(database: SqliteDatabase, sql: str, *bindings: Any) -> None:
    await database.run(lambda t: list(t.execute(sql, bindings)))


def found(report: AuditReport) -> list[tuple[str, int]]:
    assert report.intact == (not report.problems)
    return [(problem.kind, problem.seq) for problem in report.problems]


async def write_many(log: AuditLog, count: int) -> None:
    for number in range(count):
        await log.write(entry(target=f"t{number}"))


# ── one row ───────────────────────────────────────────────────────────────────


async def test_a_row_comes_back_as_it_was_written(log: AuditLog) -> None:
    written = entry(
        "claudecode.chat",
        target="first",
        outcome="forbidden",
        transport="websocket",
        peer="127.0.0.1:5",
        duration_ms=2,
        request_bytes=10,
        answer_bytes=20,
        run_id="sub_1",
        request_id="req_1",
        detail={"params": {"name": "first"}},
    )
    await log.write(written)
    (row,) = await log.query(EVERYTHING, limit=10)
    shown = attrs.asdict(row)
    assert (shown.pop("seq"), shown.pop("at"), len(shown.pop("hash"))) == (1, "2026-03-01T12:00:00.000Z", 64)
    assert (shown.pop("caller"), shown.pop("caller_kind")) == ("ann", "key")
    assert shown.pop("tenant") == "default"
    assert shown == {name: getattr(written, name) for name in shown}


async def test_the_hash_can_be_computed_by_anybody(log: AuditLog, database: SqliteDatabase) -> None:
    await log.write(entry(target="ünï\n", duration_ms=1.25, detail={"a": ["b", None]}))
    await log.write(entry())
    previous = BEFORE_THE_FIRST
    for row in await database.read(lambda t: t.all(f"select {', '.join(COLUMNS)}, hash from audit order by seq")):
        text = json.dumps(row[:-1], ensure_ascii=False, separators=(",", ":"))
        assert row[-1] == hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()
        previous = row[-1]


@pytest.mark.parametrize(
    "members",
    [
        {"target": "half \ud800 pair"},
        {"detail": {"a": "half \ud800 pair"}},
        {"detail": {"a": 2**80}},
        {"target": "nul \0 inside", "detail": {"\0": "\0"}},
        {"duration_ms": float("nan")},
        {"duration_ms": float("inf")},
        {"duration_ms": 3},
        {"duration_ms": 1e300},
    ],
)
async def test_strange_values_are_kept_and_the_chain_holds(log: AuditLog, members: dict[str, Any]) -> None:
    await log.write(entry(**members))
    await log.write(entry())
    assert found(await log.verify()) == []
    assert len(await log.query(EVERYTHING, limit=10)) == 2


# ── the chain ─────────────────────────────────────────────────────────────────


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


# ── several writers ───────────────────────────────────────────────────────────


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


# ── reading ───────────────────────────────────────────────────────────────────


@pytest.fixture
async def filled(log: AuditLog, clock: Clock) -> AuditLog:
    """Rows 1 to 8, one an hour."""
    bob = Caller(id="bob", kind="token", tenant="other")
    for one in (
        entry("claudecode.create", target="first"),
        entry("claudecode.chat", target="first", run_id="sub_1"),
        entry("Bash", kind="tool", target="first", run_id="sub_1", outcome="error"),
        entry("claudecodex", caller=bob),
        entry("arbor.tree_create", outcome="forbidden"),
        entry("claudecode.chat", target="second", caller=bob),
        entry("keys.create", kind="key", target="key_1"),
        entry("claude%_", caller=bob),
    ):
        await log.write(one)
        clock.now += timedelta(hours=1)
    return log


@pytest.mark.parametrize(
    ("filters", "seqs"),
    [
        ({}, [8, 7, 6, 5, 4, 3, 2, 1]),
        ({"caller": "bob"}, [8, 6, 4]),
        ({"kind": "tool"}, [3]),
        ({"action": "claudecode.chat"}, [6, 2]),
        ({"action": "claudecode.*"}, [6, 2, 1]),
        ({"action": "claude%*"}, [8]),
        ({"action": "*"}, [8, 7, 6, 5, 4, 3, 2, 1]),
        ({"target": "first"}, [3, 2, 1]),
        ({"outcome": "forbidden"}, [5]),
        ({"run_id": "sub_1"}, [3, 2]),
        ({"tenant": "other"}, [8, 6, 4]),
        ({"since": NOON + timedelta(hours=5)}, [8, 7, 6]),
        ({"until": NOON + timedelta(hours=2)}, [2, 1]),
        ({"since": NOON + timedelta(hours=2), "until": NOON + timedelta(hours=4)}, [4, 3]),
        ({"caller": "ann", "action": "claudecode.*", "target": "first"}, [2, 1]),
        ({"since": NOON + timedelta(days=1)}, []),
        ({"caller": "nobody"}, []),
    ],
)
async def test_filters_choose_rows(filled: AuditLog, filters: dict[str, Any], seqs: list[int]) -> None:
    wanted = AuditFilters(**filters)
    assert [row.seq for row in await filled.query(wanted, limit=100)] == seqs
    assert [row.seq for row in await filled.query(wanted, limit=100, after=0)] == seqs[::-1]


@pytest.mark.parametrize("window", [1, 2, 3, 100])
async def test_pages_give_every_row_once(filled: AuditLog, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr("clonk_core.gateway.audit_store.WINDOW", window)
    for filters in (EVERYTHING, AuditFilters(caller="bob"), AuditFilters(caller="nobody")):
        want = [row.seq for row in await filled.query(filters, limit=100)]
        for limit in (1, 2, 3):
            before: int | None = None
            seqs: list[int] = []
            while page := await filled.query(filters, limit=limit, before=before):
                seqs += [row.seq for row in page]
                before = seqs[-1]
            assert seqs == want
            after, upwards = 0, []
            while page := await filled.query(filters, limit=limit, after=after):
                upwards += [row.seq for row in page]
                after = upwards[-1]
            assert upwards == want[::-1]


async def test_both_directions_at_once_are_refused(filled: AuditLog) -> None:
    with pytest.raises(InvalidParams):
        await filled.query(EVERYTHING, limit=1, before=3, after=1)


# ── retention ─────────────────────────────────────────────────────────────────


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
