"""The database on trio: transactions, groups, cancellation, errors."""

import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from clonk_core.errors import ConstraintViolation, StorageError
from clonk_core.interfaces.storage import Transaction
from clonk_core.storage.sqlite import SqliteDatabase, open_sqlite, open_sqlite_read_only


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    async with open_sqlite(tmp_path / "things.db") as database:
        await database.run(lambda t: t.execute("create table things (name text not null primary key, size integer)"))
        yield database


def add(transaction: Transaction, name: str, size: int = 0) -> str:
    transaction.execute("insert into things values (:name, :size)", {"name": name, "size": size})
    return name


def names(transaction: Transaction) -> list[str]:
    return [name for (name,) in transaction.all("select name from things order by name")]


def endless(transaction: Transaction) -> None:
    add(transaction, "never")
    transaction.all("with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n")


async def test_what_a_transaction_returns_comes_back_and_stays(database: SqliteDatabase) -> None:
    assert await database.run(add, "a", size=3) == "a"
    assert await database.read(lambda t: t.one("select size from things where name = ?", ("a",))) == (3,)
    assert await database.read(lambda t: t.one("select size from things where name = 'b'")) is None
    assert database.name == "things"


async def test_a_transaction_that_raises_is_undone(database: SqliteDatabase) -> None:
    def add_and_fail(transaction: Transaction) -> None:
        add(transaction, "a")
        raise KeyError("no")

    with pytest.raises(KeyError):
        await database.run(add_and_fail)
    assert await database.read(names) == []


async def test_many_rows_at_once_and_how_many_changed(database: SqliteDatabase) -> None:
    def fill(transaction: Transaction) -> int:
        transaction.execute_many("insert into things values (?, ?)", [("a", 1), ("b", 2), ("c", 3)])
        transaction.execute("delete from things where size > :size", {"size": 1})
        return transaction.changes()

    assert await database.run(fill) == 2
    assert await database.read(lambda t: list(t.execute("select * from things"))) == [("a", 1)]


async def test_reading_cannot_write(database: SqliteDatabase) -> None:
    with pytest.raises(StorageError):
        await database.read(add, "a")
    assert await database.run(names) == []


async def test_a_reader_sees_one_moment_while_others_write(database: SqliteDatabase) -> None:
    looked, written = threading.Event(), threading.Event()

    def look_twice(transaction: Transaction) -> tuple[list[str], list[str]]:
        before = names(transaction)
        looked.set()
        assert written.wait(10)
        return before, names(transaction)

    seen = []

    async def read() -> None:
        seen.append(await database.read(look_twice))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.to_thread.run_sync(looked.wait, 10)
        await database.run(add, "a")
        written.set()
    assert seen == [([], [])]
    assert await database.read(names) == ["a"]


async def test_a_taken_name_is_a_constraint_violation_inside_and_outside_the_transaction(
    database: SqliteDatabase,
) -> None:
    def add_twice(transaction: Transaction) -> str:
        add(transaction, "a")
        try:
            add(transaction, "a")
        except ConstraintViolation as error:
            return error.constraint
        return ""

    assert "things.name" in await database.run(add_twice)
    for write in (database.run, database.write_grouped):
        with pytest.raises(ConstraintViolation) as caught:
            await write(add, "a")
        assert "things.name" in caught.value.constraint
    assert await database.read(names) == ["a"]


async def test_an_error_met_while_rows_are_read_is_translated_too(database: SqliteDatabase) -> None:
    def fail_at_the_second_row(transaction: Transaction) -> list[object]:
        numbers = "with n(i) as (values (1), (-9223372036854775808)) select abs(i) from n"
        return list(transaction.execute(numbers))

    for use in (database.run, database.read, database.write_grouped):
        with pytest.raises(StorageError):
            await use(fail_at_the_second_row)


async def test_wrong_sql_is_a_storage_error_and_harms_nobody(database: SqliteDatabase) -> None:
    with pytest.raises(StorageError):
        await database.run(lambda t: t.execute("selekt 1"))
    with pytest.raises(KeyError):
        await database.run(lambda t: t.execute("insert into things values (:name, :size)", {"name": "a"}))
    assert await database.run(add, "a") == "a"


async def test_a_transaction_ended_from_inside_is_refused(database: SqliteDatabase) -> None:
    with pytest.raises(StorageError):
        await database.run(lambda t: t.execute("commit"))
    assert await database.run(add, "a") == "a"


async def test_foreign_keys_hold(database: SqliteDatabase) -> None:
    await database.run(lambda t: t.execute("create table parts (thing text references things (name))"))
    with pytest.raises(ConstraintViolation):
        await database.run(lambda t: t.execute("insert into parts values ('nothing')"))


async def test_cancelled_fifty_times_it_leaves_no_transaction_open(database: SqliteDatabase) -> None:
    for _ in range(50):
        with trio.move_on_after(0.002) as scope:
            await database.run(endless)
        assert scope.cancelled_caught
    assert await database.run(names) == []
    for number in range(50):
        with trio.CancelScope() as scope:
            scope.cancel()
            await database.run(add, f"thing {number}")
    # Committed or not, each as a whole; and the database goes on.
    await database.run(add, "last")
    assert "last" in await database.read(names)


async def test_a_cancelled_read_frees_the_reader(database: SqliteDatabase) -> None:
    for _ in range(20):
        with trio.move_on_after(0.002) as scope:
            await database.read(
                lambda t: t.all("with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n")
            )
        assert scope.cancelled_caught
    assert await database.read(names) == []


async def test_grouped_writes_all_come_through_each_with_its_own_result(database: SqliteDatabase) -> None:
    results = set()

    async def write(task: int) -> None:
        for number in range(20):
            results.add(await database.write_grouped(add, f"{task} {number}"))

    async with trio.open_nursery() as nursery:
        for task in range(50):
            nursery.start_soon(write, task)
    assert sorted(results) == await database.read(names)
    assert len(results) == 1000


async def test_one_that_fails_in_a_group_is_undone_alone(database: SqliteDatabase) -> None:
    failed = []

    def add_and_fail(transaction: Transaction, name: str) -> None:
        add(transaction, name)
        raise KeyError(name)

    async def fail(name: str) -> None:
        with pytest.raises(KeyError):
            await database.write_grouped(add_and_fail, name)
        failed.append(name)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(database.write_grouped, add, f"good {number}")
            nursery.start_soon(fail, f"bad {number}")
    assert len(failed) == 20
    assert len(await database.read(names)) == 20


async def test_cancelling_some_of_a_group_harms_no_other(database: SqliteDatabase) -> None:
    async def write(name: str, scope: trio.CancelScope) -> None:
        with scope:
            await database.write_grouped(add, name)

    scopes = [trio.CancelScope() for _ in range(100)]
    async with trio.open_nursery() as nursery:
        for number, scope in enumerate(scopes):
            nursery.start_soon(write, f"thing {number:03}", scope)
        await trio.lowlevel.checkpoint()
        for scope in scopes[::2]:
            scope.cancel()
    there = await database.read(names)
    assert {f"thing {number:03}" for number in range(1, 100, 2)} <= set(there)
    assert await database.write_grouped(add, "last") == "last"


async def test_more_grouped_writes_than_the_queue_holds_wait_their_turn(database: SqliteDatabase) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(2000):
            nursery.start_soon(database.write_grouped, add, f"thing {number}")
    assert await database.read(lambda t: t.one("select count(*) from things")) == (2000,)


async def test_a_closed_database_says_so_and_leaves_no_thread(tmp_path: Path) -> None:
    threads = threading.active_count()
    async with open_sqlite(tmp_path / "a.db") as database:
        assert threading.active_count() == threads + 2
    with pytest.raises(StorageError):
        await database.run(names)
    with pytest.raises(StorageError):
        await database.read(names)
    with pytest.raises(StorageError):
        await database.write_grouped(names)
    with trio.move_on_after(10):
        while threading.active_count() > threads:  # the last one may still be on its way out
            await trio.lowlevel.checkpoint()
    assert threading.active_count() == threads


async def test_cancelled_while_opening_it_leaves_no_thread(tmp_path: Path) -> None:
    threads = threading.active_count()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_sqlite(tmp_path / "a.db"):
            await trio.sleep_forever()
    with trio.move_on_after(10):
        while threading.active_count() > threads:
            await trio.lowlevel.checkpoint()
    assert threading.active_count() == threads


async def test_an_error_inside_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with open_sqlite(tmp_path / "a.db"):
            raise KeyError("mine")


async def test_the_file_is_for_its_owner_alone_and_in_wal_mode(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "a.db") as database:
        await database.run(lambda t: t.execute("create table a (b)"))
        for name in ("a.db", "a.db-wal", "a.db-shm"):
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert await database.run(lambda t: t.one("pragma journal_mode")) == ("wal",)
        assert await database.run(lambda t: t.one("pragma synchronous")) == (1,)
        assert await database.run(lambda t: t.one("pragma foreign_keys")) == (1,)
    async with open_sqlite(tmp_path / "b.db", synchronous="full") as database:
        assert await database.run(lambda t: t.one("pragma synchronous")) == (2,)


async def test_a_file_that_is_no_database_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(StorageError):
        async with open_sqlite(tmp_path / "a.db"):
            pass


async def test_a_corrupt_file_is_a_storage_error(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with open_sqlite(path) as database:
        await database.run(lambda t: t.execute("create table a (b)"))
        await database.run(lambda t: t.execute_many("insert into a values (?)", [("x" * 1000,)] * 1000))
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(200_000))
    async with open_sqlite(path) as database:
        with pytest.raises(StorageError):
            await database.read(lambda t: t.all("select * from a"))


async def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        async with open_sqlite(tmp_path / "nowhere" / "a.db"):
            pass


async def test_a_lock_held_for_a_moment_by_another_program_is_waited_for(database: SqliteDatabase) -> None:
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("begin immediate")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.run, add, "a")
        await trio.testing.wait_all_tasks_blocked()
        other.execute("commit")
    other.close()
    assert await database.read(names) == ["a"]


async def test_a_database_opened_for_reading_shows_what_others_write_and_takes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        async with open_sqlite_read_only(tmp_path / "a.db"):
            pass
    assert not (tmp_path / "a.db").exists()
    async with open_sqlite(tmp_path / "a.db") as writing, open_sqlite_read_only(tmp_path / "a.db") as reading:
        await writing.run(lambda t: t.execute("create table a (b)"))
        for write in (reading.run, reading.write_grouped):
            with pytest.raises(StorageError):
                await write(lambda t: t.execute("insert into a values (1)"))
        await writing.run(lambda t: t.execute("insert into a values (2)"))
        assert await reading.read(lambda t: t.all("select b from a")) == [(2,)]
