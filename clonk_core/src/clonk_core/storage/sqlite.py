"""One SQLite database on trio: a thread that writes, a thread that reads, and a shared commit for small writes.

Settings of every connection, and why:
- WAL, so that readers do not wait for the writer.
- `synchronous` NORMAL: what was committed survives a crash or `kill -9` of the process, and the file is never
  corrupt; a power cut or a crash of the operating system may take the last commits with it. FULL survives that too,
  at a third less grouped writes and an eighth of the single ones a second; `open_sqlite` takes it as an argument.
- `busy_timeout` 5 s, for another program (`sqlite3`, a backup) that holds the file for a moment.
- `foreign_keys` on, `journal_size_limit` 64 MiB, so that one large transaction does not leave a large file behind.
"""

import math
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Concatenate, Final, Literal, ParamSpec, TypeVar

import apsw
import apsw.aio
import trio

from clonk_core.errors import StorageError
from clonk_core.interfaces.storage import Transaction
from clonk_core.metrics import NO_METRICS, Metrics
from clonk_core.storage.direct import DirectWriter, NotNow
from clonk_core.storage.errors_of_sqlite import translate, translate_os
from clonk_core.storage.group_commit import GroupCommit, Job, run_group
from clonk_core.storage.migrate import MigrationPlan, migrate, read_migrations
from clonk_core.storage.transaction import run_transaction

P = ParamSpec("P")
T = TypeVar("T")

Synchronous = Literal["normal", "full"]

_BUSY_TIMEOUT_MS: Final = 5000
_JOURNAL_LIMIT_BYTES: Final = 64 * 1024 * 1024


class SqliteDatabase:
    """One package's database; implements `interfaces.Database`. Made by `open_sqlite`."""

    def __init__(
        self,
        name: str,
        path: Path,
        writer: "apsw.AsyncConnection",
        reader: "apsw.AsyncConnection",
        metrics: Metrics = NO_METRICS,
        *,
        synchronous: Synchronous = "normal",
    ) -> None:
        self._name = name
        self._path = path
        self._writer = writer
        self._reader = reader
        self._writing = trio.Lock()
        self._grouped = GroupCommit(self._commit_group)
        self._direct = DirectWriter(path, synchronous)
        self._closed = False
        self._metrics = metrics

    @property
    def name(self) -> str:
        """Name without the ending: `arbor`."""
        return self._name

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    async def run(self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(transaction, *args)` as one transaction: committed when it returns, rolled back when it raises.

        When the caller is cancelled while the function runs, the transaction may commit all the same.

        Raises:
            StorageFull: The disk is full; nothing was kept.
            StorageError: The database is broken or closed.
        """
        bound = partial(_call, function, args, kwargs)
        began = time.perf_counter()
        try:
            async with self._writing:
                return await self._on_thread(self._writer, run_transaction, self._path, "begin immediate", bound)
        finally:
            self._metrics.database_used(self._name, "run", time.perf_counter() - began)

    async def read(self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(transaction, *args)` on a read-only connection, beside writers, with one consistent view."""
        bound = partial(_call, function, args, kwargs)
        began = time.perf_counter()
        try:
            return await self._on_thread(self._reader, run_transaction, self._path, "begin", bound)
        finally:
            self._metrics.database_used(self._name, "read", time.perf_counter() - began)

    async def write_grouped(
        self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like `run`, sharing its commit with whatever else is waiting: for many small writes at the same time.

        Each function is isolated by a savepoint: one that raises is undone alone. It may run twice, the first time
        undone, so it must do nothing but work in the database.
        """
        began = time.perf_counter()
        try:
            result: T = await self._grouped.write(partial(_call, function, args, kwargs))
            return result
        finally:
            self._metrics.database_used(self._name, "grouped", time.perf_counter() - began)

    async def write_small(
        self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like `write_grouped`, for a row that somebody waits for and that is small: it must take some 10 us.

        When nobody else is writing it is done here and now, without a checkpoint; else with the others.
        """
        if not self._writing.locked() and not self._closed:
            began = time.perf_counter()
            try:
                return self._direct.write(partial(_call, function, args, kwargs))
            except NotNow:
                pass
            finally:
                self._metrics.database_used(self._name, "direct", time.perf_counter() - began)
        return await self.write_grouped(function, *args, **kwargs)

    async def _commit_group(self, jobs: Sequence[Job]) -> None:
        try:
            async with self._writing:
                await self._on_thread(self._writer, run_group, self._path, jobs)
        except StorageError as error:
            for job in jobs:
                job.error = error

    async def _on_thread(self, connection: "apsw.AsyncConnection", call: Callable[..., T], *args: object) -> T:
        """Run `call(connection, *args)` on the connection's thread, where it is a plain one."""
        if self._closed:
            raise StorageError(f"{self._path} is closed")
        # Cancellation alone stops SQL: given a deadline, apsw raises TooSlowError where `Cancelled` is due.
        token = apsw.aio.deadline.set(math.inf)
        try:
            result: T = await connection.async_run(call, connection, *args)
        finally:
            apsw.aio.deadline.reset(token)
        return result

    async def aclose(self) -> None:
        """Wait for the transaction that is running and close; a connection left open would keep the process alive."""
        with trio.CancelScope(shield=True):
            async with self._writing:
                self._closed = True
                self._direct.close()
                await self._reader.aclose()
                await self._writer.aclose()


@asynccontextmanager
async def open_sqlite(
    path: Path,
    name: str | None = None,
    *,
    migrations: Sequence[str] = (),
    synchronous: Synchronous = "normal",
    metrics: Metrics = NO_METRICS,
) -> AsyncIterator[SqliteDatabase]:
    """Open a database, made and migrated when there is need, and close it at the end.

    Args:
        path: The file; its folder must be there.
        name: Name without ending; the file's when None.
        migrations: Dotted names of packages with numbered SQL files.
        synchronous: `normal` survives a crash of the process, `full` also one of the machine; see the top of this file.
        metrics: Measure how long it takes.

    Raises:
        StorageFull: The disk is full.
        StorageError: No database, corrupt, not writable, newer than this program, or a migration does not fit.
    """
    plans = [read_migrations(package) for package in migrations]
    # Shielded: a connection whose opening is cancelled would leave its thread behind. Bounded by the busy timeout.
    with trio.CancelScope(shield=True):
        writer = await _connect(path, partial(_prepare_writer, path=path, synchronous=synchronous, plans=plans))
        try:
            reader = await _connect(path, _prepare_reader, flags=apsw.SQLITE_OPEN_READONLY)
        except BaseException:
            await writer.aclose()
            raise
    database = SqliteDatabase(name or path.stem, path, writer, reader, metrics, synchronous=synchronous)
    try:
        yield database
    finally:
        await database.aclose()


@asynccontextmanager
async def open_sqlite_read_only(path: Path, name: str | None = None) -> AsyncIterator[SqliteDatabase]:
    """Open a database that is there for reading, beside whoever writes it. It is neither made nor migrated.

    Beside a database that nobody has open, SQLite makes its two helper files (`-wal`, `-shm`) anew, empty.

    Args:
        path: The file.
        name: Name without ending; the file's when None.

    Raises:
        StorageError: There is none, or it cannot be read.
    """
    with trio.CancelScope(shield=True):
        reader = await _connect(path, _prepare_reader, flags=apsw.SQLITE_OPEN_READONLY)
    # In the writer's place, too: whoever writes is told that the file cannot be written.
    database = SqliteDatabase(name or path.stem, path, reader, reader)
    try:
        yield database
    finally:
        await database.aclose()


async def _connect(
    path: Path,
    prepare: Callable[[apsw.Connection], None],
    flags: int = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE,
) -> "apsw.AsyncConnection":
    try:
        if flags & apsw.SQLITE_OPEN_CREATE:
            # Made by us, since SQLite would let everyone read it; its journal files take over the mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = await apsw.Connection.as_async(str(path), flags=flags)
    except apsw.Error as error:
        raise translate(error, path) from error
    except OSError as error:
        raise translate_os(error, path) from error
    try:
        await connection.async_run(prepare, connection)
    except apsw.Error as error:
        await connection.aclose()
        raise translate(error, path) from error
    except BaseException:
        await connection.aclose()
        raise
    return connection


def _prepare_writer(
    connection: apsw.Connection, *, path: Path, synchronous: Synchronous, plans: Sequence[MigrationPlan]
) -> None:
    connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
    _turn_wal_on(connection)
    connection.execute(f"pragma synchronous = {synchronous}")
    connection.execute(f"pragma journal_size_limit = {_JOURNAL_LIMIT_BYTES}")
    # Off while migrating, so that a table can be rebuilt; each migration is checked before its commit.
    connection.execute("pragma foreign_keys = off")
    for plan in plans:
        migrate(connection, path, plan)
    connection.execute("pragma foreign_keys = on")


def _turn_wal_on(connection: apsw.Connection) -> None:
    """Turn WAL on, waiting for others that open the same new file: SQLite's busy timeout does not hold for this."""
    give_up_at = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("pragma journal_mode = wal")
        except apsw.BusyError:
            if time.monotonic() >= give_up_at:
                raise
            time.sleep(0.005)
        else:
            return


def _prepare_reader(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
    connection.execute("pragma query_only = on")


def _call(
    function: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object], transaction: Transaction
) -> T:
    return function(transaction, *args, **kwargs)
