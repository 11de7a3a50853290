"""The audit log: who did what, from where, and what came of it. Rows are only added, and chained by hashes.

How a row is hashed and what a check finds is told in audit_chain.py, the SQL stands in audit_store.py.
"""

import json
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import trio

from clonk_core.clock_text import clock_text
from clonk_core.config.settings import AuditSettings
from clonk_core.errors import ClonkError, InvalidParams
from clonk_core.gateway import audit_store as store
from clonk_core.gateway.audit_chain import SWEEP, ChainCheck, Values, body_of, read_head
from clonk_core.gateway_messages import AuditEntry, AuditFilters, AuditReport, AuditRow
from clonk_core.interfaces.host import Log
from clonk_core.interfaces.storage import CoreDatabase, Row, Transaction
from clonk_core.messages import Caller

POLL_S: Final = 1.0
"""How often a follower looks for the rows of other processes, in seconds; those of this one wake it."""

SWEEP_EVERY_S: Final = 3600.0

DROP_AT_ONCE: Final = 1000
"""Rows dropped in one transaction, so that no writer waits long for the sweep."""

_FOLLOW_PAGE: Final = 500
_VERIFY_PAGE: Final = 256
"""Rows held at a time; one is seldom more than 2 KiB, and never more than about 130."""

_SERVER: Final = Caller(id="service:clonk", kind="service")
"""Who drops old rows."""


def utc_now() -> datetime:
    """Return the clock time, in UTC."""
    return datetime.now(UTC)


class AuditLog:
    """The audit log in one database; implements `interfaces.AuditWriter` and `interfaces.AuditReader`.

    Nothing of it is kept in memory, so that several processes may write into the same database.

    Args:
        database: `clonk.db`.
        retention_days: How long rows are kept.
        clock: Gives the time of day, with its zone.
    """

    def __init__(
        self, database: CoreDatabase, *, retention_days: float = math.inf, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._retention_days = retention_days
        self._clock = clock
        # Set at the next row of this process; None while nobody waits for one.
        self._written: trio.Event | None = None

    async def write(self, entry: AuditEntry) -> None:
        """Write one row and return when it is committed.

        Cancelled while it waits for others' commit, nothing is written; once its own has begun, it is.

        Raises:
            StorageFull, StorageError: It is not kept.
        """
        values, body = _prepared(entry, self._clock())
        await self._database.write_small(store.append, values, body)
        if self._written is not None:
            self._written.set()
            self._written = None

    async def query(
        self, filters: AuditFilters, *, limit: int, before: int | None = None, after: int | None = None
    ) -> Sequence[AuditRow]:
        """Return rows, newest first, or oldest first behind `after`; see `interfaces.AuditReader`."""
        if after is not None:
            if before is not None:
                raise InvalidParams("give `before` for older rows or `after` for newer ones, not both", path="$.before")
            return await self._gathered(store.newer, filters, after, limit)
        return await self._gathered(store.older, filters, before, limit)

    async def _gathered(
        self,
        look: Callable[[Transaction, AuditFilters, Any, int], store.Window],
        filters: AuditFilters,
        begin: int | None,
        limit: int,
    ) -> Sequence[AuditRow]:
        """Read one window of the table after the other until there are enough rows."""
        rows: list[Row] = []
        while True:
            window = await self._database.read(look, filters, begin, limit - len(rows))
            rows += window.rows
            begin = window.reached
            if window.is_last or len(rows) == limit:
                return [store.audit_row(row) for row in rows]

    def follow(self, filters: AuditFilters, *, after: int | None = None) -> AsyncIterator[AuditRow]:
        """Iterate over the rows behind `after` as they come; see `interfaces.AuditReader`."""
        return _Follower(self, filters, after)

    async def newest(self) -> int:
        """Return the number of the newest row."""
        return await self._database.read(store.newest)

    async def next_rows(self, filters: AuditFilters, after: int) -> tuple[Sequence[AuditRow], int]:
        """Return the next rows behind `after`, waiting up to `POLL_S` for one, and up to where was looked."""
        # Before the look, so that a row written behind it is not missed.
        if self._written is None:
            self._written = trio.Event()
        written = self._written
        window = await self._database.read(store.newer, filters, after, _FOLLOW_PAGE)
        if window.is_last and not window.rows:
            with trio.move_on_after(POLL_S):
                await written.wait()
        return [store.audit_row(row) for row in window.rows], window.reached

    async def verify(self, *, expect_head: str | None = None) -> AuditReport:
        """Walk along the whole chain, in pages; see `interfaces.AuditReader`.

        Rows that are written meanwhile are checked, too; those that retention drops meanwhile are passed over.
        """
        expected = None if expect_head is None else read_head(expect_head)
        # From the very beginning, to find rows that should have been dropped.
        anchor, rows = await self._database.read(store.chain_page, -1, _VERIFY_PAGE)
        check = ChainCheck(anchor, expected)
        while True:
            for row in rows:
                check.feed(row)
            if len(rows) < _VERIFY_PAGE:
                return check.report(anchor)
            anchor, rows = await self._database.read(store.chain_page, check.last_seq, _VERIFY_PAGE)
            if anchor.seq > check.last_seq:
                check.skip_to(anchor)

    async def sweep(self, now: datetime) -> int:
        """Drop the rows that are older than retention allows; return how many.

        Raises:
            StorageFull, StorageError: Not all of them could be dropped.
        """
        before = clock_text(now - timedelta(days=self._retention_days))
        told, _ = _prepared(AuditEntry(kind="system", caller=_SERVER, action=SWEEP), now)
        total = 0
        while dropped := await self._database.run(store.drop_oldest, before, DROP_AT_ONCE, told):
            total += dropped
        return total

    async def sweep_for_ever(self, log: Log) -> None:
        """Drop old rows now and every hour; what goes wrong is logged, and tried again."""
        while True:
            try:
                dropped = await self.sweep(self._clock())
            except ClonkError as error:
                log.warning("old audit rows could not be dropped", reason=str(error))
            else:
                if dropped:
                    log.info("old audit rows dropped", rows=dropped)
            await trio.sleep(SWEEP_EVERY_S)


class _Follower:
    """Rows as they come. No generator: nothing has to be closed when its reader leaves."""

    def __init__(self, log: AuditLog, filters: AuditFilters, after: int | None) -> None:
        self._log = log
        self._filters = filters
        self._after = after
        self._rows: deque[AuditRow] = deque()

    def __aiter__(self) -> "_Follower":
        return self

    async def __anext__(self) -> AuditRow:
        if self._after is None:
            self._after = await self._log.newest()
        while not self._rows:
            rows, self._after = await self._log.next_rows(self._filters, self._after)
            self._rows.extend(rows)
        return self._rows.popleft()


@asynccontextmanager
async def open_audit(
    database: CoreDatabase, settings: AuditSettings, *, log: Log, clock: Callable[[], datetime] = utc_now
) -> AsyncIterator[AuditLog]:
    """Give the audit log of a database, and drop its old rows as long as the context is open."""
    audit = AuditLog(database, retention_days=settings.retention_days, clock=clock)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(audit.sweep_for_ever, log)
        try:
            yield audit
        except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery that would wrap it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _prepared(entry: AuditEntry, now: datetime) -> tuple[Values, bytes]:
    """Return the values of a row, with the types that the database gives back, and the same as they are hashed."""
    caller = entry.caller
    duration_ms = entry.duration_ms
    values: Values = (
        clock_text(now),
        entry.kind,
        caller.tenant,
        caller.id,
        caller.kind,
        entry.transport,
        entry.peer,
        entry.action,
        entry.target,
        entry.outcome,
        float(duration_ms) if duration_ms is not None and math.isfinite(duration_ms) else None,
        entry.request_bytes,
        entry.answer_bytes,
        entry.run_id,
        entry.request_id,
        _detail_text(entry.detail),
    )
    try:
        return values, body_of(values)
    except TypeError:  # half of a surrogate pair, which no UTF-8 has
        values = tuple(_whole(value) if isinstance(value, str) else value for value in values)
        return values, body_of(values)


def _detail_text(detail: Mapping[str, Any]) -> str:
    if not detail:
        return "{}"
    try:
        return orjson.dumps(detail).decode()
    except TypeError:  # integers beyond 64 bits, half surrogates, mappings that are no dict
        return _whole(json.dumps(dict(detail), ensure_ascii=False, separators=(",", ":"), default=str))


def _whole(text: str) -> str:
    return text.encode(errors="replace").decode()
