"""What the methods about permissions take and return."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import attrs

from clonk_claudecode.events import PermissionDecision, PermissionKind, PermissionState
from clonk_core.plugin import JsonValue, MaxLen, MinLen

RequestId = Annotated[str, MinLen(1), MaxLen(64)]

WantedState: TypeAlias = Literal["waiting", "allowed", "denied", "expired", "withdrawn", "ended", "any"]

DenialMessage = Annotated[str, MaxLen(10_000)]


@attrs.frozen(kw_only=True)
class StoredPermission:
    """A permission request, as it is kept.

    Attributes:
        request_id: Its id, `perm_...`.
        session: Name of the session that asks.
        session_id: Id of that session.
        subscription: The run it belongs to; null for what Claude does between turns.
        kind: `tool`: may the tool be used? `question`: a question of Claude's, in `input`.
        tool: The tool's name as Claude Code gives it.
        input: Its arguments.
        tool_use_id: The `tool_use` event it belongs to; null when Claude Code does not say.
        suggestions: What `allow_always` would change in the session's rules.
        reason: Why Claude Code asks; null when it does not say.
        asked_at: When it was asked.
        expires_at: When the default answer is taken.
        state: `waiting`; `allowed` or `denied` by somebody; `expired` when nobody answered in time; `withdrawn` by
            Claude Code; `ended` with its turn.
        decision: What Claude Code was told; null when it was told nothing.
        decided_by: Id of the caller who answered; null when nobody did.
        decided_at: When it stopped to wait; null while it waits.
        message: What Claude was told with a denial.
        updated_input: Arguments that were used in place of the asked ones, answers to a question among them; null when
            they were kept.
        interrupt: Whether the denial ended the turn.
    """

    request_id: str
    session: str
    session_id: str
    subscription: str | None
    kind: PermissionKind
    tool: str
    input: dict[str, JsonValue]
    tool_use_id: str | None
    suggestions: tuple[dict[str, JsonValue], ...]
    reason: str | None
    asked_at: datetime
    expires_at: datetime
    state: PermissionState
    decision: PermissionDecision | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    message: str | None = None
    updated_input: dict[str, JsonValue] | None = None
    interrupt: bool = False


@attrs.frozen(kw_only=True)
class Permission(StoredPermission):
    """A permission request in a list.

    Attributes:
        age_s: Seconds since it was asked.
    """

    age_s: float


@attrs.frozen(kw_only=True)
class Ruling:
    """One answer to one request, checked; not on the wire.

    Attributes:
        state: What the request becomes.
        decision: What the binary is told.
        by: Id of the caller; None for the deadline.
        at: When.
        message: For Claude, with a denial.
        updated_input: Arguments to use in place of the asked ones.
        updates: Changes of the session's rules, as the binary wants them.
        interrupt: Whether the turn ends.
    """

    state: PermissionState
    decision: PermissionDecision
    by: str | None
    at: datetime = attrs.field(eq=False)
    message: str | None = None
    updated_input: dict[str, JsonValue] | None = None
    updates: tuple[dict[str, JsonValue], ...] = attrs.field(default=(), eq=False)
    interrupt: bool = False
