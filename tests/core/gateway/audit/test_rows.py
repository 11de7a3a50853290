"""The audit log: a row comes back as it was written, by filters and in pages."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import attrs
import pytest

from clonk_core.errors import InvalidParams
from clonk_core.gateway.audit import AuditLog
from clonk_core.gateway.audit_chain import BEFORE_THE_FIRST, COLUMNS
from clonk_core.gateway_messages import AuditFilters
from clonk_core.messages import Caller
from clonk_core.storage.sqlite import SqliteDatabase
from tests.core.gateway.audit.rows import EVERYTHING, NOON, Clock, entry, found


async def test_a_row_comes_back_as_it_was_written(log: AuditLog) -> None:
    written = entry(
        "claudecode.chat",
        target="first",
        outcome="forbidden",
        transport="websocket",
        peer="127.0.0.1:5",
        duration_ms=2,
        request_bytes=10,
        answer_bytes=20,
        run_id="sub_1",
        request_id="req_1",
        detail={"params": {"name": "first"}},
    )
    await log.write(written)
    (row,) = await log.query(EVERYTHING, limit=10)
    shown = attrs.asdict(row)
    assert (shown.pop("seq"), shown.pop("at"), len(shown.pop("hash"))) == (1, "2026-03-01T12:00:00.000Z", 64)
    assert (shown.pop("caller"), shown.pop("caller_kind")) == ("ann", "key")
    assert shown.pop("tenant") == "default"
    assert shown == {name: getattr(written, name) for name in shown}


async def test_the_hash_can_be_computed_by_anybody(log: AuditLog, database: SqliteDatabase) -> None:
    await log.write(entry(target="ünï\n", duration_ms=1.25, detail={"a": ["b", None]}))
    await log.write(entry())
    previous = BEFORE_THE_FIRST
    for row in await database.read(lambda t: t.all(f"select {', '.join(COLUMNS)}, hash from audit order by seq")):
        text = json.dumps(row[:-1], ensure_ascii=False, separators=(",", ":"))
        assert row[-1] == hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()
        previous = row[-1]


@pytest.mark.parametrize(
    "members",
    [
        {"target": "half \ud800 pair"},
        {"detail": {"a": "half \ud800 pair"}},
        {"detail": {"a": 2**80}},
        {"target": "nul \0 inside", "detail": {"\0": "\0"}},
        {"duration_ms": float("nan")},
        {"duration_ms": float("inf")},
        {"duration_ms": 3},
        {"duration_ms": 1e300},
    ],
)
async def test_strange_values_are_kept_and_the_chain_holds(log: AuditLog, members: dict[str, Any]) -> None:
    await log.write(entry(**members))
    await log.write(entry())
    assert found(await log.verify()) == []
    assert len(await log.query(EVERYTHING, limit=10)) == 2


@pytest.fixture
async def filled(log: AuditLog, clock: Clock) -> AuditLog:
    """Rows 1 to 8, one an hour."""
    bob = Caller(id="bob", kind="token", tenant="other")
    for one in (
        entry("claudecode.create", target="first"),
        entry("claudecode.chat", target="first", run_id="sub_1"),
        entry("Bash", kind="tool", target="first", run_id="sub_1", outcome="error"),
        entry("claudecodex", caller=bob),
        entry("arbor.tree_create", outcome="forbidden"),
        entry("claudecode.chat", target="second", caller=bob),
        entry("keys.create", kind="key", target="key_1"),
        entry("claude%_", caller=bob),
    ):
        await log.write(one)
        clock.now += timedelta(hours=1)
    return log


@pytest.mark.parametrize(
    ("filters", "seqs"),
    [
        ({}, [8, 7, 6, 5, 4, 3, 2, 1]),
        ({"caller": "bob"}, [8, 6, 4]),
        ({"kind": "tool"}, [3]),
        ({"action": "claudecode.chat"}, [6, 2]),
        ({"action": "claudecode.*"}, [6, 2, 1]),
        ({"action": "claude%*"}, [8]),
        ({"action": "*"}, [8, 7, 6, 5, 4, 3, 2, 1]),
        ({"target": "first"}, [3, 2, 1]),
        ({"outcome": "forbidden"}, [5]),
        ({"run_id": "sub_1"}, [3, 2]),
        ({"tenant": "other"}, [8, 6, 4]),
        ({"since": NOON + timedelta(hours=5)}, [8, 7, 6]),
        ({"until": NOON + timedelta(hours=2)}, [2, 1]),
        ({"since": NOON + timedelta(hours=2), "until": NOON + timedelta(hours=4)}, [4, 3]),
        ({"caller": "ann", "action": "claudecode.*", "target": "first"}, [2, 1]),
        ({"since": NOON + timedelta(days=1)}, []),
        ({"caller": "nobody"}, []),
    ],
)
async def test_filters_choose_rows(filled: AuditLog, filters: dict[str, Any], seqs: list[int]) -> None:
    wanted = AuditFilters(**filters)
    assert [row.seq for row in await filled.query(wanted, limit=100)] == seqs
    assert [row.seq for row in await filled.query(wanted, limit=100, after=0)] == seqs[::-1]


@pytest.mark.parametrize("window", [1, 2, 3, 100])
async def test_pages_give_every_row_once(filled: AuditLog, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr("clonk_core.gateway.audit_store.WINDOW", window)
    for filters in (EVERYTHING, AuditFilters(caller="bob"), AuditFilters(caller="nobody")):
        want = [row.seq for row in await filled.query(filters, limit=100)]
        for limit in (1, 2, 3):
            before: int | None = None
            seqs: list[int] = []
            while page := await filled.query(filters, limit=limit, before=before):
                seqs += [row.seq for row in page]
                before = seqs[-1]
            assert seqs == want
            after, upwards = 0, []
            while page := await filled.query(filters, limit=limit, after=after):
                upwards += [row.seq for row in page]
                after = upwards[-1]
            assert upwards == want[::-1]


async def test_both_directions_at_once_are_refused(filled: AuditLog) -> None:
    with pytest.raises(InvalidParams):
        await filled.query(EVERYTHING, limit=1, before=3, after=1)
