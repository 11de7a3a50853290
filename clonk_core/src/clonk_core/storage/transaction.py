"""One transaction on one SQLite connection, run whole on the connection's own thread. Nothing here is async."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import apsw

from clonk_core.errors import StorageError
from clonk_core.interfaces.storage import Bindings, Row
from clonk_core.storage.errors_of_sqlite import translate

T = TypeVar("T")


class SqliteTransaction:
    """The open transaction that a function is given; implements `interfaces.Transaction`.

    Errors of SQLite leave every method as ours: `ConstraintViolation`, `StorageFull`, `StorageError`.
    """

    __slots__ = ("_connection", "_path")

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def execute(self, sql: str, bindings: Bindings = ()) -> Iterator[Row]:
        """Run one statement and return an iterator over its rows."""
        try:
            return self._connection.execute(sql, bindings)
        except apsw.Error as error:
            raise translate(error, self._path) from error

    def execute_many(self, sql: str, rows: Sequence[Bindings]) -> None:
        """Run one statement once for each set of bindings."""
        try:
            self._connection.executemany(sql, rows)
        except apsw.Error as error:
            raise translate(error, self._path) from error

    def one(self, sql: str, bindings: Bindings = ()) -> Row | None:
        """Return the first row, or None."""
        try:
            row: Row | None = self._connection.execute(sql, bindings).fetchone()
        except apsw.Error as error:
            raise translate(error, self._path) from error
        return row

    def all(self, sql: str, bindings: Bindings = ()) -> list[Row]:
        """Return all rows."""
        try:
            return self._connection.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            raise translate(error, self._path) from error

    def changes(self) -> int:
        """Return how many rows the last statement inserted, updated or deleted."""
        return self._connection.changes()


def run_transaction(
    connection: apsw.Connection,
    path: Path,
    begin: Literal["begin immediate", "begin"],
    function: Callable[[SqliteTransaction], T],
) -> T:
    """Run `function` as one transaction: committed when it returns, rolled back when it raises anything at all.

    `begin immediate` for writers: a transaction that reads first and writes later gets BUSY at once, whatever the
    busy timeout, when another has written in between.

    Raises:
        StorageFull: The disk is full; nothing was kept.
        StorageError: The database does not do what it must.
    """
    try:
        connection.execute(begin)
        try:
            result = function(SqliteTransaction(connection, path))
            if not connection.in_transaction:
                raise StorageError(f"{path.name}: a transaction was ended from inside; leave that to the database")
            connection.execute("commit")
        finally:
            roll_back(connection)
    except apsw.Error as error:
        raise translate(error, path) from error
    return result


def roll_back(connection: apsw.Connection) -> None:
    """Undo the open transaction, if there is one.

    Runs until there is none: an interrupt meant for the statement before can hit the rollback.
    """
    while connection.in_transaction:
        try:
            connection.execute("rollback")
        except apsw.InterruptError:
            continue
