"""Small writes on the event loop's own thread.

A commit takes 15 us there; the way to the database's thread and back takes ten times that.

It never waits: where another connection is writing, or something is wrong, it says so, and the caller takes the long
way. Only what is small belongs here: the loop stands still meanwhile.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import apsw

from clonk_core.errors import StorageFull
from clonk_core.storage.errors_of_sqlite import translate
from clonk_core.storage.transaction import SqliteTransaction, roll_back

T = TypeVar("T")

LONG_WAY_EVERY: Final = 256
"""Every so many writes one takes the long way: its commit moves the write-ahead log into the database when that has
grown, which syncs the disk and must not hold the loop."""


class NotNow(Exception):
    """Another connection is writing, or the long way is due."""


class DirectWriter:
    """A connection for small writes. Opened when it is first needed; for the loop's thread alone.

    Args:
        path: The file, which is open and migrated already.
        synchronous: As for the database's own writer.
    """

    def __init__(self, path: Path, synchronous: str) -> None:
        self._path = path
        self._synchronous = synchronous
        self._connection: apsw.Connection | None = None
        self._count = 0

    def write(self, function: Callable[[SqliteTransaction], T]) -> T:
        """Run `function` as one transaction, here and now.

        Raises:
            NotNow: It cannot be done without waiting; nothing was done.
            StorageFull, StorageError: It went wrong; nothing was kept.
        """
        self._count += 1
        if self._count % LONG_WAY_EVERY == 0:
            raise NotNow
        try:
            connection = self._connection or self._open()
            connection.execute("begin immediate")
        except apsw.Error as error:
            raise NotNow from error
        try:
            result = function(SqliteTransaction(connection, self._path))
            connection.execute("commit")
        except apsw.BusyError as error:
            raise NotNow from error
        except apsw.Error as error:
            raise translate(error, self._path) from error
        except StorageFull as error:
            raise NotNow from error  # the long way may still find room: the log is checkpointed there
        finally:
            roll_back(connection)
        return result

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> apsw.Connection:
        connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(0)
        connection.execute(f"pragma synchronous = {self._synchronous}")
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma wal_autocheckpoint = 0")
        self._connection = connection
        return connection
