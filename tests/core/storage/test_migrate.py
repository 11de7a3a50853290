"""Numbered migrations."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from clonk_core.errors import StorageError
from clonk_core.storage.core_tables import open_core_database
from clonk_core.storage.sqlite import open_sqlite

MakePackage = Callable[..., str]


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePackage]:
    """Makes an importable package of migrations, `things_migrations`, anew with the files given."""
    root = tmp_path / "packages"
    package = root / "things_migrations"
    package.mkdir(parents=True)
    monkeypatch.syspath_prepend(root)

    def make(**files: str) -> str:
        for old in package.glob("*.sql"):
            old.unlink()
        (package / "__init__.py").write_text("")
        for name, sql in files.items():
            (package / f"{name.removeprefix('n')}.sql").write_text(sql)
        return "things_migrations"

    yield make
    sys.modules.pop("things_migrations", None)


async def test_migrations_are_applied_once_and_in_order(tmp_path: Path, make_package: MakePackage) -> None:
    first = "create table a (b text); insert into a values ('x');"
    async with open_sqlite(tmp_path / "a.db", migrations=[make_package(n0001_first=first)]) as database:
        assert await database.read(lambda t: t.all("select * from a")) == [("x",)]
    package = make_package(n0001_first=first, n0002_more="select 1; alter table a add column c integer default 7;")
    for _ in range(2):
        async with open_sqlite(tmp_path / "a.db", migrations=[package]) as database:
            assert await database.read(lambda t: t.all("select * from a")) == [("x", 7)]


async def test_a_migration_that_fails_is_undone_and_those_before_it_stay(
    tmp_path: Path, make_package: MakePackage
) -> None:
    good = "create table a (b text);"
    package = make_package(n0001_first=good, n0002_bad="create table c (d text); insert into nothing values (1);")
    with pytest.raises(StorageError):
        async with open_sqlite(tmp_path / "a.db", migrations=[package]):
            pass
    async with open_sqlite(tmp_path / "a.db") as database:
        tables = await database.read(lambda t: t.all("select name from sqlite_schema where type = 'table'"))
        assert ("a",) in tables
        assert ("c",) not in tables


async def test_a_database_newer_than_the_program_is_refused(tmp_path: Path, make_package: MakePackage) -> None:
    first, second = "create table a (b text);", "create table c (d text);"
    async with open_sqlite(tmp_path / "a.db", migrations=[make_package(n0001_first=first, n0002_more=second)]):
        pass
    with pytest.raises(StorageError):
        async with open_sqlite(tmp_path / "a.db", migrations=[make_package(n0001_first=first)]):
            pass


async def test_a_file_changed_after_it_was_applied_is_refused(tmp_path: Path, make_package: MakePackage) -> None:
    async with open_sqlite(tmp_path / "a.db", migrations=[make_package(n0001_first="create table a (b text);")]):
        pass
    with pytest.raises(StorageError):
        async with open_sqlite(tmp_path / "a.db", migrations=[make_package(n0001_first="create table a (c text);")]):
            pass


@pytest.mark.parametrize("names", [["n0002_first"], ["n0001_first", "n0003_third"], ["n0001_a", "n0001_b"], ["nfirst"]])
async def test_gaps_doubles_and_other_names_are_refused(
    tmp_path: Path, make_package: MakePackage, names: list[str]
) -> None:
    package = make_package(**dict.fromkeys(names, "select 1;"))
    with pytest.raises(StorageError):
        async with open_sqlite(tmp_path / "a.db", migrations=[package]):
            pass


async def test_a_migration_may_not_leave_a_reference_hanging(tmp_path: Path, make_package: MakePackage) -> None:
    package = make_package(
        n0001_first="create table a (b text primary key); create table c (d text references a); "
        "insert into c values ('nowhere');"
    )
    with pytest.raises(StorageError):
        async with open_sqlite(tmp_path / "a.db", migrations=[package]):
            pass


async def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        async with open_sqlite(tmp_path / "a.db", migrations=["no_such_package.migrations"]):
            pass


async def test_opened_by_many_at_once_each_migration_is_applied_once(tmp_path: Path) -> None:
    counts = []

    async def open_and_count() -> None:
        async with open_core_database(tmp_path) as database:
            counts.append(await database.read(lambda t: t.one("select count(*) from schema_migrations")))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(open_and_count)
    assert len(counts) == 8
    assert len(set(counts)) == 1
