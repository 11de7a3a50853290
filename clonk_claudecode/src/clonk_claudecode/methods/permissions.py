"""Methods that show what sessions wait for, and answer it."""

from typing import Annotated, Final

import attrs

from clonk_claudecode.clock import now
from clonk_claudecode.errors import PermissionNotFound, PermissionResolvedAlready, SessionNotFound
from clonk_claudecode.events import PermissionDecision
from clonk_claudecode.messages import SessionName
from clonk_claudecode.methods.base import Methods
from clonk_claudecode.permissions.callers import refuse_sessions
from clonk_claudecode.permissions.messages import DenialMessage, Permission, RequestId, StoredPermission, WantedState
from clonk_claudecode.permissions.rulings import rule
from clonk_claudecode.store import permission_rows
from clonk_core.plugin import Call, Forbidden, Ge, InvalidParams, JsonValue, Le, MaxLen, NotFound, method

SUGGESTIONS: Final = 100
"""More than the binary ever suggests."""


class PermissionMethods(Methods):
    """Permissions: what waits, and answers to it."""

    @method(scope=("read", "chat"), narrows=True, read_only=True, idempotent=True, errors=[NotFound, Forbidden])
    async def permissions(
        self,
        call: Call,
        name: SessionName | None = None,
        state: WantedState = "waiting",
        limit: Annotated[int, Ge(1), Le(1000)] = 100,
        after: RequestId | None = None,
    ) -> tuple[Permission, ...]:
        """List permission requests, oldest first; those that wait for an answer, when nothing else is said.

        Args:
            name: Of this session only; of all when left out.
            state: Those in this state; `any` for all that are kept.
            limit: At most this many, 1 to 1000.
            after: `request_id` of the last one of the page before; the list goes on behind it.
        """
        refuse_sessions(call.caller)
        if name is not None and not call.may_reach(name):
            raise SessionNotFound(name)
        session_id = None if name is None else (await self._sessions.find(name)).id
        found: list[StoredPermission] = []
        behind = after or ""
        while len(found) < limit:
            page = await self._sessions.database.read(
                permission_rows.list_permissions, session_id, state, limit, behind
            )
            found += [asked for asked in page if call.may_reach(asked.session)]
            if len(page) < limit:
                break
            behind = page[-1].request_id
        moment = now()
        return tuple(
            Permission(
                **{field.name: getattr(asked, field.name) for field in attrs.fields(StoredPermission)},
                age_s=round(max(0.0, (moment - asked.asked_at).total_seconds()), 3),
            )
            for asked in found[:limit]
        )

    @method(
        scope="chat",
        narrows=True,
        idempotent=True,
        errors=[NotFound, PermissionResolvedAlready, InvalidParams, Forbidden],
    )
    async def permit(
        self,
        call: Call,
        request_id: RequestId,
        decision: PermissionDecision,
        message: DenialMessage | None = None,
        updated_input: dict[str, JsonValue] | None = None,
        answers: dict[str, JsonValue] | None = None,
        suggestions: Annotated[tuple[int, ...], MaxLen(SUGGESTIONS)] | None = None,
        interrupt: bool = False,
    ) -> StoredPermission:
        """Answer a permission request, or a question of Claude's; the first answer counts.

        Whoever comes second is told who was first and what was said, with `claudecode.permission_resolved`; the same
        answer once more by the same caller is answered as the first time. A session's own tools cannot call this.

        Args:
            request_id: Which request: from the event `permission_request`, or from `claudecode.permissions`.
            decision: `allow` it this time; `allow_always` takes Claude Code's own suggestions, so that this session
                does not ask for the like again (an ephemeral prompt: not until it ends); `deny` it.
            message: With `deny`: what Claude is told; at most 10,000 characters.
            updated_input: With `allow` or `allow_always`: arguments to use the tool with in place of the asked ones.
            answers: With `allow` of a question: for each question, word for word, the label of an option or words of
                your own; where several can be chosen, a list of them.
            suggestions: With `allow_always`: which of the request's suggestions to take, counted from 0; all when left
                out.
            interrupt: With `deny`: whether to stop the whole turn. Claude is not told the message then.
        """
        refuse_sessions(call.caller)
        asked = await self._sessions.database.read(permission_rows.permission, request_id)
        if asked is None or not call.may_reach(asked.session):
            raise PermissionNotFound(request_id)
        ruling = rule(
            asked,
            decision=decision,
            caller=call.caller,
            at=now(),
            message=message,
            updated_input=updated_input,
            answers=answers,
            suggestions=suggestions,
            interrupt=interrupt,
        )
        return await self._sessions.permissions.settle(asked, ruling)
