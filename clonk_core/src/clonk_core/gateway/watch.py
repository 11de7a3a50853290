"""Connections that were let in, looked at again and again: one whose credential ends is told."""

from collections.abc import Callable
from typing import Final

import attrs
import trio

from clonk_core.interfaces.door import Connection

LOOK_EVERY_S: Final = 1.0
"""Between two looks. Keys that were changed elsewhere are found within `auth.key_check_s` beside."""


@attrs.define
class _Watched:
    connection: Connection
    over: trio.Event = attrs.field(factory=trio.Event)
    known: trio.Event = attrs.field(factory=trio.Event)
    reason: str = ""


class Watch:
    """The connections and streams that are open.

    Args:
        ended: Tells why a connection may not go on, None when it may.
        within_s: Time that a connection has to say who it is, in seconds.
    """

    def __init__(self, ended: Callable[[Connection], str | None], within_s: float) -> None:
        self._ended = ended
        self._within_s = within_s
        self._open: dict[int, _Watched] = {}
        self._names: dict[str, _Watched] = {}

    async def wait_over(self, connection: Connection) -> str:
        """Wait until the connection may not go on, and return why."""
        watched = _Watched(connection)
        self._open[id(watched)] = watched
        self._names[connection.id] = watched
        try:
            if connection.grant is None:
                with trio.move_on_after(self._within_s):
                    await watched.known.wait()
                if connection.grant is None:
                    return f"no credential within {self._within_s:g} s"
            await watched.over.wait()
            return watched.reason
        finally:
            del self._open[id(watched)]
            if self._names.get(connection.id) is watched:
                del self._names[connection.id]

    def note_known(self, connection: Connection) -> None:
        """Tell that a connection has said who it is."""
        watched = self._names.get(connection.id)
        if watched is not None:
            watched.known.set()

    def look(self) -> None:
        """End the waiting of those that may not go on."""
        for watched in list(self._open.values()):
            reason = self._ended(watched.connection)
            if reason is not None:
                watched.reason = reason
                watched.over.set()

    async def look_for_ever(self) -> None:
        """Look now and then."""
        while True:
            await trio.sleep(LOOK_EVERY_S)
            self.look()
