"""Questions that the binary asks before it uses a tool, and the answers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import attrs

from clonk_claudecode.engine.spec import SessionSpec
from clonk_claudecode.engine.tool_rules import complaint
from clonk_claudecode.events import PermissionRequest, PermissionResolved, TurnItem
from clonk_core.plugin import new_id

EndedState: TypeAlias = Literal["withdrawn", "ended"]
"""How a question ends that nobody answers: the binary took it back, or what it belongs to has ended."""

_END_REASONS: Final[Mapping[EndedState, str]] = {
    "withdrawn": "Claude Code does not want an answer any more",
    "ended": "the turn has ended",
}


def _nowhere(item: TurnItem) -> None:
    """Show it to nobody."""


@attrs.define(kw_only=True, eq=False)
class PermissionQuestion:
    """May Claude use this tool with this input? Only asked for what would prompt in the session's permission mode.

    Attributes:
        session_id: Clonk's id of the session that asks.
        tool: The tool's name as the binary gives it.
        input: The tool's arguments.
        tool_use_id: Ties the question to the `tool_use` event; None when the binary does not say.
        request: The whole request, for what is not named above (suggestions, blocked path, description).
        turn_id: The running turn's subscription; None for what Claude does between turns.
        put: Adds an event to the running turn, or to what the next one shows first.
        id: Clonk's own id of the question, `perm_...`.
        ended: Set when no answer is wanted any more.
    """

    session_id: str
    tool: str
    input: Mapping[str, Any]
    tool_use_id: str | None
    request: Mapping[str, Any] = attrs.field(repr=False)
    turn_id: str | None = None
    put: Callable[[TurnItem], None] = attrs.field(default=_nowhere, repr=False)
    id: str = attrs.field(factory=lambda: new_id("perm"))
    ended: EndedState | None = attrs.field(default=None, init=False)
    _is_open: bool = attrs.field(default=False, init=False)

    def show(self, event: PermissionRequest) -> None:
        """Show it to whoever watches the session."""
        self._is_open = True
        self.put(event)

    def resolve(self, event: PermissionResolved) -> None:
        """Show what was answered. To be called before the one who decides returns: the tool runs after that."""
        self._is_open = False
        self.put(event)

    def end(self, state: EndedState) -> None:
        """No answer is wanted any more; without effect when there is one."""
        if self.ended is None:
            self.ended = state
        if self._is_open:
            self.resolve(
                PermissionResolved(
                    request_id=self.id, state=self.ended, decision=None, by=None, reason=_END_REASONS[self.ended]
                )
            )


@attrs.frozen
class Allow:
    """Yes.

    Attributes:
        updated_input: Arguments to use in place of the asked ones; None keeps them.
        updates: Changes of the session's rules, as the binary has suggested them.
        by: Who said so, for the audit; None for nobody.
    """

    updated_input: Mapping[str, Any] | None = None
    updates: Sequence[Mapping[str, Any]] = ()
    by: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen
class Deny:
    """No.

    Attributes:
        message: Told to Claude as the tool's result.
        interrupt: Whether the whole turn ends too.
        by: Who said so, for the audit; None for nobody.
    """

    message: str
    interrupt: bool = False
    by: str | None = attrs.field(default=None, kw_only=True)


Decision: TypeAlias = Allow | Deny
Decide: TypeAlias = Callable[[PermissionQuestion], Awaitable[Decision]]
"""Answers a question. It may take its time, and is cancelled when the binary takes the question back."""


async def deny_all(question: PermissionQuestion) -> Decision:
    """Deny whatever would prompt: for an engine with nobody to ask."""
    return Deny(f"{question.tool} needs a permission, and there is nobody who could be asked for it")


def answer_of(decision: Decision, question: PermissionQuestion) -> dict[str, Any]:
    """Return the decision as the binary wants it."""
    if isinstance(decision, Deny):
        return {"behavior": "deny", "message": decision.message, **({"interrupt": True} if decision.interrupt else {})}
    updated = question.input if decision.updated_input is None else decision.updated_input
    answer: dict[str, Any] = {"behavior": "allow", "updatedInput": dict(updated)}
    if decision.updates:
        answer["updatedPermissions"] = [dict(update) for update in decision.updates]
    return answer


@attrs.frozen(kw_only=True)
class Grants:
    """What changes of the rules allow, in the terms of the binary's arguments.

    Attributes:
        tools: Rules such as `Bash(touch a *)`.
        dirs: Further folders that Claude may work in.
        mode: A new permission mode; None keeps it.
    """

    tools: tuple[str, ...] = ()
    dirs: tuple[str, ...] = ()
    mode: str | None = None


def grants_of(updates: Sequence[Mapping[str, Any]]) -> Grants:
    """Read what the binary's own changes of rules allow.

    Kinds that this version does not know give nothing, and so do rules that cannot be given as arguments: those hold as
    long as the process lives.
    """
    tools: list[str] = []
    dirs: list[str] = []
    mode: str | None = None
    for update in updates:
        match update:
            case {"type": "addRules", "behavior": "allow", "rules": list(rules)}:
                tools += [_rule_text(rule) for rule in rules if isinstance(rule, dict)]
            case {"type": "addDirectories", "directories": list(directories)}:
                dirs += [folder for folder in directories if isinstance(folder, str)]
            case {"type": "setMode", "mode": str(new_mode)}:
                mode = new_mode
    return Grants(tools=tuple(rule for rule in tools if complaint(rule) is None), dirs=tuple(dirs), mode=mode)


def with_grants(spec: SessionSpec, grants: Grants) -> SessionSpec:
    """Return the session as it would be started with these grants."""
    return attrs.evolve(
        spec,
        allowed_tools=joined(spec.allowed_tools, grants.tools),
        add_dirs=joined(spec.add_dirs, grants.dirs),
        permission_mode=grants.mode or spec.permission_mode,
    )


def joined(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """Return both, each text once, in order."""
    return tuple(dict.fromkeys((*first, *second)))


def _rule_text(rule: Mapping[str, Any]) -> str:
    content = rule.get("ruleContent")
    return f"{rule.get('toolName')}({content})" if isinstance(content, str) else str(rule.get("toolName"))
