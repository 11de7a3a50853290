"""A session's tree in arbor, as claudecode adds to it: each message a node below the one before.

The history is whole without the tree, so nothing that goes wrong with it ends a turn.
"""

from typing import Final

from clonk_claudecode.messages import StoredSession
from clonk_core.plugin import Conflict, Host, InvalidParams, JsonValue, NotFound, TooLarge

TREE_CREATE: Final = "arbor.tree_create"
NODE_CREATE: Final = "arbor.node_create"
TREE_GET: Final = "arbor.tree_get"
TREE_UPDATE: Final = "arbor.tree_update"
TREE_DELETE: Final = "arbor.tree_delete"
TREE_CLAIM: Final = "arbor.tree_claim"
TREE_RELEASE: Final = "arbor.tree_release"

OWNER: Final = "claudecode"
"""In whose name trees are claimed, so that nobody purges one that sessions grow on. Forks share their parent's."""


class ConversationTree:
    """Adds the messages of one turn.

    Attributes:
        tree_id: The session's tree; None before its first message and without arbor.
        head_id: The node of the last message that has one.
    """

    def __init__(self, host: Host, session: StoredSession) -> None:
        self.tree_id = session.tree_id
        self.head_id = session.head_node_id
        self._host = host
        self._session_name = session.name
        self._has_failed = False

    async def add(self, message: dict[str, JsonValue]) -> str | None:
        """Add a message and return its node; None when arbor is not installed or does not work."""
        if self._has_failed or not self._host.has(NODE_CREATE):
            return None
        try:
            try:
                self.head_id = await self._add(message)
            except (TooLarge, InvalidParams):
                # A file that was read, or nesting, beyond what a node may hold.
                self.head_id = await self._add({**message, "content": None, "left_out": True})
        except Exception:
            # Another activation's call may raise anything. It is left alone until the next turn: one that takes long to
            # fail would hold up every message.
            self._has_failed = True
            self._host.log.exception("no tree for the rest of a turn: arbor failed", session=self._session_name)
            return None
        return self.head_id

    async def _add(self, message: dict[str, JsonValue]) -> str:
        if self.tree_id is not None:
            try:
                return await self._add_node(message)
            except NotFound:
                self._host.log.warning("a session's tree is gone; a new one begins", session=self._session_name)
        self.head_id = None
        self.tree_id = str(await self._host.call(TREE_CREATE, name=self._session_name))
        if self._host.has(TREE_CLAIM):
            await self._host.call(TREE_CLAIM, id=self.tree_id, owner=OWNER)
        return await self._add_node(message)

    async def _add_node(self, message: dict[str, JsonValue]) -> str:
        return str(await self._host.call(NODE_CREATE, tree_id=self.tree_id, parent_id=self.head_id, content=message))


async def rename_tree(host: Host, tree_id: str, name: str, new_name: str) -> None:
    """Give a session's tree the session's new name: whoever may see trees of the old one alone sees it no more.

    One that bears another name, such as that of the session that a fork came from, keeps it. When it fails that is
    logged: the session has its new name all the same.
    """
    if not host.has(TREE_UPDATE):
        return
    try:
        if (await host.call(TREE_GET, id=tree_id))["name"] == name:
            await host.call(TREE_UPDATE, id=tree_id, name=new_name)
    except NotFound:
        pass
    except Exception:
        host.log.exception("a session's tree keeps its old name: arbor failed", tree=tree_id)


async def drop_tree(host: Host, tree_id: str) -> None:
    """Delete a tree that no session has any more. When it fails that is logged: the session is gone all the same."""
    if not host.has(TREE_DELETE):
        return
    try:
        if host.has(TREE_RELEASE):
            await host.call(TREE_RELEASE, id=tree_id, owner=OWNER)
        await host.call(TREE_DELETE, id=tree_id)
    except NotFound:
        pass
    except Conflict:
        host.log.info("a deleted session's tree stays: somebody else has claimed it", tree=tree_id)
    except Exception:
        host.log.exception("a deleted session's tree stays: arbor failed", tree=tree_id)
