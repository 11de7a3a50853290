"""Methods that show what was said."""

from typing import Annotated

from clonk_claudecode.messages import AfterNumber, HistoryMessage, SessionName
from clonk_claudecode.methods.base import Methods
from clonk_claudecode.store import message_rows
from clonk_core.plugin import Ge, Le, NotFound, method


class HistoryMethods(Methods):
    """Read the messages of a session."""

    @method(scope=("read", "chat"), target="name", read_only=True, idempotent=True, errors=[NotFound])
    async def history(
        self,
        name: SessionName,
        limit: Annotated[int, Ge(1), Le(1000)] = 100,
        after: AfterNumber = 0,
    ) -> tuple[HistoryMessage, ...]:
        """Return the messages of a session, oldest first.

        Args:
            name: The session.
            limit: At most this many, 1 to 1000.
            after: Number (`seq`) of the last message of the page before; 0 begins with the first.
        """
        session = await self._sessions.find(name)
        return tuple(await self._sessions.database.read(message_rows.history, session.id, limit, after))
