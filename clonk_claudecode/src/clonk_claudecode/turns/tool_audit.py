"""The tools that Claude uses, written into the audit log: one row for each use, when its result is known."""

import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, TypeAlias

import attrs
import trio

from clonk_claudecode.engine.permissions import Allow, Decide, Decision, Deny, PermissionQuestion
from clonk_claudecode.engine.turn import Turn
from clonk_claudecode.events import ToolResult, ToolUse
from clonk_core.plugin import Host, JsonValue

Outcome: TypeAlias = Literal["ok", "error", "denied", "unknown"]
"""What came of it; `unknown` for one that never gave a result, because its turn was cut."""

ROW_S: Final = 5.0
"""Longest time to write one row, which takes milliseconds."""

LAST_ROWS_S: Final = 10.0
"""Longest time to write the rows of uses that were cut, while the turn is being cancelled."""

_REFUSED_BY_THE_BINARY: Final = re.compile(
    r"Permission to use |<tool_use_error>(?:"
    r"Error: No such tool available: .* is disabled for this session|"
    r"File is in a directory that is denied by your permission settings)"
)
"""How the result begins of a use that the binary refuses by its own rules, without asking (seen with 2.1.330)."""


@attrs.frozen
class Decided:
    """What was answered to the question whether a tool may be used.

    Attributes:
        request_id: The permission request.
        decision: The answer.
    """

    request_id: str
    decision: Decision

    @property
    def is_denial(self) -> bool:
        """Whether the tool was not used."""
        return isinstance(self.decision, Deny)

    @property
    def detail(self) -> dict[str, JsonValue]:
        """What the audit tells of it. `decided_by` is null when nobody answered and the default was taken."""
        detail: dict[str, JsonValue] = {"request_id": self.request_id, "decided_by": self.decision.by}
        if isinstance(self.decision, Allow) and self.decision.updated_input is not None:
            detail["updated_input"] = dict(self.decision.updated_input)
        return detail


class Denials:
    """What was decided about the uses of tools that were asked for: the result of a use does not say it.

    Only until their result has come, or their turn has ended.
    """

    def __init__(self) -> None:
        self._decided: dict[str, Decided] = {}

    def noting(self, decide: Decide) -> Decide:
        """Return what decides as `decide` does, and notes what is decided."""

        async def decide_and_note(question: PermissionQuestion) -> Decision:
            decision = await decide(question)
            if question.tool_use_id is not None:
                self._decided[question.tool_use_id] = Decided(question.id, decision)
            return decision

        return decide_and_note

    def take(self, tool_use_id: str) -> Decided | None:
        """Return what was decided about a use, None when nobody was asked, and forget it."""
        return self._decided.pop(tool_use_id, None)


@attrs.frozen
class _Begun:
    """A use that has no result yet."""

    use: ToolUse
    at: float


class ToolAudit:
    """Writes down the tool uses of one turn. A row that cannot be written is logged: the turn goes on.

    Args:
        host: What the host gives.
        session: The session's name.
        turn_id: The turn's subscription.
        denials: What was decided.

    Attributes:
        count: How many uses there were.
    """

    def __init__(self, host: Host, session: str, turn_id: str, denials: Denials) -> None:
        self._host = host
        self._session = session
        self._turn_id = turn_id
        self._denials = denials
        self._begun: dict[str, _Begun] = {}
        self.count = 0

    async def note(self, item: ToolUse | ToolResult) -> None:
        """Take note of a use, or write down what came of it."""
        if isinstance(item, ToolUse):
            self.count += 1
            self._begun[item.tool_use_id] = _Begun(item, trio.current_time())
            return
        begun = self._begun.pop(item.tool_use_id, None)
        if begun is None:
            return  # begun in an earlier turn, at whose end it was written down
        decided = self._denials.take(item.tool_use_id)
        is_denied = decided is not None and decided.is_denial
        if is_denied or (item.is_error and _is_refusal(item.content)):
            outcome: Outcome = "denied"
        else:
            outcome = "error" if item.is_error else "ok"
        await self._write(begun, outcome, decided)

    async def end(self) -> None:
        """Write down the uses that have no result."""
        while self._begun:
            tool_use_id, begun = self._begun.popitem()
            decided = self._denials.take(tool_use_id)
            is_denied = decided is not None and decided.is_denial
            await self._write(begun, "denied" if is_denied else "unknown", decided)

    async def _write(self, begun: _Begun, outcome: Outcome, decided: Decided | None) -> None:
        use = begun.use
        await write_row(
            self._host,
            use.tool,
            session=self._session,
            turn_id=self._turn_id,
            outcome=outcome,
            duration_ms=None if outcome == "unknown" else round((trio.current_time() - begun.at) * 1000, 3),
            detail={
                **_told(use.tool_use_id, use.input, outcome),
                **_parent(use),
                **({} if decided is None else decided.detail),
            },
        )


@asynccontextmanager
async def open_tool_audit(host: Host, session: str, turn_id: str, denials: Denials) -> AsyncIterator[ToolAudit]:
    """Give what writes down the tool uses of a turn; those without a result are written down at the end."""
    audit = ToolAudit(host, session, turn_id, denials)
    try:
        yield audit
    finally:
        with trio.move_on_after(LAST_ROWS_S, shield=True):
            await audit.end()


async def note_unread(turn: Turn, audit: ToolAudit) -> None:
    """Take note of what a finished turn's reader has not read: it was done all the same."""
    async for item in turn:
        if isinstance(item, ToolUse | ToolResult):
            await audit.note(item)


async def write_cut_off(host: Host, session: str, turn_id: str, tool_use_id: str, tool: str, tool_input: str) -> None:
    """Write down a use that the server's own end has cut off.

    Args:
        host: What the host gives.
        session: The session's name.
        turn_id: The turn's subscription.
        tool_use_id: Which use.
        tool: The tool's name.
        tool_input: JSON text of its arguments.
    """
    detail = _told(tool_use_id, json.loads(tool_input), "unknown")
    await write_row(host, tool, session=session, turn_id=turn_id, outcome="unknown", duration_ms=None, detail=detail)


async def write_row(
    host: Host,
    tool: str,
    *,
    session: str,
    turn_id: str,
    outcome: Outcome,
    duration_ms: float | None,
    detail: Mapping[str, JsonValue],
) -> None:
    """Write one row; one that cannot be written is logged."""
    try:
        # Shielded: a turn that is cancelled just now has used the tool all the same.
        with trio.fail_after(ROW_S, shield=True):
            await host.audit(
                tool,
                kind="tool",
                target=session,
                outcome=outcome,
                duration_ms=duration_ms,
                run_id=turn_id,
                detail=detail,
            )
    except Exception:
        host.log.exception("a tool use is missing in the audit log", tool=tool, session=session)


def _told(tool_use_id: str, tool_input: JsonValue, outcome: Outcome) -> dict[str, JsonValue]:
    canonical = json.dumps(tool_input, sort_keys=True, separators=(",", ":"))
    return {
        "tool_use_id": tool_use_id,
        "decision": "denied" if outcome == "denied" else "allowed",
        "result": {"ok": "ok", "unknown": "unknown"}.get(outcome, "error"),
        "input_digest": hashlib.sha256(canonical.encode()).hexdigest(),
        "input": tool_input,
    }


def _parent(use: ToolUse) -> dict[str, Any]:
    return {} if use.parent_tool_use_id is None else {"parent_tool_use_id": use.parent_tool_use_id}


def _is_refusal(content: JsonValue) -> bool:
    if isinstance(content, list):
        content = next((block.get("text") for block in content if isinstance(block, dict)), None)
    return isinstance(content, str) and _REFUSED_BY_THE_BINARY.match(content) is not None
