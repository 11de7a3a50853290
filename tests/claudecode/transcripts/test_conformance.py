"""The store's tables do what the Agent SDK expects of a store of sessions: its own conformance suite says so."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from claude_agent_sdk import SessionStore, fold_session_summary
from claude_agent_sdk.testing import run_session_store_conformance

from clonk_claudecode.mirror.entries import entry_of
from clonk_claudecode.store import session_rows, transcript_rows
from clonk_claudecode.store.transcript_rows import MAIN
from clonk_claudecode.transcripts import read_entries
from clonk_core.plugin import Database
from clonk_core.storage.sqlite import open_sqlite
from tests.claudecode.transcripts.conftest import stored_session


class ClonkStore(SessionStore):
    """Our tables behind the SDK's interface. Its project is a session's working directory, its id a part of ours."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    def _id(key: Any) -> str:
        return f"{key['project_key']}/{key['session_id']}"

    async def append(self, key: Any, entries: Any) -> None:
        session = stored_session(id=self._id(key), name=self._id(key), working_dir=key["project_key"])
        await self._database.run(session_rows.insert_session, session)
        rows = [entry_of(entry) for entry in entries]
        path = key.get("subpath", MAIN)
        await self._database.run(transcript_rows.append_entries, session.id, session.id, path, rows, datetime.now(UTC))

    async def load(self, key: Any) -> Any:
        path = key.get("subpath", MAIN)
        found = [orjson.loads(entry.text) async for entry in read_entries(self._database, self._id(key), path)]
        return found or None

    async def list_sessions(self, project_key: str) -> Any:
        sessions = await self._database.read(session_rows.list_sessions, 1000, None, False)
        found = []
        for session in sessions or []:
            for stored in await self._database.read(transcript_rows.stored_paths, session.id):
                if session.working_dir == project_key and stored.path == MAIN:
                    name = session.id.removeprefix(f"{project_key}/")
                    found.append({"session_id": name, "mtime": int(stored.written_at.timestamp() * 1000)})
        return found

    async def list_session_summaries(self, project_key: str) -> Any:
        """Folded when they are asked for: the store keeps none."""
        summaries = []
        for one in await self.list_sessions(project_key):
            key: Any = {"project_key": project_key, "session_id": one["session_id"]}
            summaries.append({**fold_session_summary(None, key, await self.load(key)), "mtime": one["mtime"]})
        return summaries

    async def delete(self, key: Any) -> None:
        if "subpath" in key:
            await self._database.run(transcript_rows.delete_entries, self._id(key), key["subpath"])
        else:
            await self._database.run(session_rows.delete_session, self._id(key))  # and with it what it said

    async def list_subkeys(self, key: Any) -> Any:
        paths = await self._database.read(transcript_rows.stored_paths, self._id(key))
        return [stored.path for stored in paths if stored.path != MAIN]


async def test_the_store_passes_the_conformance_suite_of_the_agent_sdk(tmp_path: Path) -> None:
    count = 0
    async with AsyncExitStack() as stack:

        async def make_store() -> ClonkStore:
            """A new database for each contract."""
            nonlocal count
            count += 1
            path = tmp_path / f"{count}.db"
            opened = open_sqlite(path, "claudecode", migrations=["clonk_claudecode.migrations"])
            return ClonkStore(await stack.enter_async_context(opened))

        await run_session_store_conformance(make_store)
    assert count > 10, "the suite makes a store for each of its contracts"


@pytest.mark.parametrize("path", [MAIN, "subagents/agent-a"])
async def test_an_entry_that_comes_twice_is_kept_once(database: Database, session: Any, path: str) -> None:
    store = transcript_rows
    message, title = entry_of({"type": "user", "uuid": "u1"}), entry_of({"type": "custom-title", "customTitle": "t"})
    for expected in (2, 1):  # a title has no uuid: it may well be set twice
        added = await database.run(store.append_entries, session.id, "c", path, [message, title], datetime.now(UTC))
        assert added == expected
    found = [entry async for entry in read_entries(database, "c", path)]
    assert found == [message, title, title]


async def test_entries_of_a_session_that_is_gone_are_dropped(database: Database) -> None:
    row = entry_of({"type": "user", "uuid": "u1"})
    assert await database.run(transcript_rows.append_entries, "sess_gone", "c", MAIN, [row], datetime.now(UTC)) == 0
    assert [entry async for entry in read_entries(database, "c")] == []
