"""The audit log on disk: all SQL of the tables `audit` and `audit_anchor` (defined in `storage/migrations`).

Each function is one unit of work inside a transaction; the log (gateway/audit.py) says in which.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import orjson

from clonk_core.clock_text import clock_text
from clonk_core.gateway.audit_chain import COLUMNS, Anchor, Values, body_of, link, sweep_detail
from clonk_core.gateway_messages import AuditFilters, AuditRow
from clonk_core.interfaces.storage import Row, Transaction

_ALL: Final = ", ".join((*COLUMNS, "hash"))
_LAST: Final = "select seq, hash from audit order by seq desc limit 1"
_ANCHOR: Final = "select seq, hash from audit_anchor where id = 1"
_INSERT: Final = f"insert into audit ({_ALL}) values ({', '.join(f':{name}' for name in (*COLUMNS, 'hash'))})"
_BOUNDS: Final = """
select coalesce((select min(seq) from audit), 0), coalesce((select max(seq) from audit), 0)
"""
_CHAIN: Final = f"select {_ALL} from audit where seq > :after order by seq limit :limit"
_OLDEST: Final = "select seq, at, hash from audit order by seq limit :limit"
_DROP: Final = "delete from audit where seq <= :seq"
_MOVE_ANCHOR: Final = """
insert into audit_anchor (id, seq, hash) values (1, :seq, :hash)
on conflict (id) do update set seq = excluded.seq, hash = excluded.hash
"""
_IN_WINDOW: Final = "seq > :low and seq <= :high"
_SINCE_IN_WINDOW: Final = f"select 1 from audit where {_IN_WINDOW} and at >= :since limit 1"
_HAS_TABLE: Final = "select 1 from sqlite_schema where type = 'table' and name = 'audit'"

_CONDITIONS: Final[Mapping[str, str]] = {
    "caller": "caller = :caller",
    "kind": "kind = :kind",
    "action": "action = :action",
    "action_prefix": "substr(action, 1, length(:action_prefix)) = :action_prefix",
    "target": "target = :target",
    "outcome": "outcome = :outcome",
    "run_id": "run_id = :run_id",
    "since": "at >= :since",
    "until": "at < :until",
    "tenant": "tenant = :tenant",
}

WINDOW: Final = 20_000
"""Rows looked through in one read, however few of them are wanted: takes some ms, and others wait for the reader."""

_FIRST_VALUE: Final = COLUMNS.index("at")
_DETAIL: Final = COLUMNS.index("detail")


# ── writing ──────────────────────────────────────────────────────────────────


def append(transaction: Transaction, values: Values, body: bytes) -> int:
    """Write the next row and return its number.

    The last row is read in this same transaction, since other processes write into the table, too. There is no cached
    copy of it to go stale.

    Args:
        values: Of all columns but `seq` and `hash`.
        body: The same as they are hashed, made outside of the transaction.
    """
    last = transaction.one(_LAST) or transaction.one(_ANCHOR)
    seq, previous_hash = last or (0, Anchor().hash)
    row = dict(zip(COLUMNS[_FIRST_VALUE:], values, strict=True))
    row["seq"] = seq + 1
    row["hash"] = link(previous_hash, seq + 1, body)
    transaction.execute(_INSERT, row)
    return int(seq) + 1


def drop_oldest(transaction: Transaction, before: str, limit: int, told: Values) -> int:
    """Drop the oldest rows, move the anchor and write the row that says so; return how many were dropped.

    Args:
        before: Clock time; the first row that is not older ends it, so that rows go at the old end only.
        limit: At most so many.
        told: Values of the row that says what was dropped; its `detail` is added.
    """
    last: Anchor | None = None
    dropped = 0
    for seq, at, row_hash in transaction.all(_OLDEST, {"limit": limit}):
        if at >= before:
            break
        last, dropped = Anchor(seq, row_hash), dropped + 1
    if last is None:
        return 0
    # The new row first: should all others go, it still follows from the last of them.
    values = (*told[:-1], orjson.dumps(sweep_detail(dropped, last)).decode())
    append(transaction, values, body_of(values))
    transaction.execute(_DROP, {"seq": last.seq})
    transaction.execute(_MOVE_ANCHOR, {"seq": last.seq, "hash": last.hash})
    return dropped


# ── reading ──────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class Window:
    """What was found among the rows that were looked through.

    Attributes:
        rows: What fits, in the order asked for.
        reached: Number of the row up to which everything was looked through.
        is_last: Whether there is nothing behind it.
    """

    rows: Sequence[Row]
    reached: int
    is_last: bool


def anchor(transaction: Transaction) -> Anchor:
    """Return where the rows begin."""
    row = transaction.one(_ANCHOR)
    return Anchor(*row) if row else Anchor()


def chain_page(transaction: Transaction, after: int, limit: int) -> tuple[Anchor, Sequence[Row]]:
    """Return the anchor, and the next rows of the chain as they are hashed, with one view on both."""
    return anchor(transaction), transaction.all(_CHAIN, {"after": after, "limit": limit})


def newest(transaction: Transaction) -> int:
    """Return the number of the newest row; of the last one dropped when there is none."""
    row = transaction.one(_LAST)
    return int(row[0]) if row else anchor(transaction).seq


def older(transaction: Transaction, filters: AuditFilters, before: int | None, limit: int) -> Window:
    """Look through the next rows before number `before` (None for all), newest first."""
    first, last = transaction.one(_BOUNDS) or (0, 0)
    high = last if before is None else min(last, before - 1)
    low = max(high - WINDOW, first - 1)
    if high < first:
        return Window(rows=(), reached=first, is_last=True)
    rows = _select(transaction, filters, low, high, "desc", limit)
    reached = rows[-1][0] if len(rows) == limit else low + 1
    is_last = reached <= first or (not rows and _is_too_old(transaction, filters, low, high))
    return Window(rows=rows, reached=reached, is_last=is_last)


def newer(transaction: Transaction, filters: AuditFilters, after: int, limit: int) -> Window:
    """Look through the next rows after number `after`, oldest first."""
    first, last = transaction.one(_BOUNDS) or (0, 0)
    low = max(after, first - 1)
    high = min(last, low + WINDOW)
    if high <= low:
        return Window(rows=(), reached=after, is_last=True)
    rows = _select(transaction, filters, low, high, "asc", limit)
    reached = rows[-1][0] if len(rows) == limit else high
    return Window(rows=rows, reached=reached, is_last=reached >= last)


def has_table(transaction: Transaction) -> bool:
    """Tell whether the database has an audit log at all: an older one, not migrated yet, has none."""
    return transaction.one(_HAS_TABLE) is not None


def audit_row(row: Row) -> AuditRow:
    """Return a row as it is shown."""
    members = dict(zip((*COLUMNS, "hash"), row, strict=True))
    return AuditRow(**{**members, "detail": _object(row[_DETAIL])})


def _select(
    transaction: Transaction, filters: AuditFilters, low: int, high: int, direction: str, limit: int
) -> Sequence[Row]:
    wanted = _wanted(filters)
    where = " and ".join([_IN_WINDOW, *(_CONDITIONS[name] for name in wanted)])
    sql = f"select {_ALL} from audit where {where} order by seq {direction} limit :limit"
    return transaction.all(sql, {**wanted, "low": low, "high": high, "limit": limit})


def _wanted(filters: AuditFilters) -> dict[str, Any]:
    """Return the bindings of the conditions that count."""
    wanted = {name: value for name, value in attrs.asdict(filters).items() if value is not None}
    action = wanted.get("action", "")
    if action.endswith("*"):
        del wanted["action"]
        wanted["action_prefix"] = action.removesuffix("*")
    return {name: clock_text(value) if name in ("since", "until") else value for name, value in wanted.items()}


def _is_too_old(transaction: Transaction, filters: AuditFilters, low: int, high: int) -> bool:
    """Tell whether a whole window is older than what is asked for, and so, a search goes no further back.

    One row that is older would not do: the clock may have been set back a little.
    """
    if filters.since is None:
        return False
    bindings = {"low": low, "high": high, "since": clock_text(filters.since)}
    return transaction.one(_SINCE_IN_WINDOW, bindings) is None


def _object(detail: object) -> dict[str, Any]:
    """Return `detail` as an object; one that was tampered with is shown as the text it is."""
    try:
        found = orjson.loads(detail)  # type: ignore[arg-type]
    except (orjson.JSONDecodeError, TypeError):
        found = None
    return found if isinstance(found, dict) else {"": str(detail)}
