"""Small writes on the loop's own thread: kept like all others, and never in anyone's way."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import apsw
import pytest
import trio

from clonk_core.errors import ConstraintViolation, StorageError, StorageFull
from clonk_core.interfaces.storage import Transaction
from clonk_core.storage.direct import LONG_WAY_EVERY
from clonk_core.storage.sqlite import SqliteDatabase, open_sqlite


def create(transaction: Transaction) -> None:
    transaction.execute("create table notes (number integer primary key, text text not null)")


def add(transaction: Transaction, number: int, text: str = "x") -> int:
    transaction.execute("insert into notes values (:number, :text)", {"number": number, "text": text})
    return number


def numbers(transaction: Transaction) -> list[int]:
    return [row[0] for row in transaction.execute("select number from notes order by number")]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    async with open_sqlite(tmp_path / "notes.db") as opened:
        await opened.run(create)
        yield opened


async def test_a_small_write_is_kept_when_it_returns(database: SqliteDatabase, tmp_path: Path) -> None:
    assert await database.write_small(add, 7) == 7
    other = apsw.Connection(str(tmp_path / "notes.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert other.execute("select number from notes").fetchall() == [(7,)]
    other.close()


async def test_one_that_raises_leaves_nothing_and_the_next_goes_on(database: SqliteDatabase) -> None:
    def fail(transaction: Transaction) -> None:
        add(transaction, 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write_small(fail)
    await database.write_small(add, 2)
    with pytest.raises(ConstraintViolation):
        await database.write_small(add, 2)
    assert await database.read(numbers) == [2]


async def test_beside_another_s_transaction_it_waits_without_holding_the_loop(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    other = apsw.Connection(str(tmp_path / "notes.db"))
    other.execute("begin immediate")
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.001)
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)

        async def write() -> None:
            await database.write_small(add, 1)
            nursery.cancel_scope.cancel()

        nursery.start_soon(write)
        while turns < 20:
            await trio.sleep(0.001)
        assert turns >= 20
        other.execute("commit")
    assert await database.read(numbers) == [1]
    other.close()


async def test_many_at_once_beside_other_writers_are_all_kept(database: SqliteDatabase) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(3 * LONG_WAY_EVERY):
            kinds: list[Callable[..., Awaitable[int]]] = [
                database.write_small,
                database.write_small,
                database.write_grouped,
            ]
            nursery.start_soon(kinds[number % 3], add, number)
    assert await database.read(numbers) == list(range(3 * LONG_WAY_EVERY))


async def test_the_log_of_writes_does_not_grow_without_end(database: SqliteDatabase, tmp_path: Path) -> None:
    for number in range(12 * LONG_WAY_EVERY):
        await database.write_small(add, number, "x" * 500)
    # 1000 pages are SQLite's own bound for a checkpoint, and a quarter of that may come between two of ours.
    assert (tmp_path / "notes.db-wal").stat().st_size < 3 * 1000 * 4096


async def test_a_full_disk_is_told_and_room_helps(small_disk: Path, fill_the_disk: Callable[[Path], None]) -> None:
    async with open_sqlite(small_disk / "notes.db") as database:
        await database.run(create)
        await database.write_small(add, 0)
        fill_the_disk(small_disk / "ballast")
        with pytest.raises(StorageFull):
            for number in range(1, 2000):
                await database.write_small(add, number, "x" * 2000)
        (small_disk / "ballast").unlink()
        await database.write_small(add, 5000)
        assert (await database.read(numbers))[-1] == 5000


async def test_after_the_end_it_is_refused(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "notes.db") as database:
        await database.run(create)
        await database.write_small(add, 1)
    with pytest.raises(StorageError):
        await database.write_small(add, 2)
