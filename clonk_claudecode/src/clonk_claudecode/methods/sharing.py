"""Methods for several at one session: watching it, and giving out keys for it."""

from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal

import attrs
import trio

from clonk_claudecode.clock import now
from clonk_claudecode.messages import SessionName, StoredSession
from clonk_claudecode.methods.base import Methods
from clonk_claudecode.sharing.following import Place, follow, place_of
from clonk_claudecode.sharing.messages import Attached, Cursor, NewShare, Share, WatchDone, WatchEvent
from clonk_claudecode.sharing.shares import give_out, take_back
from clonk_claudecode.sharing.watching import Watch
from clonk_claudecode.store import share_rows
from clonk_core.plugin import Call, Conflict, Forbidden, Ge, InvalidParams, Le, NotFound, Unavailable, method

DAY_S: Final = 86_400.0


class SharingMethods(Methods):
    """Watch a session, share it."""

    @method(scope=("read", "chat"), target="name", read_only=True, errors=[NotFound, InvalidParams, Unavailable])
    async def attach(self, call: Call, name: SessionName, after: Cursor | None = None) -> AsyncIterator[WatchEvent]:
        """Watch a session: the events of all its runs, whoever sent the prompt, and who else watches.

        It ends with the session.

        Any number of callers may watch. A client that was cut off goes on behind the last `cursor` that it has
        seen, and misses nothing that the server still keeps. To prompt the session, call `claudecode.chat`.

        Args:
            name: The session.
            after: Where to begin: behind the event of this `cursor`; with the first event that is kept (`start`);
                when left out, with the run that answers now, and what comes behind it.
        """
        session = await self._sessions.find(name)
        engine = self._sessions.running_engine()
        running = engine.running(session.id)
        place = await place_of(self._sessions.database, session.id, after, running.turn_id if running else None)
        return self._watch(call, session, place)

    async def _watch(self, call: Call, session: StoredSession, place: Place) -> AsyncIterator[WatchEvent]:
        sessions, background = self._sessions, self._sessions.background
        if background is None:
            raise Unavailable("the session engine has just failed; watch again")
        may_prompt = call.caller.may("claudecode:chat", session.name)
        with sessions.watching.open(
            session.id, call.caller.id, may_prompt=may_prompt, may_reach=call.may_reach
        ) as watch:
            running = sessions.engine.running(session.id) if sessions.engine else None
            yield Attached(
                session=session.name,
                watch_id=watch.watcher.id,
                watchers=sessions.watching.watchers(session.id),
                subscription=running.turn_id if running else None,
            )
            following = trio.CancelScope()
            background.start_soon(self._follow, session.id, place, watch, following)
            try:
                async for event in watch:
                    yield event
            finally:
                following.cancel()
        yield WatchDone()

    async def _follow(self, session_id: str, place: Place, watch: Watch, scope: trio.CancelScope) -> None:
        with scope:
            await follow(self._sessions.host, self._sessions.database, session_id, place, watch)

    @method(target="name", errors=[NotFound, Conflict, Forbidden])
    async def share(
        self,
        call: Call,
        name: SessionName,
        access: Literal["read", "chat"] = "read",
        expires_in_s: Annotated[float, Ge(60), Le(30 * DAY_S)] = DAY_S,
    ) -> NewShare:
        """Make a token that is good for one session alone, to be given to somebody else. It is shown this once.

        A session has at most 100 that are good at the same time.

        It works as an API key on every transport, also for `clonk chat`. It ends when its time is up, when it is taken
        back (`claudecode.unshare`), and when the session is deleted or gets another name.

        Args:
            name: The session.
            access: `read` may look and watch; `chat` may prompt, stop turns and answer questions too.
            expires_in_s: How long it is good, in seconds: a minute to 30 days; a day when left out.
        """
        session = await self._sessions.find(name)
        return await give_out(self._sessions, call.caller, session, access, expires_in_s)

    @method(scope="share", target="name", read_only=True, idempotent=True, errors=[NotFound])
    async def shares(self, name: SessionName) -> tuple[Share, ...]:
        """List the tokens that were given out for a session, newest first, at most 1,000; never the tokens themselves.

        Args:
            name: The session.
        """
        session = await self._sessions.find(name)
        return tuple(await self._sessions.database.read(share_rows.shares, session.id))

    @method(scope="share", target="name", destructive=True, idempotent=True, errors=[NotFound])
    async def unshare(self, call: Call, name: SessionName, id: str) -> Share:
        """Take a token back: its open connections and streams end within seconds, and so do the runs it started.

        Args:
            name: The session.
            id: The share's id.
        """
        session = await self._sessions.find(name)
        share = await self._sessions.database.read(share_rows.share_by_id, session.id, id)
        if share is None:
            raise NotFound(
                f"the session {name!r} was not shared as {id[:80]!r}; `claudecode.shares` lists all", id=id[:80]
            )
        if share.revoked_at is None:
            await take_back(self._sessions, call.caller, share)
            share = attrs.evolve(share, revoked_at=now())
        return share
