"""Methods that give a session away and take one in."""

import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, Final

import trio

from clonk_claudecode.clock import now
from clonk_claudecode.errors import SessionNotFound
from clonk_claudecode.exchange.export import ExportFormat, export
from clonk_claudecode.exchange.messages import ExportDelta, ImportedSession
from clonk_claudecode.exchange.parse import ForeignTranscript, read_transcript
from clonk_claudecode.messages import SessionName, StoredSession, SystemPrompt
from clonk_claudecode.methods.base import Methods
from clonk_claudecode.permissions.callers import refuse_sessions
from clonk_claudecode.sessions import name_taken
from clonk_claudecode.settings import Model, PermissionMode
from clonk_claudecode.setup import session_spec
from clonk_claudecode.store import message_rows, session_rows, transcript_rows
from clonk_claudecode.store.transcript_rows import MAIN
from clonk_claudecode.transcripts import store_transcript
from clonk_claudecode.turns.conversation_tree import ConversationTree, drop_tree
from clonk_claudecode.wishes import check_permission_mode
from clonk_core.plugin import (
    Call,
    Conflict,
    Forbidden,
    InvalidParams,
    MaxLen,
    MinLen,
    NotFound,
    Transaction,
    method,
    new_id,
)

DROP_S: Final = 5.0
"""To delete the tree of a session that did not come to be."""


class ExchangeMethods(Methods):
    """Export and import sessions."""

    @method(scope=("read", "chat"), target="name", read_only=True, idempotent=True, errors=[NotFound])
    async def export(
        self, name: SessionName, format: ExportFormat = "markdown", subagents: bool = False
    ) -> AsyncIterator[ExportDelta]:
        """Give a whole session as text, in pieces that are to be joined.

        Args:
            name: The session.
            format: `markdown` for people; `json`, one object with `session` and `messages`, as `claudecode.history`
                gives them; `jsonl`, the transcript as Claude Code wrote it, for `claudecode.import` and for Claude Code
                itself.
            subagents: Whether a `jsonl` ends with the transcripts of subagents, a line of the type `clonk-subagent`
                before each. `claudecode.import` knows them; Claude Code has them in files of their own.
        """
        session = await self._sessions.find(name)
        await self._take_over(session)
        return export(self._sessions.database, session, format, subagents=subagents)

    async def _take_over(self, session: StoredSession) -> None:
        """Take the transcript of a session that an earlier version has left in the binary's file into the store."""
        sessions = self._sessions
        stored = await sessions.database.read(transcript_rows.stored_paths, session.claude_session_id)
        is_parked = sessions.engine is not None and sessions.engine.state(session.id) == "parked"
        if is_parked and all(one.path != MAIN for one in stored):
            await sessions.keeper.catch_up(session_spec(session, sessions.settings))

    @method(scope="create", target="name", deadline_s=300.0, errors=[Conflict, InvalidParams, Forbidden])
    async def import_(
        self,
        call: Call,
        name: SessionName,
        transcript: Annotated[str, MinLen(1), MaxLen(64 * 1024 * 1024)],
        working_dir: str | None = None,
        model: Model | None = None,
        system_prompt: SystemPrompt | None = None,
        permission_mode: PermissionMode | None = None,
    ) -> ImportedSession:
        """Make a session from a transcript of Claude Code, and go on with it here.

        Claude Code keeps them as `~/.claude/projects/<folder>/<id>.jsonl`. The session gets a history and a tree of the
        messages that lead to the last one, and a transcript with every entry as it is, under a new id. The files that
        were worked on do not come along.

        Args:
            name: Its name: 1 to 64 of letters, digits, `.`, `_` and `-`; unique.
            transcript: The file's text: one JSON object a line, at most 200,000 lines and 64 MiB, and no more than the
                server takes in one message (`server.max_body_bytes`, `server.max_message_bytes`).
            working_dir: As in `claudecode.create`.
            model: As in `claudecode.create`.
            system_prompt: As in `claudecode.create`.
            permission_mode: As in `claudecode.create`.
        """
        sessions = self._sessions
        refuse_sessions(call.caller)
        mode = permission_mode or sessions.settings.session.permission_mode
        check_permission_mode(call.caller, permission_mode)
        if await sessions.database.read(session_rows.session_by_name, name) is not None:
            raise name_taken(name)
        claude_session_id = str(uuid.uuid4())
        read = await trio.to_thread.run_sync(read_transcript, transcript, claude_session_id)
        session_id = new_id("sess")
        folder = await sessions.choose_folder(call.caller, working_dir, session_id)
        created_at = now()
        session = StoredSession(
            id=session_id,
            name=name,
            claude_session_id=claude_session_id,
            working_dir=str(folder),
            model=model or sessions.settings.default_model,
            system_prompt=system_prompt,
            permission_mode=mode,
            tree_id=None,
            head_node_id=None,
            message_count=0,
            created_at=created_at,
            last_active_at=created_at,
            owner=call.caller.id,
        )
        try:
            return await self._store(session, read, call.id)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(sessions.working_dirs.drop_empty, session_id)
            raise

    async def _store(self, session: StoredSession, read: ForeignTranscript, call_id: str) -> ImportedSession:
        """Make the tree, then store the rest at once.

        Raises:
            Conflict: The name was taken meanwhile.
        """
        tree = ConversationTree(self._sessions.host, session)
        stored = False
        try:
            messages = []
            for one in read.messages:
                content = {"role": one.role, "content": one.content, "entry_uuid": one.uuid, "turn": call_id}
                node_id = await tree.add(content)
                messages.append(
                    {
                        "session_id": session.id,
                        "turn_id": call_id,
                        "role": one.role,
                        "content": one.content,
                        "entry_uuid": one.uuid,
                        "tree_id": tree.tree_id,
                        "node_id": node_id,
                        "now": one.at or session.created_at,
                    }
                )
            insert = partial(_insert, session=session, messages=messages, read=read)
            stored = await self._sessions.database.run(insert)
        finally:
            if not stored and tree.tree_id is not None:
                with trio.move_on_after(DROP_S, shield=True):
                    await drop_tree(self._sessions.host, tree.tree_id)
        if not stored:
            raise name_taken(session.name)
        self._sessions.metrics.sessions_changed(1)
        return ImportedSession(
            name=session.name,
            id=session.id,
            created_at=session.created_at,
            working_dir=session.working_dir,
            model=session.model,
            message_count=len(messages),
            entry_count=sum(len(entries) for entries in read.entries.values()),
            snapshot_id=tree.head_id,
        )


def _insert(
    transaction: Transaction, session: StoredSession, messages: list[dict[str, Any]], read: ForeignTranscript
) -> bool:
    """Store a session with its messages and its transcript; False when the name is taken."""
    if not session_rows.insert_session(transaction, session):
        return False
    for message in messages:
        if message_rows.add_message(transaction, **message) is None:
            raise SessionNotFound(session.name)
    store_transcript(transaction, session.id, session.claude_session_id, read.entries, session.created_at)
    return True
