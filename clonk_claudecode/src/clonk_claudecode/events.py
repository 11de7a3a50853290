"""What a turn yields: the events of `claudecode.chat`, told apart by `type`, and the entries of the transcript."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

import attrs

from clonk_core.plugin import JsonValue


@attrs.frozen(kw_only=True)
class TextDelta:
    """A piece of the answer's text, as it is written.

    Attributes:
        text: The piece; pieces joined give the text of the `assistant_message` that follows.
    """

    type: Literal["text_delta"] = "text_delta"
    text: str


@attrs.frozen(kw_only=True)
class ThinkingDelta:
    """A piece of Claude's thinking, as it is written.

    Attributes:
        text: The piece.
    """

    type: Literal["thinking_delta"] = "thinking_delta"
    text: str


@attrs.frozen(kw_only=True)
class AssistantMessage:
    """A finished text of Claude's. One message with several texts, tool calls between them, comes as several.

    Attributes:
        content: The whole text.
        message_id: The API's id of the message it belongs to.
    """

    type: Literal["assistant_message"] = "assistant_message"
    content: str
    message_id: str


@attrs.frozen(kw_only=True)
class ToolUse:
    """Claude uses a tool.

    Attributes:
        tool: The tool's name as Claude Code gives it, such as `Bash` or `Write`.
        input: Its arguments.
        tool_use_id: Ties the `tool_result` to it.
        parent_tool_use_id: The tool use that started the subagent which does this; null for Claude itself.
    """

    type: Literal["tool_use"] = "tool_use"
    tool: str
    input: dict[str, JsonValue]
    tool_use_id: str
    parent_tool_use_id: str | None = None


@attrs.frozen(kw_only=True)
class ToolResult:
    """A tool has ended.

    Attributes:
        tool_use_id: Which use of a tool this answers.
        content: What it gave: a text, or a list of content blocks.
        is_error: Whether it failed, was denied or was interrupted.
        parent_tool_use_id: As in `tool_use`.
    """

    type: Literal["tool_result"] = "tool_result"
    tool_use_id: str
    content: JsonValue
    is_error: bool = False
    parent_tool_use_id: str | None = None


@attrs.frozen(kw_only=True)
class Retrying:
    """The model's API answered with an error, or not at all, and is asked again.

    Attributes:
        attempt: Counts from 1.
        status: HTTP status of the answer, null when there was none.
        delay_s: Pause before the next try, in seconds.
    """

    type: Literal["retrying"] = "retrying"
    attempt: int
    status: int | None = None
    delay_s: float = 0.0


@attrs.frozen(kw_only=True)
class Usage:
    """Tokens of one message of the API, told when the message is finished.

    Attributes:
        message_id: The message they belong to.
        input_tokens: Read, beside those of the cache.
        output_tokens: Written.
        cache_read_input_tokens: Read from the prompt cache.
        cache_creation_input_tokens: Written to the prompt cache.
    """

    type: Literal["usage"] = "usage"
    message_id: str
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


@attrs.frozen(kw_only=True)
class Restart:
    """The API cut a message off and it is written anew: forget the deltas of this one.

    Attributes:
        message_id: The message whose deltas are void.
    """

    type: Literal["restart"] = "restart"
    message_id: str


PermissionKind: TypeAlias = Literal["tool", "question"]
"""May a tool be used; or a question of Claude's that wants an answer (the tool `AskUserQuestion`)."""

PermissionState: TypeAlias = Literal["waiting", "allowed", "denied", "expired", "withdrawn", "ended"]
"""Nobody has answered yet; somebody has; nobody has in time, so the default was taken; Claude Code took the question
back; the turn ended before there was an answer."""

PermissionDecision: TypeAlias = Literal["allow", "allow_always", "deny"]


@attrs.frozen(kw_only=True)
class PermissionRequest:
    """Claude waits for a permission, or for the answer to a question; `claudecode.permit` gives it.

    Attributes:
        request_id: What `claudecode.permit` wants to know.
        kind: `tool`: may the tool be used? `question`: the tool `AskUserQuestion`, whose questions and options are in
            `input`.
        tool: The tool's name as Claude Code gives it.
        input: Its arguments.
        tool_use_id: The `tool_use` event that it belongs to; null when Claude Code does not say.
        suggestions: Changes of the session's rules that Claude Code suggests, so that it need not ask again; what
            `allow_always` takes.
        reason: Why it asks, in Claude Code's words; null when it does not say.
        expires_at: When the default answer is taken.
    """

    type: Literal["permission_request"] = "permission_request"
    request_id: str
    kind: PermissionKind
    tool: str
    input: dict[str, JsonValue]
    tool_use_id: str | None
    suggestions: tuple[dict[str, JsonValue], ...] = ()
    reason: str | None = None
    expires_at: datetime


@attrs.frozen(kw_only=True)
class PermissionResolved:
    """A permission request needs no answer any more.

    Attributes:
        request_id: Which one.
        state: `allowed` or `denied` by somebody; `expired`: nobody answered in time; `withdrawn`: Claude Code took it
            back; `ended`: with its turn.
        decision: What Claude Code was told; null when it was told nothing.
        by: Id of the caller who answered; null when nobody did.
        reason: The message of a denial, or why there is no answer; null for none.
    """

    type: Literal["permission_resolved"] = "permission_resolved"
    request_id: str
    state: Literal["allowed", "denied", "expired", "withdrawn", "ended"]
    decision: PermissionDecision | None
    by: str | None
    reason: str | None = None


ChatEvent: TypeAlias = (
    TextDelta
    | ThinkingDelta
    | AssistantMessage
    | ToolUse
    | ToolResult
    | PermissionRequest
    | PermissionResolved
    | Retrying
    | Usage
    | Restart
)
"""What a turn shows to clients; the first event `started` and the last, `done`, are the activation's."""


@attrs.frozen(kw_only=True)
class TranscriptEntry:
    """One entry of the transcript, yielded before the events made from it. For the history, not for clients.

    Attributes:
        uuid: The entry's uuid in the transcript; a session can be resumed or forked at it.
        role: Who speaks; a tool's result speaks as `user`.
        content: Content blocks as the API defines them.
        message_id: The API's id of an assistant's message; several entries may share it, one a content block.
        parent_tool_use_id: Set for what a subagent says: it is no part of the main conversation.
        notice: The binary's own words in somebody's name: an API error, "[Request interrupted by user]".
    """

    uuid: str
    role: Literal["user", "assistant"]
    content: tuple[Mapping[str, Any], ...]
    message_id: str | None = None
    parent_tool_use_id: str | None = None
    notice: bool = False


TurnItem: TypeAlias = ChatEvent | TranscriptEntry
"""What iterating over a turn gives."""


@attrs.frozen(kw_only=True)
class TokenCount:
    """Tokens of a whole turn, added up over its messages.

    Attributes:
        input_tokens: Read, beside those of the cache.
        output_tokens: Written.
        cache_read_input_tokens: Read from the prompt cache.
        cache_creation_input_tokens: Written to the prompt cache.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


@attrs.frozen(kw_only=True)
class ModelUsage(TokenCount):
    """What was spent with one model.

    Attributes:
        model: Its full name.
        cost_usd: Claude Code's own estimate, in US dollars, by list prices; null when it gives none.
    """

    model: str
    cost_usd: float | None = None

    @property
    def is_something(self) -> bool:
        """Whether anything was spent."""
        return bool(
            self.input_tokens
            or self.output_tokens
            or self.cache_read_input_tokens
            or self.cache_creation_input_tokens
            or self.cost_usd
        )


@attrs.frozen(kw_only=True)
class TurnUsage(TokenCount):
    """What a whole turn spent, subagents included.

    Attributes:
        cost_usd: Claude Code's own estimate, in US dollars, by list prices; null when it gives none.
        tool_calls: How many tools were used.
        duration_ms: From the prompt to the end, in milliseconds.
        models: The same by model.
    """

    cost_usd: float | None = None
    tool_calls: int = 0
    duration_ms: int = 0
    models: tuple[ModelUsage, ...] = ()
