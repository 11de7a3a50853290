"""A session as text in several formats, piece by piece: never more than a page of it is in memory."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import attrs

from clonk_claudecode.exchange.markdown import markdown_head, markdown_message
from clonk_claudecode.exchange.messages import ExportDelta
from clonk_claudecode.messages import HistoryMessage, StoredSession
from clonk_claudecode.store import message_rows, transcript_rows
from clonk_claudecode.store.transcript_rows import MAIN
from clonk_claudecode.transcripts import read_entries
from clonk_core.plugin import Database

ExportFormat: TypeAlias = Literal["markdown", "json", "jsonl"]

PIECE_CHARS: Final = 65_536
MESSAGES_PAGE: Final = 50

SUBAGENT_MARK: Final = "clonk-subagent"
"""Type of the line before a subagent's entries, in a transcript that has them behind its own."""


async def export(
    database: Database, session: StoredSession, wanted: ExportFormat, *, subagents: bool
) -> AsyncIterator[ExportDelta]:
    """Yield a session in pieces of at most `PIECE_CHARS`."""
    if wanted == "jsonl":
        texts = _jsonl(database, session, subagents=subagents)
    else:
        texts = (_json if wanted == "json" else _markdown)(database, session)
    waiting = ""
    async for text in texts:
        waiting += text
        while len(waiting) >= PIECE_CHARS:
            yield ExportDelta(text=waiting[:PIECE_CHARS])
            waiting = waiting[PIECE_CHARS:]
    if waiting:
        yield ExportDelta(text=waiting)


async def _messages(database: Database, session: StoredSession) -> AsyncIterator[HistoryMessage]:
    after = 0
    while page := await database.read(message_rows.history, session.id, MESSAGES_PAGE, after):
        for message in page:
            yield message
        after = page[-1].seq


async def _markdown(database: Database, session: StoredSession) -> AsyncIterator[str]:
    yield markdown_head(session)
    async for message in _messages(database, session):
        yield markdown_message(message)


async def _json(database: Database, session: StoredSession) -> AsyncIterator[str]:
    """One object: what the session is, and its messages as `history` gives them."""
    shown = {
        "name": session.name,
        "id": session.id,
        "claude_session_id": session.claude_session_id,
        "created_at": _moment(session.created_at),
        "last_active_at": _moment(session.last_active_at),
        "working_dir": session.working_dir,
        "model": session.model,
        "system_prompt": session.system_prompt,
        "permission_mode": session.permission_mode,
    }
    yield f'{{"format":"clonk.session","version":1,"session":{_dumps(shown)},"messages":['
    between = "\n"
    async for message in _messages(database, session):
        yield between + _dumps({**attrs.asdict(message), "created_at": _moment(message.created_at)})
        between = ",\n"
    yield "\n]}\n"


async def _jsonl(database: Database, session: StoredSession, *, subagents: bool) -> AsyncIterator[str]:
    async for entry in read_entries(database, session.claude_session_id):
        yield entry.text + "\n"
    if not subagents:
        return
    for stored in await database.read(transcript_rows.stored_paths, session.claude_session_id):
        if stored.path != MAIN:
            yield _dumps({"type": SUBAGENT_MARK, "path": stored.path}) + "\n"
            async for entry in read_entries(database, session.claude_session_id, stored.path):
                yield entry.text + "\n"


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _moment(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
