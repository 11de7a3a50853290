"""Entries to write, a clock to turn, and what a check has found."""

from datetime import UTC, datetime
from typing import Any

import attrs

from clonk_core.gateway.audit import AuditLog
from clonk_core.gateway_messages import AuditEntry, AuditFilters, AuditReport
from clonk_core.messages import Caller
from clonk_core.storage.sqlite import SqliteDatabase

ANN = Caller(id="ann", kind="key", tenant="default")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERYTHING = AuditFilters()


def entry(action: str = "dice.roll", **members: Any) -> AuditEntry:
    return AuditEntry(**{"kind": "call", "caller": ANN, "action": action, **members})


@attrs.define
class Clock:
    """A clock that a test turns."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


async def change(database: SqliteDatabase, sql: str, *bindings: Any) -> None:
    await database.run(lambda t: list(t.execute(sql, bindings)))


def found(report: AuditReport) -> list[tuple[str, int]]:
    assert report.intact == (not report.problems)
    return [(problem.kind, problem.seq) for problem in report.problems]


async def write_many(log: AuditLog, count: int) -> None:
    for number in range(count):
        await log.write(entry(target=f"t{number}"))
