"""After a turn whose process has died: its history and its transcript are made to tell the same.

Claude Code writes its transcript some moments behind what it shows, so a process that is killed leaves messages that
clients have seen and that the next process would not know: they are written into the transcript. When it was the server
that was killed, the process may have come further than was shown: that comes into the history.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import orjson

from clonk_claudecode.engine.spec import SessionSpec
from clonk_claudecode.events import TranscriptEntry
from clonk_claudecode.exchange.parse import conversation
from clonk_claudecode.mirror.entries import entry_of
from clonk_claudecode.mirror.keeper import Keeper
from clonk_claudecode.store import message_rows
from clonk_claudecode.store.message_rows import TurnMessage
from clonk_claudecode.transcripts import read_entries
from clonk_claudecode.turns.recorder import Recorder
from clonk_core.plugin import Database, JsonValue

COMMON: Final[tuple[str, ...]] = ("userType", "entrypoint", "version", "gitBranch")
"""Members that are the same in all entries of a conversation, and are taken from the one before."""


@attrs.frozen(kw_only=True)
class Agreement:
    """Makes the history and the transcript of sessions agree. Only for sessions that have no process.

    Attributes:
        database: Holds both.
        keeper: Keeps the transcripts.
    """

    database: Database
    keeper: Keeper

    async def reach(self, spec: SessionSpec, turn_id: str, recorder: Recorder) -> None:
        """Have both tell the same of the session's last turn.

        Args:
            spec: The session.
            turn_id: The turn's subscription.
            recorder: Records that turn.

        Raises:
            OSError: The binary's file cannot be read.
        """
        await self.keeper.catch_up(spec)
        stored = [orjson.loads(entry.text) async for entry in read_entries(self.database, spec.claude_session_id)]
        shown = await self.database.read(message_rows.turn_messages, spec.session_id, turn_id)
        if more := _only_in_transcript(stored, shown):
            for entry in more:
                await recorder.entry(entry)
        elif lost := _only_in_history(stored, shown):
            entries = [entry_of(entry) for entry in _as_entries(lost, stored, spec)]
            await self.keeper.add(spec, entries)


def _only_in_history(stored: Sequence[Mapping[str, Any]], shown: Sequence[TurnMessage]) -> list[TurnMessage]:
    known = {entry.get("uuid") for entry in stored}
    return [message for message in shown if message.entry_uuid is not None and message.entry_uuid not in known]


def _only_in_transcript(stored: Sequence[dict[str, Any]], shown: Sequence[TurnMessage]) -> list[TranscriptEntry]:
    """Return what was said in a turn behind the last message of it that the history has."""
    known = {message.entry_uuid for message in shown}
    entries = conversation(stored)
    places = [place for place, entry in enumerate(entries) if entry["uuid"] in known]
    if not places:
        return []
    more = [
        TranscriptEntry(uuid=entry["uuid"], role=entry["message"]["role"], content=tuple(_blocks(entry["message"])))
        for entry in entries[places[-1] + 1 :]
    ]
    if more and shown[-1].entry_uuid is None and more[0].role == "assistant":
        return more[1:]  # the history has the beginning of it, as it was shown
    return more


def _blocks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _as_entries(
    lost: Sequence[TurnMessage], stored: Sequence[dict[str, Any]], spec: SessionSpec
) -> list[dict[str, Any]]:
    """Return messages as entries that follow the last one of a transcript, as the binary would have written them."""
    own = [entry for entry in stored if entry.get("uuid") and not entry.get("isSidechain")]
    last = own[-1] if own else {}
    said = conversation(stored)
    before: Mapping[str, Any] = said[-1]["message"] if said else {}
    answers = [entry["message"].get("model") for entry in said if entry["type"] == "assistant"]
    model = str(answers[-1] if answers else spec.model)
    common: dict[str, Any] = {name: last[name] for name in COMMON if name in last}
    parent = last.get("uuid")
    entries: list[dict[str, Any]] = []
    for message in lost:
        # Blocks of one answer are entries with one id.
        message_id = before.get("id") if before.get("role") == "assistant" else f"msg_{message.entry_uuid}"
        before = _message(message, message_id, model)
        entries.append(
            {
                **common,
                "parentUuid": parent,
                "isSidechain": False,
                "cwd": str(spec.working_dir),
                "sessionId": spec.claude_session_id,
                "type": message.role,
                "message": before,
                "uuid": message.entry_uuid,
                "timestamp": message.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            }
        )
        parent = message.entry_uuid
    return entries


def _message(message: TurnMessage, message_id: str | None, model: str) -> dict[str, Any]:
    content = _for_claude(message.content)
    if message.role == "user":
        return {"role": "user", "content": content}
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _for_claude(content: JsonValue) -> JsonValue:
    """Return a message's content without what only the history knows: of attachments it has no images' bytes."""
    if not isinstance(content, list):
        return content
    return [_block(block) for block in content if isinstance(block, dict)]


def _block(block: dict[str, Any]) -> dict[str, Any]:
    match block.get("type"):
        case "image_file":
            return {"type": "text", "text": f"[the image {block.get('name') or 'without a name'} was lost]"}
        case "text_file":
            return {"type": "text", "text": f"{block.get('name')}:\n{block.get('text')}"}
        case _:
            return block
