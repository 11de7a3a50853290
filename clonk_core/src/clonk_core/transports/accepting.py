"""Accepts connections, and goes on when the process has no file descriptors left."""

import errno
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn

import trio

from clonk_core.interfaces import Log
from clonk_core.transports.strangers import Strangers, WaitingScope
from clonk_core.transports.tls import Stream, TlsCertificate

_OVERLOADED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""What accept(2) says when there is no room; the connection stays in the backlog."""

_RETRY_S: Final = 0.1
_TELL_EVERY_S: Final = 10.0

_SHED_AT_ONCE: Final = 100
"""Strangers that leave when there are no file descriptors: more than the backlog brings in the time of a retry."""


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
    when there are no file descriptors left, and waits for somebody to leave by himself. Here strangers are made to.

    Args:
        handler: Serves one connection, which is closed behind it. Nothing but `Cancelled` may come out.
        listeners: Where they come from.
        handler_nursery: Where handlers run; they outlive the accepting.
        strangers: Those of the port.
        log: Where it is told that there is no room.
    """
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(_accept_from, listener, handler, handler_nursery, strangers, log)


async def _accept_from(
    listener: trio.SocketListener,
    handler: Callable[[trio.SocketStream], Awaitable[None]],
    handler_nursery: trio.Nursery,
    strangers: Strangers,
    log: Log,
) -> NoReturn:
    told_at = -math.inf
    async with listener:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _OVERLOADED:
                    raise
                if trio.current_time() - told_at > _TELL_EVERY_S:
                    told_at = trio.current_time()
                    log.warning("connections cannot be accepted", reason=error.strerror, strangers=len(strangers))
                strangers.shed(_SHED_AT_ONCE)
                await trio.sleep(_RETRY_S)
            else:
                handler_nursery.start_soon(_handle, handler, stream)


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
