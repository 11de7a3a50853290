"""From what a caller says to what becomes of a request: everything is checked before anything is claimed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from clonk_claudecode.events import PermissionDecision
from clonk_claudecode.permissions.messages import Ruling, StoredPermission
from clonk_claudecode.permissions.questions import checked_answers, questions_of
from clonk_core.plugin import Caller, Forbidden, InvalidParams, JsonValue

BYPASS_SCOPE: Final = "claudecode:bypass"

DENIED: Final = "The user does not want this tool to be used."


def rule(
    asked: StoredPermission,
    *,
    decision: PermissionDecision,
    caller: Caller,
    at: datetime,
    message: str | None,
    updated_input: Mapping[str, JsonValue] | None,
    answers: Mapping[str, JsonValue] | None,
    suggestions: Sequence[int] | None,
    interrupt: bool,
) -> Ruling:
    """Return the answer to a request.

    Raises:
        InvalidParams: What was said does not fit together, or does not fit the request.
        Forbidden: It would allow everything, which needs a scope of its own.
    """
    if decision == "deny":
        _refuse_beside("deny", updated_input=updated_input, answers=answers, suggestions=suggestions)
        return Ruling(
            state="denied", decision=decision, by=caller.id, at=at, message=message or None, interrupt=interrupt
        )
    _refuse_beside(decision, message=message, interrupt=interrupt or None)
    if decision == "allow" and suggestions is not None:
        raise InvalidParams("belongs to the decision `allow_always` only", path="$.suggestions")
    changed = None if updated_input is None else dict(updated_input)
    if asked.kind == "question":
        changed = _answered(asked, decision, changed, answers)
    elif answers is not None:
        raise InvalidParams("belongs to a request of the kind `question` only", path="$.answers")
    return Ruling(
        state="allowed",
        decision=decision,
        by=caller.id,
        at=at,
        updated_input=changed,
        updates=_chosen(asked, suggestions, caller) if decision == "allow_always" else (),
    )


def _refuse_beside(decision: str, **given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise InvalidParams(f"does not go with the decision `{decision}`", path=f"$.{name}")


def _answered(
    asked: StoredPermission,
    decision: PermissionDecision,
    changed: dict[str, JsonValue] | None,
    answers: Mapping[str, JsonValue] | None,
) -> dict[str, JsonValue]:
    """Return the input of a question with its answers."""
    if decision != "allow":
        raise InvalidParams("a question is answered with `allow` or `deny`", path="$.decision")
    if changed is not None:
        raise InvalidParams("a question is answered with `answers`", path="$.updated_input")
    if answers is None:
        raise InvalidParams("a question is allowed together with its answers: {question: answer}", path="$.answers")
    return {**asked.input, "answers": checked_answers(questions_of(asked.tool, asked.input), answers)}


def _chosen(
    asked: StoredPermission, suggestions: Sequence[int] | None, caller: Caller
) -> tuple[dict[str, JsonValue], ...]:
    """Return the suggestions that are taken."""
    if not asked.suggestions:
        raise InvalidParams(
            "Claude Code suggests no rule for this request, so there is nothing to allow always; use `allow`",
            path="$.decision",
        )
    numbers = range(len(asked.suggestions)) if suggestions is None else dict.fromkeys(suggestions)
    for place, number in enumerate(numbers):
        if not 0 <= number < len(asked.suggestions):
            raise InvalidParams(
                f"must be a number from 0 to {len(asked.suggestions) - 1}", path=f"$.suggestions[{place}]"
            )
    taken = tuple(asked.suggestions[number] for number in numbers)
    if not taken:
        raise InvalidParams("must name at least one", path="$.suggestions")
    if any(update.get("mode") == "bypassPermissions" for update in taken) and not caller.may(BYPASS_SCOPE):
        raise Forbidden(f"bypassPermissions needs the scope {BYPASS_SCOPE!r}", scope=BYPASS_SCOPE)
    return taken
