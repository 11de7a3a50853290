"""Questions that the binary asks before it uses a tool, and the answers."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import attrs


@attrs.frozen(kw_only=True)
class PermissionQuestion:
    """May Claude use this tool with this input? Only asked for what would prompt in the session's permission mode.

    Attributes:
        session_id: Clonk's id of the session that asks.
        tool: The tool's name as the binary gives it.
        input: The tool's arguments.
        tool_use_id: Ties the question to the `tool_use` event; None when the binary does not say.
        request: The whole request, for what is not named above (suggestions, blocked path, description).
    """

    session_id: str
    tool: str
    input: Mapping[str, Any]
    tool_use_id: str | None
    request: Mapping[str, Any] = attrs.field(repr=False)


@attrs.frozen
class Allow:
    """Yes.

    Attributes:
        updated_input: Arguments to use in place of the asked ones; None keeps them.
    """

    updated_input: Mapping[str, Any] | None = None


@attrs.frozen
class Deny:
    """No.

    Attributes:
        message: Told to Claude as the tool's result.
        interrupt: Whether the whole turn ends too.
    """

    message: str
    interrupt: bool = False


Decision: TypeAlias = Allow | Deny
Decide: TypeAlias = Callable[[PermissionQuestion], Awaitable[Decision]]
"""Answers a question. It may take its time, and is cancelled when the binary takes the question back."""


async def deny_all(question: PermissionQuestion) -> Decision:
    """Deny whatever would prompt: there is nobody to ask."""
    return Deny(
        f"{question.tool} needs a permission, and nobody can be asked for it in this version of Clonk; a session that "
        "is created with permission_mode acceptEdits may edit files without asking, with bypassPermissions do all"
    )


def answer_of(decision: Decision, question: PermissionQuestion) -> dict[str, Any]:
    """Return the decision as the binary wants it."""
    if isinstance(decision, Allow):
        updated = question.input if decision.updated_input is None else decision.updated_input
        return {"behavior": "allow", "updatedInput": dict(updated)}
    return {"behavior": "deny", "message": decision.message, **({"interrupt": True} if decision.interrupt else {})}
