"""Methods that change whole sessions: their settings, putting them aside, deleting them."""

from collections.abc import Mapping
from typing import Any, Literal

from clonk_claudecode.clock import now
from clonk_claudecode.errors import SessionNotFound
from clonk_claudecode.forks import leftovers
from clonk_claudecode.messages import Metadata, Session, SessionName, StoredSession, SystemPrompt, ToolPatterns
from clonk_claudecode.methods.base import Methods
from clonk_claudecode.permissions.rules import ToolRules, check_rules
from clonk_claudecode.sessions import name_taken
from clonk_claudecode.settings import Model, PermissionMode
from clonk_claudecode.sharing.messages import SessionChanged
from clonk_claudecode.sharing.shares import revoke_all
from clonk_claudecode.store import session_rows
from clonk_claudecode.tools.given import check_patterns, giving
from clonk_claudecode.turns.conversation_tree import drop_tree, rename_tree
from clonk_claudecode.wishes import check_metadata, check_permission_mode, check_rename_gains_nothing
from clonk_core.plugin import Call, Conflict, Forbidden, InvalidParams, NotFound, method


class ChangeMethods(Methods):
    """Change, archive and delete sessions."""

    @method(target="name", idempotent=True, errors=[NotFound, Conflict, InvalidParams, Forbidden])
    async def update(
        self,
        call: Call,
        name: SessionName,
        new_name: SessionName | None = None,
        model: Model | None = None,
        system_prompt: SystemPrompt | None = None,
        permission_mode: PermissionMode | None = None,
        metadata: Metadata | None = None,
        allowed_tools: ToolRules | None = None,
        disallowed_tools: ToolRules | None = None,
        forget_granted: bool = False,
        tools: ToolPatterns | None = None,
    ) -> Session:
        """Change a session; what is left out stays as it is. A turn that runs goes on as it began.

        Args:
            name: The session.
            new_name: Its name from now on; none under which you could do more with it. Keys that were given out for it
                (`claudecode.share`) are taken back, since they are for the old name.
            model: `sonnet`, `opus`, `haiku`, or a model's full name.
            system_prompt: Added to the end of Claude Code's own system prompt; an empty text removes it.
            permission_mode: What the session may do without asking; `bypassPermissions` needs the scope
                `claudecode:bypass`.
            metadata: What is kept with it, in place of all that was; an empty object removes it.
            allowed_tools: Rules of tools that it uses without asking, in place of all that were; as in `create`.
            disallowed_tools: Rules of tools that it may never use, in place of all that were; as in `create`.
            forget_granted: Whether to take back the rules and folders that `allow_always` has added. A permission mode
                that it has set stays, unless another is given.
            tools: Methods that Claude may use as tools, in place of those that it had; an empty list takes all away, at
                once. You must be allowed to call each; they are called in the name of the session's owner, with no more
                scopes than you both have.
        """
        check_metadata(metadata)
        check_rules(allowed_tools or (), "$.allowed_tools")
        check_rules(disallowed_tools or (), "$.disallowed_tools")
        check_permission_mode(call.caller, permission_mode)
        if new_name is not None and not call.may_reach(new_name):
            raise Forbidden(f"your key is not for a session {new_name!r}", name=new_name)
        if new_name is not None:
            check_rename_gains_nothing(call.caller, name, new_name)
        session = await self._sessions.find(name)
        check_patterns(self._sessions.host, self._sessions.settings.tools, call.caller, tools or ())
        wanted: dict[str, Any] = {
            "name": new_name,
            "model": model,
            "system_prompt": system_prompt,
            "permission_mode": permission_mode,
            "metadata": metadata,
            "allowed_tools": allowed_tools,
            "disallowed_tools": disallowed_tools,
            "granted_tools": () if forget_granted else None,
            "granted_dirs": () if forget_granted else None,
        }
        changes = {member: value for member, value in wanted.items() if value is not None}
        if tools is not None:
            changes |= giving(call.caller, session, tools)
        if changes.get("system_prompt") == "":
            changes["system_prompt"] = None
        if new_name is not None and new_name != session.name:
            # Before any key is taken back: a change that is refused changes nothing.
            if await self._sessions.database.read(session_rows.session_by_name, new_name) is not None:
                raise name_taken(new_name)
            await revoke_all(self._sessions, call.caller, session)
        changed = await self._change(session, changes)
        if changed.tree_id is not None and changed.name != session.name:
            await rename_tree(self._sessions.host, changed.tree_id, session.name, changed.name)
        return self._sessions.describe(changed)

    @method(target="name", idempotent=True, errors=[NotFound, Conflict])
    async def archive(self, call: Call, name: SessionName, archived: bool = True) -> Session:
        """Put a session aside, or take it back. It is kept whole meanwhile, is not listed, and takes no prompts.

        Args:
            name: The session. While it answers it cannot be put aside.
            archived: False takes it back.
        """
        session = await self._sessions.find(name)
        engine = self._sessions.engine
        if archived and engine is not None and engine.running(session.id) is not None:
            raise Conflict("the session is answering; interrupt it first, or wait until it is done", name=name)
        if archived == (session.archived_at is not None):
            return self._sessions.describe(session)
        changed = await self._change(session, {"archived_at": now() if archived else None})
        if archived and engine is not None:
            await engine.park(session.id)
        return self._sessions.describe(changed)

    @method(target="name", destructive=True, errors=[NotFound])
    async def delete(self, call: Call, name: SessionName, keep_workspace: bool = False) -> bool:
        """Delete a session, its history, its transcript and its tree. True when it is gone.

        A running turn is stopped first. Keys that were given out for it are taken back, and whoever watches it is shown
        the end. The checkpoints of its files go, too.

        Args:
            name: The session.
            keep_workspace: Keep the folder that was made for the session alone. A folder that it was given always
                stays; so does one that another session works in, and a fork's git worktree where something was changed.
        """
        session = await self._sessions.find(name)
        await revoke_all(self._sessions, call.caller, session)
        # Out of the store first: from then on no new turn finds it.
        if not await self._sessions.database.run(leftovers.delete_session, session.id, keep_workspace):
            raise SessionNotFound(name)
        self._sessions.queues.close(session.id)
        try:
            if self._sessions.engine is not None:
                await self._sessions.engine.park(session.id)
            await leftovers.clean_up(self._sessions, session.id)
        finally:
            self._sessions.metrics.sessions_changed(-1)
            self._sessions.watching.deleted(session.id)
        await leftovers.drop_folder(self._sessions, session, keep=keep_workspace)
        if session.tree_id is not None:
            others = await self._sessions.database.read(session_rows.has_sessions_of_tree, session.tree_id)
            if not others:  # forks grow on the tree of the session that they came from
                await drop_tree(self._sessions.host, session.tree_id)
        return True

    async def _change(self, session: StoredSession, changes: dict[str, Any]) -> StoredSession:
        try:
            changed = await self._sessions.database.run(session_rows.update_session, session.id, changes)
        except session_rows.NameTakenError:
            raise name_taken(changes["name"]) from None
        if changed is None:
            raise SessionNotFound(session.name)
        self._sessions.watching.changed(session.id, SessionChanged(change=_kind_of(changes), session=changed.name))
        return changed


def _kind_of(changes: Mapping[str, Any]) -> Literal["updated", "archived", "restored"]:
    if "archived_at" not in changes:
        return "updated"
    return "restored" if changes["archived_at"] is None else "archived"
