"""Who watches which session, and what they have not been shown yet."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import trio

from clonk_claudecode.clock import now
from clonk_claudecode.sharing.messages import Missed, Presence, SessionChanged, SessionEvent, Watcher
from clonk_core.plugin import CallError, Forbidden, new_id

MAX_NOTES: Final = 200
"""Notes that a watcher has not read; the oldest are dropped beyond it. Each tells who watches now, so that nothing is
missing but what is over."""


class Watch:
    """One watching. Iterate over it for what is to be shown; it ends with the session. For one reader.

    Attributes:
        watcher: Who watches.
        may_reach: Tells whether the watcher may see a session of that name.
        is_over: Whether no new run is waited for.
        is_expelled: Whether the session is not the watcher's to see any more.
    """

    def __init__(self, watcher: Watcher, may_reach: Callable[[str], bool]) -> None:
        self.watcher = watcher
        self.may_reach = may_reach
        self.is_over = False
        self.is_expelled = False
        self._events: deque[SessionEvent | Missed] = deque()
        self._notes: deque[Presence | SessionChanged] = deque(maxlen=MAX_NOTES)
        self._error: CallError | None = None
        self._followed_to_the_end = False
        self._ready = trio.Event()
        self._room = trio.Event()
        self.stirred = trio.Event()

    # ── For the reader ────────────────────────────────────────────────────────

    def __aiter__(self) -> "Watch":
        return self

    async def __anext__(self) -> SessionEvent | Missed | Presence | SessionChanged:
        while True:
            if self.is_expelled and self._error is not None:
                raise self._error
            if self._notes:
                return self._notes.popleft()
            if self._events:
                event = self._events.popleft()
                if not self._events:
                    self._room.set()
                return event
            if self._error is not None:
                raise self._error
            if self._followed_to_the_end:
                raise StopAsyncIteration
            self._ready = trio.Event()
            await self._ready.wait()

    # ── For whoever follows the runs ──────────────────────────────────────────

    async def put(self, events: Sequence[SessionEvent | Missed]) -> None:
        """Have events shown, and wait until the reader has taken them: one that is slow reads from the log later."""
        self._events.extend(events)
        self._ready.set()
        while self._events and not self.is_expelled:
            self._room = trio.Event()
            await self._room.wait()

    def finish(self, error: CallError | None = None) -> None:
        """No more events come."""
        self._error = self._error or error
        self._followed_to_the_end = True
        self._ready.set()
        self._room.set()

    # ── For what happens to the session ───────────────────────────────────────

    def note(self, note: Presence | SessionChanged) -> None:
        """Have something shown besides the runs' events."""
        self._notes.append(note)
        self._ready.set()

    def stir(self) -> None:
        """Have it looked whether there is a new run."""
        self.stirred.set()
        self.stirred = trio.Event()

    def end(self) -> None:
        """The session is gone: what is left is shown."""
        self.is_over = True
        self.stir()

    def expel(self) -> None:
        """The session is not the watcher's to see any more."""
        self.is_expelled = True
        self.finish(Forbidden("the session has a name now that you may not reach"))
        self.end()


class Watching:
    """Every watching of one realm."""

    def __init__(self) -> None:
        self._watches: dict[str, list[Watch]] = {}

    def watchers(self, session_id: str) -> tuple[Watcher, ...]:
        """Return who watches a session, in the order in which they came."""
        return tuple(watch.watcher for watch in self._watches.get(session_id, ()))

    @contextmanager
    def open(
        self, session_id: str, caller: str, *, may_prompt: bool, may_reach: Callable[[str], bool]
    ) -> Iterator[Watch]:
        """Watch a session; the others are told when it begins and when it ends.

        Args:
            session_id: Which session.
            caller: Who watches.
            may_prompt: Whether they may prompt it too.
            may_reach: Tells whether they may see a session of that name.
        """
        watch = Watch(Watcher(id=new_id("watch"), caller=caller, may_prompt=may_prompt, since=now()), may_reach)
        others = self._watches.setdefault(session_id, [])
        others.append(watch)
        self._tell_others(session_id, watch, "joined")
        try:
            yield watch
        finally:
            others.remove(watch)
            if others:
                self._tell_others(session_id, watch, "left")
            else:
                self._watches.pop(session_id, None)

    def turn_began(self, session_id: str) -> None:
        """A session has a new run."""
        for watch in self._watches.get(session_id, ()):
            watch.stir()

    def changed(self, session_id: str, change: SessionChanged) -> None:
        """Tell that a session was changed, and end the watching of those who may not see it by its name now."""
        for watch in self._watches.get(session_id, ()):
            if watch.may_reach(change.session):
                watch.note(change)
            else:
                watch.expel()

    def deleted(self, session_id: str) -> None:
        """A session is gone: whoever watches it is shown the rest."""
        for watch in self._watches.get(session_id, ()):
            watch.end()

    def _tell_others(self, session_id: str, watch: Watch, change: Literal["joined", "left"]) -> None:
        watchers = self.watchers(session_id)
        for other in self._watches.get(session_id, ()):
            if other is not watch:
                other.note(Presence(change=change, watcher=watch.watcher, watchers=watchers))
