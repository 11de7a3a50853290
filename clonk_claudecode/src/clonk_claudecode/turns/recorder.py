"""Keeps the history of a turn: messages in the store, each a node of the session's tree in arbor.

Everything is stored before the events made from it are shown, so that the history holds what a client has seen.
"""

from datetime import UTC, datetime
from typing import Any

from clonk_claudecode.events import (
    AssistantMessage,
    Restart,
    TextDelta,
    ToolResult,
    ToolUse,
    TranscriptEntry,
    TurnItem,
)
from clonk_claudecode.messages import StoredSession
from clonk_claudecode.store import message_rows, tool_rows, turn_rows
from clonk_claudecode.turns.conversation_tree import ConversationTree
from clonk_core.plugin import Database, Host, JsonValue


class ShownText:
    """The text of an answer that was shown since its last whole message."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """That text; empty when all of it is whole."""
        return "".join(self._pieces)

    def note(self, item: TurnItem) -> None:
        """Note what is shown."""
        if isinstance(item, TextDelta):
            self._pieces.append(item.text)
        elif isinstance(item, AssistantMessage | Restart):
            self._pieces.clear()


class Recorder:
    """Records one turn of one session. Of a session that is deleted meanwhile nothing is kept.

    Args:
        session: As the store holds it now.
        turn_id: The turn's subscription.
    """

    def __init__(self, host: Host, database: Database, session: StoredSession, turn_id: str) -> None:
        self._database = database
        self._session = session
        self._turn_id = turn_id
        self._tree = ConversationTree(host, session)

    @property
    def snapshot_id(self) -> str | None:
        """The node of the last message recorded; None without arbor."""
        return self._tree.head_id

    async def prompt(self, prompt: JsonValue, entry_uuid: str) -> None:
        """Record the prompt: its text, or blocks when there are attachments."""
        await self._add(await self._message("user", prompt, entry_uuid))

    async def entry(self, entry: TranscriptEntry) -> None:
        """Record one entry of the transcript. What subagents say among themselves is no part of the conversation."""
        if entry.parent_tool_use_id is None:
            await self._add(await self._message(entry.role, entry.content, entry.uuid))

    async def tool(self, event: ToolUse | ToolResult) -> None:
        """Record the use of a tool, or what it gave."""
        if isinstance(event, ToolUse):
            await self._database.write_grouped(
                tool_rows.start_tool,
                session_id=self._session.id,
                turn_id=self._turn_id,
                tool_use_id=event.tool_use_id,
                tool=event.tool,
                tool_input=event.input,
                now=_now(),
            )
        else:
            await self._database.write_grouped(
                tool_rows.end_tool,
                session_id=self._session.id,
                tool_use_id=event.tool_use_id,
                result=event.content,
                is_error=event.is_error,
                now=_now(),
            )

    async def end(self, outcome: str) -> None:
        """Record that the turn has ended."""
        await self._database.run(turn_rows.end_turn, self._turn_id, outcome, _now())

    async def partial(self, text: str) -> None:
        """Record what was shown of an answer that was never finished."""
        await self._add(await self._message("assistant", [{"type": "text", "text": text}], None, partial=True))

    async def cut_off(self, text: str) -> None:
        """Record that the server's own end ended the turn, with what had been shown of an unfinished answer."""
        message = None
        if text:
            message = await self._message("assistant", [{"type": "text", "text": text}], None, partial=True)
        await self._database.run(turn_rows.cut_off_turn, self._turn_id, _now(), message)

    async def _add(self, message: dict[str, Any]) -> None:
        await self._database.write_grouped(message_rows.add_message, **message)

    async def _message(
        self, role: str, content: JsonValue, entry_uuid: str | None, *, partial: bool = False
    ) -> dict[str, Any]:
        """Add a message to the tree, and return it as the store takes it."""
        node: dict[str, JsonValue] = {"role": role, "content": content, "entry_uuid": entry_uuid, "turn": self._turn_id}
        node_id = await self._tree.add({**node, "partial": True} if partial else node)
        return {
            "session_id": self._session.id,
            "turn_id": self._turn_id,
            "role": role,
            "content": content,
            "entry_uuid": entry_uuid,
            "tree_id": self._tree.tree_id,
            "node_id": node_id,
            "now": _now(),
            "partial": partial,
        }


async def begin_turn(host: Host, database: Database, session_id: str, turn_id: str, caller: str) -> Recorder | None:
    """Record that a turn runs, and return what records the rest of it; None when the session was deleted."""
    session = await database.run(turn_rows.begin_turn, turn_id, session_id, caller, _now())
    return None if session is None else Recorder(host, database, session, turn_id)


def _now() -> datetime:
    return datetime.now(UTC)
