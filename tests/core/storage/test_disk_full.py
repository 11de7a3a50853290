"""What the database does when the disk is full."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from clonk_core.errors import StorageFull
from clonk_core.interfaces.storage import Transaction
from clonk_core.storage.sqlite import open_sqlite


def fill(transaction: Transaction, size: int) -> None:
    transaction.execute("insert into a values (zeroblob(?))", (size,))


async def test_a_write_that_does_not_fit_is_undone_and_the_next_one_works(small_disk: Path) -> None:
    async with open_sqlite(small_disk / "a.db") as database:
        await database.run(lambda t: t.execute("create table a (b)"))
        for write in (database.run, database.write_grouped):
            with pytest.raises(StorageFull):
                await write(fill, 4_000_000)
            await write(fill, 100)
        assert await database.read(lambda t: t.one("select count(*) from a")) == (2,)


async def test_one_that_does_not_fit_takes_no_other_of_its_group_with_it(small_disk: Path) -> None:
    refused = []

    async with open_sqlite(small_disk / "a.db") as database:
        await database.run(lambda t: t.execute("create table a (b)"))

        async def write_too_much() -> None:
            with pytest.raises(StorageFull):
                await database.write_grouped(fill, 4_000_000)
            refused.append(1)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(database.write_grouped, fill, 100)
            nursery.start_soon(write_too_much)
            for _ in range(3):
                nursery.start_soon(database.write_grouped, fill, 100)
        assert refused == [1]
        assert await database.read(lambda t: t.one("select count(*) from a")) == (6,)


async def test_what_others_take_of_the_disk_is_told_and_works_again_when_they_let_go(
    small_disk: Path, fill_the_disk: Callable[[Path], None]
) -> None:
    async with open_sqlite(small_disk / "a.db") as database:
        await database.run(lambda t: t.execute("create table a (b)"))
        fill_the_disk(small_disk / "ballast")
        with pytest.raises(StorageFull):
            await database.run(fill, 100_000)
        (small_disk / "ballast").unlink()
        await database.run(fill, 100_000)


async def test_a_database_cannot_be_made_on_a_full_disk(
    small_disk: Path, fill_the_disk: Callable[[Path], None]
) -> None:
    fill_the_disk(small_disk / "ballast")
    with pytest.raises(StorageFull):
        async with open_sqlite(small_disk / "a.db"):
            pass
