"""Keeps the history of a turn: messages in the store, each a node of the session's tree in arbor.

Everything is stored before the events made from it are shown, so that the history holds what a client has seen.
"""

from datetime import UTC, datetime
from typing import Final

from clonk_claudecode import store
from clonk_claudecode.events import ToolResult, ToolUse, TranscriptEntry
from clonk_claudecode.messages import StoredSession
from clonk_core.plugin import Database, Host, InvalidParams, JsonValue, TooLarge

TREE_CREATE: Final = "arbor.tree_create"
NODE_CREATE: Final = "arbor.node_create"


class Recorder:
    """Records one turn of one session.

    Attributes:
        snapshot_id: The node of the last message recorded; None without arbor.
    """

    def __init__(self, host: Host, database: Database, session: StoredSession, turn_id: str) -> None:
        self._host = host
        self._database = database
        self._session = session
        self._turn_id = turn_id
        self._tree_id = session.tree_id
        self.snapshot_id = session.head_node_id

    async def start(self, prompt: str, prompt_uuid: str) -> None:
        """Note that the turn runs, and its prompt."""
        await self._database.run(store.start_turn, self._turn_id, self._session.id, _now())
        await self._message("user", prompt, prompt_uuid)

    async def entry(self, entry: TranscriptEntry) -> None:
        """Record one entry of the transcript. What subagents say among themselves is no part of the conversation."""
        if entry.parent_tool_use_id is None:
            await self._message(entry.role, entry.content, entry.uuid)

    async def partial(self, text: str) -> None:
        """Record what had been shown of an answer that was cut off."""
        await self._message("assistant", [{"type": "text", "text": text}], None, partial=True)

    async def tool(self, event: ToolUse | ToolResult) -> None:
        """Record the use of a tool, or what it gave."""
        if isinstance(event, ToolUse):
            await self._database.write_grouped(
                store.start_tool,
                session_id=self._session.id,
                turn_id=self._turn_id,
                tool_use_id=event.tool_use_id,
                tool=event.tool,
                tool_input=event.input,
                now=_now(),
            )
        else:
            await self._database.write_grouped(
                store.end_tool,
                session_id=self._session.id,
                tool_use_id=event.tool_use_id,
                result=event.content,
                is_error=event.is_error,
                now=_now(),
            )

    async def end(self, outcome: str) -> None:
        """Note that the turn has ended."""
        await self._database.run(store.end_turn, self._turn_id, outcome, _now())

    async def _message(self, role: str, content: JsonValue, entry_uuid: str | None, *, partial: bool = False) -> None:
        node_id = await self._node(role, content, entry_uuid, partial=partial)
        await self._database.write_grouped(
            store.add_message,
            session_id=self._session.id,
            turn_id=self._turn_id,
            role=role,
            content=content,
            entry_uuid=entry_uuid,
            node_id=node_id,
            now=_now(),
            partial=partial,
        )

    async def _node(self, role: str, content: JsonValue, entry_uuid: str | None, *, partial: bool) -> str | None:
        """Add the message to the session's tree; None when arbor is not installed."""
        if not self._host.has(NODE_CREATE):
            return None
        if self._tree_id is None:  # arbor was installed after the session was created
            self._tree_id = str(await self._host.call(TREE_CREATE, name=self._session.name))
            await self._database.run(store.set_tree, self._session.id, self._tree_id)
        node = {"role": role, "content": content, "entry_uuid": entry_uuid, "turn": self._turn_id}
        if partial:
            node["partial"] = True
        try:
            self.snapshot_id = await self._add_node(node)
        except (TooLarge, InvalidParams):
            # A file that was read, or nesting, beyond what a node may hold. The history has it whole, and the tree
            # must not end a turn.
            self.snapshot_id = await self._add_node({**node, "content": None, "left_out": True})
        return self.snapshot_id

    async def _add_node(self, node: JsonValue) -> str:
        parent_id = self.snapshot_id
        return str(await self._host.call(NODE_CREATE, tree_id=self._tree_id, parent_id=parent_id, content=node))


def _now() -> datetime:
    return datetime.now(UTC)
