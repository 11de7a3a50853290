"""The port of the metrics: `GET /metrics` for Prometheus, and nothing else."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from prometheus_client.exposition import choose_encoder

from clonk_core.config.settings import MetricsSettings, ServerSettings
from clonk_core.errors import InvalidRequest, NotFound
from clonk_core.interfaces.host import Log
from clonk_core.observe.loop_lag import watch_loop
from clonk_core.observe.metrics import PrometheusMetrics
from clonk_core.transports.exchange import Exchange
from clonk_core.transports.guard import Guard
from clonk_core.transports.hypercorn_mends import Limits
from clonk_core.transports.listening import Address, open_listeners
from clonk_core.transports.serve_asgi import serve_asgi
from clonk_core.transports.strangers import Crowd, Strangers
from clonk_core.wire.jsonrpc import error_bytes

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PATH: Final = "/metrics"

_GRACE_S: Final = 1.0
"""Time for a scrape that is under way at shutdown; it takes milliseconds."""


async def serve_metrics(
    metrics: PrometheusMetrics,
    settings: MetricsSettings,
    server: ServerSettings,
    *,
    log: Log,
    shutdown: trio.Event,
    crowd: Crowd | None = None,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the metrics until `shutdown` is set, and meanwhile measure the event loop.

    Args:
        metrics: What to show.
        settings: Where to listen. Any address will do: no call can be made here.
        server: Whose `allowed_hosts`, `send_timeout_s` and `max_strangers` hold here too.
        log: Where faults are told.
        shutdown: Set to end it.
        crowd: Of the process's ports; this one is the only one when it is left out.
        task_status: Gets the address.

    Raises:
        ConfigError: The port cannot be opened.
    """
    listeners, address = await open_listeners(settings.host, settings.port, setting="metrics.port", loopback_only=False)
    app = MetricsApp(metrics.registry, Guard.build(settings.host, server.allowed_hosts))
    limits = Limits(send_timeout_s=server.send_timeout_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_loop, metrics)
        task_status.started(address)
        strangers = Strangers(server.max_strangers, crowd)
        await serve_asgi(
            app, listeners, shutdown=shutdown, grace_s=_GRACE_S, limits=limits, log=log, strangers=strangers
        )
        nursery.cancel_scope.cancel()


@attrs.frozen
class MetricsApp:
    """The ASGI application of the port.

    Attributes:
        registry: What to show.
        guard: Who may knock.
    """

    registry: "CollectorRegistry"
    guard: Guard
    # Hundreds of numbers are written in a thread, one scrape after the other, so that calls go on meanwhile.
    _writing: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        exchange = Exchange(scope, headers, receive, send)
        refusal = self.guard.refusal(headers.get(b"host"), headers.get(b"origin"))
        if refusal is not None:
            await exchange.answer_json(refusal.status, error_bytes(None, refusal.error), close=True)
        elif scope["path"] != PATH:
            await exchange.answer_json(404, error_bytes(None, NotFound(f"there is only {PATH} on this port")))
        elif exchange.method not in {"GET", "HEAD"}:
            error = InvalidRequest(f"{PATH} takes GET and HEAD")
            await exchange.answer_json(405, error_bytes(None, error), [(b"allow", b"GET, HEAD")], close=True)
        else:
            await self._answer(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        """Send the numbers, in the format that `Accept` asks for: Prometheus's own text, or OpenMetrics."""
        accept = (exchange.header_list(b"accept") or b"").decode("latin-1")
        encode, content_type = choose_encoder(accept)
        body = await trio.to_thread.run_sync(encode, self.registry, limiter=self._writing)
        headers = [
            (b"content-type", content_type.encode("ascii")),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": b"" if exchange.method == "HEAD" else body})
