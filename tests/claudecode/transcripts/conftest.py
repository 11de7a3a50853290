"""A store of sessions by itself, and a hub on the real binary."""

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from clonk_claudecode.messages import StoredSession
from clonk_claudecode.store import session_rows
from clonk_core.plugin import Database
from clonk_core.storage.sqlite import open_sqlite
from tests.claudecode.sessions.conftest import hub, open_hub

__all__ = ["hub", "open_hub"]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_sqlite(tmp_path / "claudecode.db", migrations=["clonk_claudecode.migrations"]) as opened:
        yield opened


def stored_session(**changes: object) -> StoredSession:
    """A session as the store holds it."""
    now = datetime.now(UTC)
    session_id = f"sess_{uuid4().hex}"
    values = {
        "id": session_id,
        "name": session_id,
        "claude_session_id": str(uuid4()),
        "working_dir": "/nowhere",
        "model": "sonnet",
        "system_prompt": None,
        "permission_mode": "default",
        "tree_id": None,
        "head_node_id": None,
        "message_count": 0,
        "created_at": now,
        "last_active_at": now,
    }
    return StoredSession(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
async def session(database: Database, workspace: Path) -> StoredSession:
    """A session in the store, without messages."""
    made = stored_session(working_dir=str(workspace))
    assert await database.run(session_rows.insert_session, made)
    return made


@pytest.fixture
def remove_transcripts(tmp_path: Path) -> Callable[[], int]:
    """Delete every transcript of the binary's, as if this were another machine; returns how many there were."""

    def remove() -> int:
        files = list((tmp_path / "data").glob("**/projects/**/*.jsonl"))
        for file in files:
            file.unlink()
        for folder in (tmp_path / "data").glob("**/projects/*"):
            with contextlib.suppress(OSError):
                folder.rmdir()
        return len(files)

    return remove
