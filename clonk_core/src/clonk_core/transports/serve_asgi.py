"""An ASGI application served over HTTP/1, by hypercorn with its faults mended, until told to stop."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.logging import Logger
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from clonk_core.interfaces.host import Log
from clonk_core.metrics import NO_METRICS, Metrics
from clonk_core.transports.accepting import accept_connections, secured_by
from clonk_core.transports.hypercorn_mends import ASGIApp, Limits, MendedServer
from clonk_core.transports.strangers import Strangers
from clonk_core.transports.tls import Stream, TlsCertificate


async def serve_asgi(
    app: ASGIApp,
    listeners: Sequence[trio.SocketListener],
    *,
    shutdown: trio.Event,
    grace_s: float,
    limits: Limits,
    log: Log,
    strangers: Strangers | None = None,
    certificate: TlsCertificate | None = None,
    metrics: Metrics = NO_METRICS,
) -> None:
    """Serve `app` on the listeners until `shutdown` is set; then let open requests end for `grace_s` and cut the rest.

    By TLS when there is a certificate. Connections that are idle or send a head are among the strangers, who are the
    port's own when none are given.

    The listeners are closed on the way out. Cancelling cuts everything at once.
    """
    context = WorkerContext(None)
    config = _hypercorn_config(limits, log)
    open_connections: set[MendedServer] = set()
    waiting = Strangers() if strangers is None else strangers

    async def handle(stream: trio.SocketStream) -> None:
        if certificate is None:
            await serve(stream)
            return
        secured = await secured_by(certificate, stream, shutdown=shutdown, strangers=waiting)
        if secured is not None:
            await serve(secured)

    async def serve(stream: Stream) -> None:
        server = MendedServer(
            wrap_app(app, 0, "asgi"), config, context, ConnectionState({}), stream, limits, waiting, log, metrics
        )
        open_connections.add(server)
        metrics.connection_opened("http")
        try:
            await server.run()
        finally:
            open_connections.discard(server)
            waiting.discard(server)
            metrics.connection_closed("http")

    async def cut_when_over(connections: trio.Nursery) -> None:
        try:
            await shutdown.wait()
            await trio.sleep(grace_s)
            connections.cancel_scope.cancel()
        finally:
            for server in list(open_connections):
                server.abort()

    def close_idle() -> None:
        for server in list(open_connections):
            server.close_if_idle()

    async with trio.open_nursery() as guard:
        async with trio.open_nursery() as connections:
            guard.start_soon(cut_when_over, connections)
            async with trio.open_nursery() as accepting:
                accept = partial(accept_connections, handler_nursery=connections, strangers=waiting, log=log)
                accepting.start_soon(accept, handle, listeners)
                await shutdown.wait()
                accepting.cancel_scope.cancel()
            await context.terminated.set()
            close_idle()
        guard.cancel_scope.cancel()


class _ServerLog(Logger):
    """What hypercorn tells, in our log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def access(self, request: Any, response: Any, request_time: float) -> None:
        """Say nothing: the gateway tells every call."""

    async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.debug("http server", said=message % args if args else message)

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.warning("http server", said=message % args if args else message)

    async def error(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.error("http server", said=message % args if args else message)

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.exception("http server", said=message % args if args else message)


def _hypercorn_config(limits: Limits, log: Log) -> Config:
    config = Config()
    config._log = _ServerLog(log)  # noqa: SLF001
    config.include_server_header = False
    config.keep_alive_max_requests = 1_000_000
    config.h11_max_incomplete_size = limits.header_bytes
    return config
