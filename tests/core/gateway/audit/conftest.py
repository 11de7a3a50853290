"""An audit log in a database of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clonk_core.gateway.audit import AuditLog
from clonk_core.storage.core_tables import open_core_database
from clonk_core.storage.sqlite import SqliteDatabase
from tests.core.gateway.audit.rows import Clock


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    async with open_core_database(tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(database: SqliteDatabase, clock: Clock) -> AuditLog:
    return AuditLog(database, retention_days=30, clock=clock)
