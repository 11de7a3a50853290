"""Databases, as the rooms and the plugins see them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Row = tuple[Any, ...]
Bindings = Mapping[str, Any] | Sequence[Any]


class Transaction(Protocol):
    """One open transaction, given to the plain function that `Database.run` calls on the database's thread.

    SQL is written once with `:name` parameters. The function must not keep the object after it returns.
    """

    def execute(self, sql: str, bindings: Bindings = ()) -> Iterator[Row]:
        """Run one statement and return an iterator over its rows (run to the end for statements without rows)."""

    def execute_many(self, sql: str, rows: Sequence[Bindings]) -> None:
        """Run one statement once for each set of bindings."""

    def one(self, sql: str, bindings: Bindings = ()) -> Row | None:
        """Return the first row, or None."""

    def all(self, sql: str, bindings: Bindings = ()) -> list[Row]:
        """Return all rows."""

    def changes(self) -> int:
        """Return how many rows the last statement inserted, updated or deleted."""


class Database(Protocol):
    """One package's database (`arbor.db`)."""

    @property
    def name(self) -> str:
        """Name without the ending: `arbor`."""

    async def run(self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(transaction, *args)` as one transaction: committed when it returns, rolled back when it raises.

        When the caller is cancelled while the function runs, the transaction may commit all the same.

        Raises:
            StorageFull: The disk is full; nothing was kept.
            StorageError: The database is broken or closed.
        """

    async def read(self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(transaction, *args)` on a read-only connection, beside writers, with one consistent view."""

    async def write_grouped(
        self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like `run`, sharing its commit with whatever else is waiting: for many small writes at the same time.

        Each function is isolated by a savepoint: one that raises is undone alone.
        """

    async def write_small(
        self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like `write_grouped`, for a small write that somebody waits for: it must take some 10 us, a few rows at most.

        When nobody else is writing it is done here and now, on the event loop's thread, which stands still meanwhile;
        else with the others.
        """


class CoreDatabase(Database, Protocol):
    """The core's own database, which every call at the door writes a row into."""
