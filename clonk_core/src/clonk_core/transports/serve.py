"""Both ports of a running Clonk: opened first, served until told to stop, closed within the grace period."""

import attrs
import trio

from clonk_core.config.settings import ServerSettings
from clonk_core.interfaces.door import Dispatch
from clonk_core.interfaces.host import Log
from clonk_core.metrics import NO_METRICS, Metrics
from clonk_core.transports import websocket
from clonk_core.transports.guard import Guard
from clonk_core.transports.http import HttpApp
from clonk_core.transports.hypercorn_mends import ASGIApp, Limits
from clonk_core.transports.listening import Address, open_listeners
from clonk_core.transports.serve_asgi import serve_asgi
from clonk_core.transports.strangers import Crowd, Strangers
from clonk_core.transports.tls import TlsCertificate


async def serve_http(
    dispatch: Dispatch,
    settings: ServerSettings,
    *,
    pages: ASGIApp,
    log: Log,
    shutdown: trio.Event,
    for_all: bool = False,
    certificate: TlsCertificate | None = None,
    metrics: Metrics = NO_METRICS,
    crowd: Crowd | None = None,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `/mcp`, and `pages` on every other path, until `shutdown` is set and the last answer is out.

    By TLS when there is a certificate. Answers and streams under way may end within `settings.shutdown_grace_s`.
    Only the loopback is served, unless `for_all` says that callers must prove who they are. Ports of one process share
    a `crowd`. `task_status` gets the address.

    Raises:
        ConfigError: The port cannot be opened.
    """
    listeners, address = await open_listeners(
        settings.host, settings.http_port, setting="server.http_port", loopback_only=not for_all
    )
    guard = Guard.build(settings.host, settings.allowed_hosts, settings.allowed_origins)
    strangers = Strangers(settings.max_strangers, crowd)
    app = HttpApp(dispatch, settings, guard=guard, pages=pages, strangers=strangers, log=log)
    limits = Limits(send_timeout_s=settings.send_timeout_s, idle_timeout_s=settings.idle_timeout_s)
    # Who connects now waits in the backlog for a moment.
    task_status.started(attrs.evolve(address, secure=certificate is not None))
    await serve_asgi(
        app,
        listeners,
        shutdown=shutdown,
        grace_s=settings.shutdown_grace_s,
        limits=limits,
        log=log,
        strangers=strangers,
        certificate=certificate,
        metrics=metrics,
    )


async def serve_websocket(
    dispatch: Dispatch,
    settings: ServerSettings,
    *,
    log: Log,
    shutdown: trio.Event,
    for_all: bool = False,
    certificate: TlsCertificate | None = None,
    metrics: Metrics = NO_METRICS,
    crowd: Crowd | None = None,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve WebSocket until `shutdown` is set and the last answer is out; see `serve_http`.

    Raises:
        ConfigError: The port cannot be opened.
    """
    listeners, address = await open_listeners(
        settings.host, settings.websocket_port, setting="server.websocket_port", loopback_only=not for_all
    )
    task_status.started(attrs.evolve(address, secure=certificate is not None))
    await websocket.serve_on(
        listeners,
        dispatch,
        settings,
        strangers=Strangers(settings.max_strangers, crowd),
        log=log,
        shutdown=shutdown,
        certificate=certificate,
        metrics=metrics,
    )
