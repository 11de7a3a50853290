"""Frames of the binary in, events of a turn out. Plain state, no I/O; how a turn ended is read in outcome.py."""

from collections.abc import Mapping
from typing import Any

from clonk_claudecode.engine.frames import Frame, member
from clonk_claudecode.events import (
    AssistantMessage,
    Restart,
    Retrying,
    TextDelta,
    ThinkingDelta,
    TokenCount,
    ToolResult,
    ToolUse,
    TranscriptEntry,
    TurnItem,
    Usage,
)

_TOOL_USES = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_TOKEN_FIELDS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class Translator:
    """Translates one turn. Frames it does not know give nothing.

    Attributes:
        tools_at_work: Ids of tool uses that have not given their result.
        last_entry_uuid: The last entry of the main conversation, None before the first.
    """

    def __init__(self) -> None:
        self.tools_at_work: set[str] = set()
        self.last_entry_uuid: str | None = None
        self._streaming_id = ""
        # The message that deltas were shown of since the binary last vouched for them with an `assistant` frame.
        self._shown_id: str | None = None
        self._tokens: dict[str, dict[str, int]] = {}

    def feed(self, frame: Frame) -> list[TurnItem]:
        """Return what this frame means, in order."""
        kind = frame["type"]
        if kind == "stream_event":
            return self._streamed(frame)
        if kind == "assistant":
            return self._assistant(frame)
        if kind == "user":
            return self._user(frame)
        if kind == "system" and frame.get("subtype") == "api_retry":
            return [_retrying(frame)]
        return []

    def tokens(self) -> TokenCount:
        """Return the tokens of all messages so far, also of those that were cut off."""
        return TokenCount(**{name: sum(used.get(name, 0) for used in self._tokens.values()) for name in _TOKEN_FIELDS})

    def _streamed(self, frame: Frame) -> list[TurnItem]:
        # A subagent's stream is its own affair; its tools are seen in whole frames.
        if frame.get("parent_tool_use_id") is not None:
            return []
        event = member(frame, "event")
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._delta(member(event, "delta"))
        if kind == "message_start":
            message = member(event, "message")
            items = self._take_back()
            self._streaming_id = str(message.get("id", ""))
            self._tokens[self._streaming_id] = _token_numbers(message.get("usage"))
            return items
        if kind == "message_delta":
            used = self._tokens.setdefault(self._streaming_id, {})
            for name, number in _token_numbers(event.get("usage")).items():
                used[name] = max(used.get(name, 0), number)
            return [_usage(self._streaming_id, used)]
        return []

    def _delta(self, delta: Mapping[str, Any]) -> list[TurnItem]:
        kind = delta.get("type")
        if kind == "text_delta":
            self._shown_id = self._streaming_id
            return [TextDelta(text=str(delta.get("text", "")))]
        if kind == "thinking_delta" and delta.get("thinking"):
            self._shown_id = self._streaming_id
            return [ThinkingDelta(text=str(delta["thinking"]))]
        return []

    def _take_back(self) -> list[TurnItem]:
        """Void the deltas that no `assistant` frame has vouched for."""
        shown, self._shown_id = self._shown_id, None
        return [] if shown is None else [Restart(message_id=shown)]

    def _assistant(self, frame: Frame) -> list[TurnItem]:
        message = member(frame, "message")
        message_id = str(message.get("id", ""))
        parent = frame.get("parent_tool_use_id")
        blocks = _blocks(message.get("content"))
        # An API error comes as a message in Claude's name; the outcome of the turn tells it, so it is no message.
        is_notice = bool(frame.get("error") or frame.get("is_api_error_message"))
        items: list[TurnItem] = []
        if parent is None:
            items += self._take_back() if self._shown_id != message_id else []
            self._shown_id = None
        items.append(self._entry(frame, "assistant", blocks, message_id=message_id, notice=is_notice))
        if parent is None and not is_notice:
            text = "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")
            items += [AssistantMessage(content=text, message_id=message_id)] if text else []
            items += self._usage_without_stream(message, message_id)
        return items + self._tools(blocks, parent)

    def _usage_without_stream(self, message: Mapping[str, Any], message_id: str) -> list[TurnItem]:
        """A message that was not streamed (the binary falls back to that after cuts) brings its usage along."""
        if message_id in self._tokens:
            return []
        used = self._tokens[message_id] = _token_numbers(message.get("usage"))
        return [_usage(message_id, used)]

    def _user(self, frame: Frame) -> list[TurnItem]:
        blocks = _blocks(member(frame, "message").get("content"))
        parent = frame.get("parent_tool_use_id")
        is_notice = not any(str(block.get("type", "")).endswith("tool_result") for block in blocks)
        return [self._entry(frame, "user", blocks, notice=is_notice), *self._tools(blocks, parent)]

    def _entry(
        self, frame: Frame, role: Any, blocks: list[dict[str, Any]], *, message_id: str | None = None, notice: bool
    ) -> TranscriptEntry:
        entry = TranscriptEntry(
            uuid=str(frame.get("uuid", "")),
            role=role,
            content=tuple(blocks),
            message_id=message_id,
            parent_tool_use_id=frame.get("parent_tool_use_id"),
            notice=notice,
        )
        if entry.parent_tool_use_id is None:
            self.last_entry_uuid = entry.uuid
        return entry

    def _tools(self, blocks: list[dict[str, Any]], parent: str | None) -> list[TurnItem]:
        items: list[TurnItem] = []
        for block in blocks:
            kind = str(block.get("type", ""))
            if kind in _TOOL_USES:
                use = ToolUse(
                    tool=str(block.get("name", "")),
                    input=member(block, "input"),
                    tool_use_id=str(block.get("id", "")),
                    parent_tool_use_id=parent,
                )
                self.tools_at_work.add(use.tool_use_id)
                items.append(use)
            elif kind.endswith("tool_result"):
                tool_use_id = str(block.get("tool_use_id", ""))
                self.tools_at_work.discard(tool_use_id)
                items.append(
                    ToolResult(
                        tool_use_id=tool_use_id,
                        content=block.get("content"),
                        is_error=bool(block.get("is_error")),
                        parent_tool_use_id=parent,
                    )
                )
        return items


def _blocks(content: object) -> list[dict[str, Any]]:
    """Return a message's content as blocks; a bare string is one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _token_numbers(usage: object) -> dict[str, int]:
    if not isinstance(usage, dict):
        return {}
    return {name: usage[name] for name in _TOKEN_FIELDS if isinstance(usage.get(name), int)}


def _usage(message_id: str, used: Mapping[str, int]) -> Usage:
    return Usage(
        message_id=message_id,
        input_tokens=used.get("input_tokens", 0),
        output_tokens=used.get("output_tokens", 0),
        cache_read_input_tokens=used.get("cache_read_input_tokens", 0),
        cache_creation_input_tokens=used.get("cache_creation_input_tokens", 0),
    )


def _retrying(frame: Frame) -> Retrying:
    status = frame.get("error_status")
    delay_ms = frame.get("retry_delay_ms")
    attempt = frame.get("attempt")
    return Retrying(
        attempt=attempt if isinstance(attempt, int) else 1,
        status=status if isinstance(status, int) else None,
        delay_s=round(float(delay_ms) / 1000, 3) if isinstance(delay_ms, int | float) else 0.0,
    )
