"""Migrations: numbered SQL files, applied in order, each in one transaction, each remembered with its checksum."""

import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import Final

import apsw
import attrs

from clonk_core.errors import StorageError
from clonk_core.storage.transaction import SqliteTransaction, run_transaction

_FILE_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

_MAKE_TABLE: Final = """
create table if not exists schema_migrations (
    package text not null,
    number bigint not null,
    name text not null,
    checksum text not null,
    applied_at text not null,
    primary key (package, number)
)
"""
_HAS_TABLE: Final = "select 1 from sqlite_schema where type = 'table' and name = 'schema_migrations'"
_APPLIED: Final = "select number, name, checksum from schema_migrations where package = :package order by number"
_REMEMBER: Final = """
insert into schema_migrations (package, number, name, checksum, applied_at)
values (:package, :number, :name, :checksum, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
"""
_BROKEN_REFERENCE: Final = 'select "table", parent from pragma_foreign_key_check limit 1'


@attrs.frozen(kw_only=True)
class Migration:
    """One numbered file.

    Attributes:
        number: From 1 without gaps.
        name: The file's name, `0001_first.sql`.
        sql: Its text.
        checksum: SHA-256 over the text, in hex.
    """

    number: int
    name: str
    sql: str
    checksum: str


@attrs.frozen(kw_only=True)
class MigrationPlan:
    """The migrations of one package, in order."""

    package: str
    migrations: tuple[Migration, ...]


def read_migrations(package: str) -> MigrationPlan:
    """Return the numbered SQL files of a package.

    Args:
        package: Dotted name, such as `clonk_arbor.migrations`.

    Raises:
        StorageError: There is no such package, a file is named otherwise, or a number is missing or there twice.
    """
    try:
        files = sorted(
            (entry for entry in resources.files(package).iterdir() if entry.name.endswith(".sql")),
            key=lambda entry: entry.name,
        )
    except ModuleNotFoundError as error:
        raise StorageError(f"there is no package {package!r} with migrations") from error
    migrations = []
    for expected, entry in enumerate(files, start=1):
        match = _FILE_NAME.fullmatch(entry.name)
        if match is None:
            raise StorageError(f"{package}: {entry.name} must be named like 0001_first.sql")
        if int(match[1]) != expected:
            raise StorageError(f"{package}: {entry.name} comes where number {expected:04} is due; number without gaps")
        # Line endings apart: a checkout on another system is no change.
        sql = entry.read_text(encoding="utf-8").replace("\r\n", "\n")
        checksum = hashlib.sha256(sql.encode()).hexdigest()
        migrations.append(Migration(number=expected, name=entry.name, sql=sql, checksum=checksum))
    return MigrationPlan(package=package, migrations=tuple(migrations))


def migrate(connection: apsw.Connection, path: Path, plan: MigrationPlan) -> None:
    """Bring the database up to date, on its own thread. Several processes may do so at the same time.

    Raises:
        StorageError: The database is newer than the program, or a file that was applied has changed since.
        apsw.Error: A migration does not fit the database; it is undone and those before it stay.
    """
    # Looked at without a write transaction first: the usual start has nothing to do.
    if connection.execute(_HAS_TABLE).fetchone() is None:
        connection.execute(_MAKE_TABLE)
    done = run_transaction(connection, path, "begin", lambda transaction: _count_applied(transaction, path, plan))
    while done < len(plan.migrations):
        done = run_transaction(
            connection, path, "begin immediate", lambda transaction: _apply_next(transaction, path, plan)
        )


def _count_applied(transaction: SqliteTransaction, path: Path, plan: MigrationPlan) -> int:
    """Return how many of the plan's migrations the database has, after checking that they are the same."""
    applied = transaction.all(_APPLIED, {"package": plan.package})
    if len(applied) > len(plan.migrations):
        raise StorageError(
            f"{path} was made by a newer version of {plan.package.split('.')[0]} (it has {applied[-1][1]}); "
            "install that version again, or restore a backup from before the upgrade"
        )
    for migration, (_, name, checksum) in zip(plan.migrations, applied, strict=False):
        if migration.checksum != checksum:
            raise StorageError(
                f"{plan.package}: {migration.name} is not what was applied to {path} as {name}; a migration that was "
                "applied never changes: undo the change and add a new file"
            )
    return len(applied)


def _apply_next(transaction: SqliteTransaction, path: Path, plan: MigrationPlan) -> int:
    """Apply the first migration that is missing, looked for again now that nobody else can write."""
    done = _count_applied(transaction, path, plan)
    if done == len(plan.migrations):
        return done
    migration = plan.migrations[done]
    transaction.all(migration.sql)  # to the end: a statement with rows would stop those behind it
    if (broken := transaction.one(_BROKEN_REFERENCE)) is not None:
        raise StorageError(f"{plan.package}: {migration.name} leaves rows of {broken[0]} without their {broken[1]}")
    transaction.execute(
        _REMEMBER,
        {
            "package": plan.package,
            "number": migration.number,
            "name": migration.name,
            "checksum": migration.checksum,
        },
    )
    return done + 1
