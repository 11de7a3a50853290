"""Runs on disk: all SQL of the tables `runs` and `run_events` (defined in `storage/migrations`).

The database comes in as an `interfaces.Database`: rooms do not import each other.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import attrs

from clonk_core.interfaces.storage import Database, Transaction
from clonk_core.messages import Caller, Event
from clonk_core.metrics import NO_METRICS, Metrics
from clonk_core.runs.chunks import Chunk, unpack
from clonk_core.runs.endings import Ending
from clonk_core.runs.limits import MAX_BATCH_BYTES, MAX_BATCH_EVENTS

_INSERT_RUN: Final = """
insert into runs (id, tenant, caller, caller_kind, method, target, state, last_seq, stored_bytes, started_at,
    idempotency_key, request_digest)
values (:id, :tenant, :caller, :caller_kind, :method, :target, 'running', 0, 0, :started_at,
    :idempotency_key, :request_digest)
"""
_INSERT_CHUNK: Final = """
insert into run_events (run_id, first_seq, last_seq, payload_bytes, payloads)
values (:run_id, :first_seq, :last_seq, :payload_bytes, :payloads)
"""
_END_RUN: Final = """
update runs set state = 'done', outcome = :outcome, last_seq = :last_seq, ended_at = :ended_at,
    stored_bytes = (select coalesce(sum(payload_bytes), 0) from run_events where run_id = :id)
where id = :id and state = 'running'
"""
_CHUNKS_FROM: Final = """
select first_seq, last_seq, payload_bytes, payloads from run_events
where run_id = :run_id and first_seq >= coalesce(
    (select max(first_seq) from run_events where run_id = :run_id and first_seq <= :seq), 0)
order by first_seq
"""
_CHUNK_SIZES: Final = """
select last_seq, payload_bytes from run_events where run_id = :run_id order by first_seq
"""
_DROP_CHUNKS: Final = "delete from run_events where run_id = :run_id and last_seq <= :last_seq"
_FIND_RUN: Final = """
select id, tenant, caller, caller_kind, method, target, state, outcome, last_seq, started_at, ended_at from runs
where id = :id
"""
_FIND_KEY: Final = """
select id, request_digest from runs
where tenant = :tenant and caller = :caller and method = :method and idempotency_key = :idempotency_key
"""
_LIST_RUNS: Final = """
select id, tenant, caller, caller_kind, method, target, state, outcome, last_seq, started_at, ended_at from runs
where tenant = :tenant and caller = :caller and id < :before order by id desc limit :limit
"""
_RUNNING: Final = "select id from runs where state = 'running' order by id"
_LAST_SEQ: Final = "select coalesce(max(last_seq), 0) from run_events where run_id = :run_id"
_ENDED_BEFORE: Final = "select id from runs where state = 'done' and ended_at < :before order by ended_at, id"
_ENDED: Final = "select id, stored_bytes from runs where state = 'done' order by ended_at desc, id desc"
_FIRST_CHUNKS: Final = """
select last_seq from run_events where run_id = :run_id order by first_seq limit 1 offset :count
"""
_DROP_RUN: Final = "delete from runs where id = :id"

_AFTER_EVERY_ID: Final = "~"
"""Sorts behind every id, which are lower-case letters, digits and `_`."""

_DROP_CHUNKS_AT_ONCE: Final = 500
"""Chunks dropped in one transaction, so that no writer waits long for the sweep."""


@attrs.frozen(kw_only=True)
class RequestKey:
    """What tells a request that was sent twice from a new one.

    Attributes:
        text: The key, as the caller made it up.
        digest: Of all else in the request.
    """

    text: str
    digest: str


@attrs.frozen(kw_only=True)
class RunRecord:
    """One run as the table `runs` has it; `last_seq` counts once it is done."""

    id: str
    caller: Caller
    method: str
    target: str | None
    state: Literal["running", "done"]
    outcome: str | None
    last_seq: int
    started_at: str
    ended_at: str | None


def _record(row: tuple[Any, ...]) -> RunRecord:
    run_id, tenant, caller, caller_kind, method, target, state, outcome, last_seq, started_at, ended_at = row
    return RunRecord(
        id=run_id,
        caller=Caller(id=caller, kind=caller_kind, tenant=tenant),
        method=method,
        target=target,
        state=state,
        outcome=outcome,
        last_seq=last_seq,
        started_at=started_at,
        ended_at=ended_at,
    )


class Journal:
    """The runs of one database.

    Every method raises `StorageFull` and `StorageError` as the database does.
    """

    def __init__(self, database: Database, metrics: Metrics = NO_METRICS) -> None:
        self._database = database
        self._metrics = metrics

    async def begin(
        self,
        run_id: str,
        method: str,
        caller: Caller,
        started_at: str,
        target: str | None = None,
        key: RequestKey | None = None,
    ) -> None:
        """Store a run that begins, with the key of its request in the same transaction."""
        bindings = {
            "id": run_id,
            "tenant": caller.tenant,
            "caller": caller.id,
            "caller_kind": caller.kind,
            "method": method,
            "target": target,
            "started_at": started_at,
            "idempotency_key": None if key is None else key.text,
            "request_digest": None if key is None else key.digest,
        }
        await self._database.write_grouped(_execute, _INSERT_RUN, bindings)

    async def append(
        self, run_id: str, chunks: Sequence[Chunk], ending: Ending | None, ended_at: str, *, keep_bytes: int | None
    ) -> int | None:
        """Store the next chunks of a run; with `ending`, whose payload is the last event of the last chunk, end it.

        Args:
            run_id: Which run.
            chunks: What comes next.
            ending: How it ended, None while it goes on.
            ended_at: Clock time for the end.
            keep_bytes: Drop the oldest chunks until no more than so many payload bytes are left; None drops nothing.

        Returns:
            The payload bytes left, None when nothing was to be dropped.
        """
        left = await self._database.write_grouped(_append, run_id, chunks, ending, ended_at, keep_bytes)
        self._metrics.events_written(sum(len(chunk.events) for chunk in chunks))
        return left

    async def page(self, run_id: str, after: int) -> list[Event]:
        """Return one batch of the events after number `after`; the first comes later when events were dropped."""
        return await self._database.read(_page, run_id, after)

    async def find(self, run_id: str) -> RunRecord | None:
        """Return a run, None when it was never there or is kept no more."""
        row = await self._database.read(_one, _FIND_RUN, {"id": run_id})
        return None if row is None else _record(row)

    async def find_key(self, method: str, caller: Caller, text: str) -> tuple[str, str] | None:
        """Return the run that a caller's request with this key has started, and the digest of that request."""
        bindings = {"tenant": caller.tenant, "caller": caller.id, "method": method, "idempotency_key": text}
        row = await self._database.read(_one, _FIND_KEY, bindings)
        return None if row is None else (row[0], row[1])

    async def runs_of(self, caller: Caller, *, limit: int, before: str | None) -> list[RunRecord]:
        """Return a caller's runs, newest first, those before the run `before`."""
        bindings = {"tenant": caller.tenant, "caller": caller.id, "before": before or _AFTER_EVERY_ID, "limit": limit}
        return [_record(row) for row in await self._database.read(_all, _LIST_RUNS, bindings)]

    async def cut_off(self) -> list[str]:
        """Return the runs that have no end; asked before any is begun, those that the server's own end cut off."""
        return [row[0] for row in await self._database.read(_all, _RUNNING, {})]

    async def close_cut_off(self, run_ids: Sequence[str], ending: Ending, ended_at: str) -> None:
        """End runs that were cut off, each with the number after its last."""
        await self._database.run(_close_cut_off, run_ids, ending, ended_at)

    async def ended_before(self, clock_time: str) -> list[str]:
        """Return the runs that ended before a clock time, those that ended first in front."""
        return [row[0] for row in await self._database.read(_all, _ENDED_BEFORE, {"before": clock_time})]

    async def over_total(self, max_total_bytes: int) -> list[str]:
        """Return the ended runs that have to go, so that the others take at most so many payload bytes."""
        return await self._database.read(_over_total, max_total_bytes)

    async def drop(self, run_id: str) -> None:
        """Drop a run and its events, oldest first, in bounded steps; a crash in between leaves a run with a gap."""
        while not await self._database.run(_drop_some, run_id):
            pass


def _execute(transaction: Transaction, sql: str, bindings: dict[str, Any]) -> None:
    transaction.execute(sql, bindings)


def _one(transaction: Transaction, sql: str, bindings: dict[str, Any]) -> tuple[Any, ...] | None:
    return transaction.one(sql, bindings)


def _all(transaction: Transaction, sql: str, bindings: dict[str, Any]) -> list[tuple[Any, ...]]:
    return transaction.all(sql, bindings)


def _append(
    transaction: Transaction,
    run_id: str,
    chunks: Sequence[Chunk],
    ending: Ending | None,
    ended_at: str,
    keep_bytes: int | None,
) -> int | None:
    for chunk in chunks:
        _insert_chunk(transaction, run_id, chunk.first, chunk.last, chunk.text())
    left = None
    if keep_bytes is not None:
        left = _drop_oldest(transaction, run_id, keep_bytes)
    if ending is not None:
        _end(transaction, run_id, chunks[-1].last, ending, ended_at)
    return left


def _insert_chunk(transaction: Transaction, run_id: str, first: int, last: int, text: bytes) -> None:
    transaction.execute(
        _INSERT_CHUNK,
        {"run_id": run_id, "first_seq": first, "last_seq": last, "payload_bytes": len(text), "payloads": text},
    )


def _end(transaction: Transaction, run_id: str, last_seq: int, ending: Ending, ended_at: str) -> None:
    transaction.execute(_END_RUN, {"id": run_id, "outcome": ending.outcome, "last_seq": last_seq, "ended_at": ended_at})


def _drop_oldest(transaction: Transaction, run_id: str, keep_bytes: int) -> int:
    sizes = transaction.all(_CHUNK_SIZES, {"run_id": run_id})
    left: int = sum(size for _, size in sizes)
    drop_to = 0
    for last_seq, size in sizes[:-1]:
        if left <= keep_bytes:
            break
        drop_to = last_seq
        left -= size
    transaction.execute(_DROP_CHUNKS, {"run_id": run_id, "last_seq": drop_to})
    return left


def _page(transaction: Transaction, run_id: str, after: int) -> list[Event]:
    events: list[Event] = []
    size = 0
    rows = transaction.execute(_CHUNKS_FROM, {"run_id": run_id, "seq": after + 1})
    for first, last, chunk_bytes, payloads in rows:
        if last <= after:
            continue
        if events and (size + chunk_bytes > MAX_BATCH_BYTES or len(events) + last - first + 1 > MAX_BATCH_EVENTS):
            break
        chunk = unpack(first, payloads)
        events.extend(chunk if first > after else chunk[after + 1 - first :])
        size += chunk_bytes
    return events


def _close_cut_off(transaction: Transaction, run_ids: Sequence[str], ending: Ending, ended_at: str) -> None:
    for run_id in run_ids:
        ((last_seq,),) = transaction.all(_LAST_SEQ, {"run_id": run_id})
        _insert_chunk(transaction, run_id, last_seq + 1, last_seq + 1, ending.payload)
        _end(transaction, run_id, last_seq + 1, ending, ended_at)


def _over_total(transaction: Transaction, max_total_bytes: int) -> list[str]:
    total = 0
    over = []
    for run_id, stored_bytes in transaction.execute(_ENDED):
        total += stored_bytes
        if total > max_total_bytes:
            over.append(run_id)
    over.reverse()
    return over


def _drop_some(transaction: Transaction, run_id: str) -> bool:
    """Drop the oldest chunks of a run, and the run itself when there are no more; return whether it is gone."""
    row = transaction.one(_FIRST_CHUNKS, {"run_id": run_id, "count": _DROP_CHUNKS_AT_ONCE})
    if row is not None:
        transaction.execute(_DROP_CHUNKS, {"run_id": run_id, "last_seq": row[0]})
        return False
    transaction.execute(_DROP_CHUNKS, {"run_id": run_id, "last_seq": 2**62})
    transaction.execute(_DROP_RUN, {"id": run_id})
    return True
