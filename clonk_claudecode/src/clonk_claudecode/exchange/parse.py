"""A transcript that somebody brings: checked line by line, and what of it is the conversation. No I/O here."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs
import orjson

from clonk_claudecode.exchange.export import SUBAGENT_MARK
from clonk_claudecode.mirror.entries import entry_of
from clonk_claudecode.mirror.files import is_path
from clonk_claudecode.store.transcript_rows import MAIN, Entry
from clonk_core.plugin import InvalidParams, JsonValue

MAX_ENTRIES: Final = 200_000
MAX_UUID: Final = 200

_ROLES: Final = frozenset({"user", "assistant"})


@attrs.frozen(kw_only=True)
class ForeignMessage:
    """A message of the conversation.

    Attributes:
        role: Who speaks.
        content: A prompt's text, or content blocks.
        uuid: Its entry's uuid.
        at: When, if the entry says so.
    """

    role: str
    content: JsonValue
    uuid: str
    at: datetime | None


@attrs.frozen(kw_only=True)
class ForeignTranscript:
    """A transcript that was read.

    Attributes:
        entries: By path; `MAIN` is the conversation's own.
        messages: Those that the conversation goes through, in order.
    """

    entries: Mapping[str, Sequence[Entry]]
    messages: Sequence[ForeignMessage]


def read_transcript(text: str, claude_session_id: str) -> ForeignTranscript:
    """Read a transcript of Claude Code's, as a part of another conversation.

    Entries stay as they are but for their `sessionId`. Those of types unknown here are kept.

    Args:
        text: One JSON object a line.
        claude_session_id: What becomes their `sessionId`.

    Raises:
        InvalidParams: With the number of the line that is wrong.
    """
    entries: dict[str, list[Entry]] = {MAIN: []}
    own: list[dict[str, Any]] = []
    path = MAIN
    for number, line in _lines(text):
        entry = _checked(line, number)
        if entry["type"] == SUBAGENT_MARK:
            path = str(entry.get("path"))
            if not is_path(path) or path in entries:
                raise _wrong(number, "is no path of a subagent's transcript, or one that was there")
            entries[path] = []
            continue
        if "sessionId" in entry:
            entry = {**entry, "sessionId": claude_session_id}
        entries[path].append(entry_of(entry))
        if path == MAIN:
            own.append(entry)
    messages = [_message(entry) for entry in conversation(own)]
    if not messages:
        raise InvalidParams("holds no message: it is no transcript of a session", path="$.transcript")
    return ForeignTranscript(entries=entries, messages=messages)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    count = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        count += 1
        if count > MAX_ENTRIES:
            raise _wrong(number, f"is more than the {MAX_ENTRIES:,} that a transcript may have")
        yield number, line


def _checked(line: str, number: int) -> dict[str, Any]:
    """Return an entry of which all is as the history and the store need it."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _wrong(number, f"is no JSON ({error.msg} at character {error.colno})") from error
    if not isinstance(entry, dict):
        raise _wrong(number, "is no JSON object")
    kind, uuid = entry.get("type"), entry.get("uuid")
    if not isinstance(kind, str) or not kind:
        raise _wrong(number, "has no `type`")
    if uuid is not None and not (isinstance(uuid, str) and 0 < len(uuid) <= MAX_UUID):
        raise _wrong(number, f"has a `uuid` that is no text of 1 to {MAX_UUID} characters")
    if kind in _ROLES:
        _check_message(entry, number)
    return entry


def _check_message(entry: Mapping[str, Any], number: int) -> None:
    message = entry.get("message")
    if entry.get("uuid") is None:
        raise _wrong(number, "is a message without a `uuid`")
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise _wrong(number, "has no `message` with the role `user` or `assistant`")
    content = message.get("content")
    if isinstance(content, str):
        return
    if not isinstance(content, list) or not all(
        isinstance(block, dict) and isinstance(block.get("type"), str) for block in content
    ):
        raise _wrong(number, "has a `message` whose `content` is neither text nor content blocks")


def conversation(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages that lead to the last one, in the order they were written.

    A transcript is a tree: each entry names its parent, and whoever went back and asked anew has left a branch behind.
    Compaction begins a new root and names the entry before it apart. Of tools used at the same time, and of messages
    written in several entries, only some are parents of the next: the others belong to them all the same.
    """
    by_uuid = {entry["uuid"]: entry for entry in entries if entry.get("uuid")}
    messages = [entry for entry in entries if entry["type"] in _ROLES and not entry.get("isSidechain")]
    if not messages:
        return []
    chain: set[str] = set()
    uuid: Any = messages[-1]["uuid"]
    while isinstance(uuid, str) and uuid in by_uuid and uuid not in chain:
        chain.add(uuid)
        uuid = by_uuid[uuid].get("parentUuid") or by_uuid[uuid].get("logicalParentUuid")
    spoken = {entry["message"].get("id") for entry in messages if entry["uuid"] in chain} - {None}
    chain |= {entry["uuid"] for entry in messages if entry["message"].get("id") in spoken}
    used = {block.get("id") for entry in messages if entry["uuid"] in chain for block in _blocks(entry)} - {None}
    found: dict[str, dict[str, Any]] = {}
    for entry in messages:
        answers = any(block.get("tool_use_id") in used for block in _blocks(entry))
        if (entry["uuid"] in chain or answers) and not entry.get("isMeta"):
            found.setdefault(entry["uuid"], entry)
    return list(found.values())


def _blocks(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = entry["message"]["content"]
    return content if isinstance(content, list) else []


def _message(entry: Mapping[str, Any]) -> ForeignMessage:
    message = entry["message"]
    return ForeignMessage(
        role=message["role"], content=message["content"], uuid=entry["uuid"], at=_moment(entry.get("timestamp"))
    )


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None:
        return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        return None


def _wrong(number: int, what: str) -> InvalidParams:
    return InvalidParams(f"line {number} {what}", path="$.transcript")
