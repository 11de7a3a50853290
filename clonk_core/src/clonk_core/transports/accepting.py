"""Accepts connections, and goes on when the process has no file descriptors left."""

import errno
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn

import trio

from clonk_core.interfaces.host import Log
from clonk_core.transports.strangers import Crowd, Strangers, WaitingScope
from clonk_core.transports.tls import Stream, TlsCertificate

_OVERLOADED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""What accept(2) says when there is no room; the connection stays in the backlog."""

_RETRY_S: Final = 0.1
_TELL_EVERY_S: Final = 10.0

_SHED_AT_ONCE: Final = 100
"""Strangers that leave when there are no file descriptors: more than the backlog brings in the time of a retry."""

_A_MOMENT_S: Final = 0.5
"""Time to say who they are, for those who come while there are no file descriptors."""

_TURN_S: Final = 1.0
"""Longest turn of one port: the connection that it makes room for may have been taken back meanwhile."""


async def accept_connections(
    handler: Callable[[trio.SocketStream], Awaitable[None]],
    listeners: Sequence[trio.SocketListener],
    *,
    handler_nursery: trio.Nursery,
    strangers: Strangers,
    log: Log,
) -> None:
    """Start `handler` for each connection, until cancelled; the listeners are closed on the way out.

    Like `trio.serve_listeners`, but that one writes a traceback to standard error ten times a second, past our log,
    when there are no file descriptors left, and waits for somebody to leave by himself. Here strangers are made to,
    those of the process's other ports as well: they hold the same file descriptors.

    Args:
        handler: Serves one connection, which is closed behind it. Nothing but `Cancelled` may come out.
        listeners: Where they come from.
        handler_nursery: Where handlers run; they outlive the accepting.
        strangers: Those of the port.
        log: Where it is told that there is no room.
    """

    async def accept_from(listener: trio.SocketListener) -> NoReturn:
        accepting = _Accepting(listener, strangers.crowd, log)
        async with listener:
            while True:
                handler_nursery.start_soon(_handle, handler, await accepting.accept())

    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(accept_from, listener)


class _Accepting:
    """Accepts from one listener."""

    def __init__(self, listener: trio.SocketListener, crowd: Crowd, log: Log) -> None:
        self._listener = listener
        self._crowd = crowd
        self._log = log
        self._told_at = -math.inf

    async def accept(self) -> trio.SocketStream:
        """Return the next connection; when there is no room for it, make some."""
        while True:
            stream = await self._try()
            if stream is not None:
                return stream
            # Linux says that there is no room also when there is nobody; then nobody need leave.
            await trio.lowlevel.wait_readable(self._listener.socket)
            async with self._crowd.turn:
                with trio.move_on_after(_TURN_S):
                    return await self._accept_with_room()

    async def _accept_with_room(self) -> trio.SocketStream:
        while True:
            self._crowd.shed(_SHED_AT_ONCE, after_s=_A_MOMENT_S)
            await trio.sleep(_RETRY_S)
            stream = await self._try()
            if stream is not None:
                return stream

    async def _try(self) -> trio.SocketStream | None:
        """Accept a connection; None when there is no room."""
        try:
            return await self._listener.accept()
        except OSError as error:
            if error.errno not in _OVERLOADED:
                raise
            if trio.current_time() - self._told_at > _TELL_EVERY_S:
                self._told_at = trio.current_time()
                reason = error.strerror
                self._log.warning("connections cannot be accepted", reason=reason, strangers=len(self._crowd))
            return None


async def _handle(handler: Callable[[trio.SocketStream], Awaitable[None]], stream: trio.SocketStream) -> None:
    try:
        await handler(stream)
    finally:
        await trio.aclose_forcefully(stream)


async def secured_by(
    certificate: TlsCertificate, stream: trio.SocketStream, *, shutdown: trio.Event, strangers: Strangers
) -> "Stream | None":
    """Return the encrypted stream; None when there is none to serve. As long as it shakes hands, it is a stranger."""
    with trio.CancelScope() as scope, strangers.holding(WaitingScope(scope)):
        return await certificate.shake_hands(stream, shutdown=shutdown)
    return None
