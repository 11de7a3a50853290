"""What the methods that search, export and import take and return."""

from datetime import datetime
from typing import Literal

import attrs

from clonk_claudecode.messages import CreatedSession


@attrs.frozen(kw_only=True)
class SearchHit:
    """One message that was found.

    Attributes:
        session: The name of its session.
        session_id: The id of its session.
        seq: Its number in the session's history.
        role: `user` for prompts and for tool results, `assistant` for Claude.
        snippet: The words around what was found, which is between `**`; at most 24 words.
        snapshot_id: Its node in the session's tree; null without arbor.
        created_at: When it came.
        score: How well it fits; more is better, and only numbers of one search can be compared.
        cursor: Pass it as `after` to go on behind this one.
    """

    session: str
    session_id: str
    seq: int
    role: Literal["user", "assistant"]
    snippet: str
    snapshot_id: str | None
    created_at: datetime
    score: float
    cursor: str


@attrs.frozen(kw_only=True)
class ExportDelta:
    """A piece of an export.

    Attributes:
        text: The piece, at most 65,536 characters; pieces joined give the whole.
    """

    type: Literal["export_delta"] = "export_delta"
    text: str


@attrs.frozen(kw_only=True)
class ImportedSession(CreatedSession):
    """A session that was made from a transcript.

    Attributes:
        message_count: Messages in its history.
        entry_count: Entries of its transcript, those of subagents included.
        snapshot_id: The node of its last message; null without arbor and without messages.
    """

    message_count: int
    entry_count: int
    snapshot_id: str | None
