"""JSON-RPC over WebSocket: one message per text frame, any number of calls and streams on one connection."""

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Final

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest

from clonk_core.config.settings import ServerSettings
from clonk_core.errors import CallError, NotFound
from clonk_core.ids import new_id
from clonk_core.interfaces.door import Connection, Dispatch
from clonk_core.interfaces.host import Log
from clonk_core.metrics import NO_METRICS, Metrics
from clonk_core.transports.accepting import accept_connections, secured_by
from clonk_core.transports.addresses import Proxies
from clonk_core.transports.doorway import Doorway, PeerGone
from clonk_core.transports.duplex import Duplex
from clonk_core.transports.guard import Guard
from clonk_core.transports.strangers import STRANGER_BYTES, Strangers
from clonk_core.transports.tls import Stream, TlsCertificate, transport_of
from clonk_core.transports.websocket_mends import EncryptedConnection, ServerConnection
from clonk_core.wire.error_codes import http_status
from clonk_core.wire.http_caller import bearer_token, peer_name
from clonk_core.wire.jsonrpc import Limits, error_bytes

PATHS: Final = frozenset({"/", "/ws"})

_GOODBYE_S: Final = 2.0
"""Longest time to wait for the answer to a close frame."""

_PONG_S: Final = 20.0
"""Longest time for a sign of life after a ping."""

_GOING_AWAY: Final = 1001
_PING_TIMEOUT: Final = 1011
_POLICY: Final = 1008
"""RFC 6455, section 7.4.1: the connection may not go on."""

_REASON_CHARACTERS: Final = 100
"""Of the reason in a close frame, which has room for 123 bytes."""


async def serve_on(
    listeners: Sequence[trio.SocketListener],
    dispatch: Dispatch,
    settings: ServerSettings,
    *,
    strangers: Strangers,
    log: Log,
    shutdown: trio.Event,
    certificate: TlsCertificate | None = None,
    metrics: Metrics = NO_METRICS,
) -> None:
    """Serve WebSocket on the listeners, by TLS when there is a certificate, until `shutdown` is set.

    Then connections with nothing under way are closed, the others when their calls and streams have ended, all of them
    after `settings.shutdown_grace_s`. The listeners are closed on the way out.
    """
    server = _Server(
        strangers=strangers,
        doorway=Doorway(dispatch, log),
        settings=settings,
        guard=Guard.build(settings.host, settings.allowed_hosts, settings.allowed_origins),
        proxies=Proxies.build(settings.trusted_proxies),
        shutdown=shutdown,
        certificate=certificate,
        metrics=metrics,
    )
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accept = partial(
                accept_connections, handler_nursery=connections, strangers=server.strangers, log=server.doorway.log
            )
            accepting.start_soon(accept, server.handle, listeners)
            await shutdown.wait()
            accepting.cancel_scope.cancel()
        connections.cancel_scope.deadline = trio.current_time() + settings.shutdown_grace_s + _GOODBYE_S


@attrs.frozen(kw_only=True)
class _Server:
    strangers: Strangers
    doorway: Doorway
    settings: ServerSettings
    guard: Guard
    proxies: Proxies
    shutdown: trio.Event
    certificate: TlsCertificate | None
    metrics: Metrics

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection; nothing but `Cancelled` comes out, so that no connection harms another."""
        self.metrics.connection_opened("websocket")
        try:
            secured: Stream | None = stream
            if self.certificate is not None:
                secured = await secured_by(self.certificate, stream, shutdown=self.shutdown, strangers=self.strangers)
            if secured is not None:
                peer = _Peer(self, secured)
                with self.strangers.holding(peer):
                    await peer.run()
        except* OSError:
            pass  # gone before it was greeted
        except* Exception:
            self.doorway.log.exception("websocket connection failed")
        finally:
            self.metrics.connection_closed("websocket")


class _Peer:
    """One connection, from its handshake to its end."""

    def __init__(self, server: _Server, stream: Stream) -> None:
        self._server = server
        self._settings = server.settings
        self._log = server.doorway.log
        self._life = trio.CancelScope()
        address, port = transport_of(stream).socket.getpeername()[:2]
        self._connection = Connection(
            transport="websocket", peer=peer_name(address, port), id=new_id("conn"), address=address
        )
        self._duplex = Duplex(
            server.doorway,
            self._connection,
            self._send,
            Limits(message_bytes=self._settings.max_message_bytes, batch_items=self._settings.max_batch_items),
        )
        make_connection = EncryptedConnection if isinstance(stream, trio.SSLStream) else ServerConnection
        self._socket = make_connection(
            stream,
            max_message_bytes=self._settings.max_message_bytes,
            limit_now=self._limit_now,
            send_timeout_s=self._settings.send_timeout_s,
            metrics=server.metrics,
        )

    @property
    def is_stranger(self) -> bool:
        """Whether it has not said who it is."""
        return self._connection.grant is None

    def _limit_now(self) -> int:
        """Return the largest message that is taken, in bytes: a stranger has to say no more than who they are."""
        limit = self._settings.max_message_bytes
        return min(limit, STRANGER_BYTES) if self.is_stranger else limit

    def leave(self) -> None:
        """End the connection where it stands."""
        self._life.cancel()

    async def run(self) -> None:
        with self._life:
            await self._run()

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._greet_and_watch)
            nursery.start_soon(self._socket.watch_sends)
            await self._duplex.run(self._socket.receive, linger_s=0)
            nursery.cancel_scope.cancel()
        if self._socket.stalled:
            self._log.warning(
                "websocket reader dropped",
                connection=self._connection.id,
                peer=self._connection.peer,
                reason=f"took nothing for {self._settings.send_timeout_s:g} s",
            )

    async def _greet_and_watch(self) -> None:
        if not await self._greet():
            await self._socket.close(1000, "", timeout_s=0)
            return
        self._log.debug("websocket opened", connection=self._connection.id, peer=self._connection.peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ping)
            nursery.start_soon(self._close_at_shutdown)
            nursery.start_soon(self._close_when_over)

    async def _greet(self) -> bool:
        """Answer the handshake, in time; tell whether the connection is open."""
        # A client may leave while it is being answered.
        with trio.move_on_after(self._settings.handshake_timeout_s), contextlib.suppress(ConnectionClosed):
            request = await self._socket.handshake()
            self._see_through(request)
            status, error = self._refusal(request)
            if error is not None:
                headers = [(b"content-type", b"application/json")]
                await request.reject(status, extra_headers=headers, body=error_bytes(None, error))
                return False
            self._connection.bearer = bearer_token(request.headers)
            if not await self._let_in(request):
                return False
            await request.accept()
            return True
        return False

    async def _let_in(self, request: WebSocketRequest) -> bool:
        """Look at the handshake's credential, and refuse the handshake when it is not good."""
        try:
            await self._server.doorway.greet(self._connection)
        except CallError as error:
            headers = [(b"content-type", b"application/json")]
            if http_status(error) == 401:
                headers.append((b"www-authenticate", b"Bearer"))
            await request.reject(http_status(error), extra_headers=headers, body=error_bytes(None, error))
            return False
        return True

    def _see_through(self, request: WebSocketRequest) -> None:
        """Take the client's address instead of the last proxy's."""
        client = self._server.proxies.client(self._connection.address, request.headers)
        if client.address != self._connection.address:
            self._connection.address = client.address
            self._connection.peer = peer_name(client.address, 0)

    def _refusal(self, request: WebSocketRequest) -> tuple[int, CallError | None]:
        """Return the HTTP status and the error of a handshake that is refused."""
        headers = dict(request.headers)
        refusal = self._server.guard.refusal(self._socket.host_header(request), headers.get(b"origin"))
        if refusal is not None:
            return refusal.status, refusal.error
        if request.path.partition("?")[0] not in PATHS:
            return 404, NotFound("WebSocket is served on / and /ws")
        return 101, None

    async def _ping(self) -> None:
        """Ask a silent client for a sign of life, and drop it when none comes."""
        while True:
            await trio.sleep(self._settings.keep_alive_s)
            heard_s = self._socket.last_received_s
            if trio.current_time() - heard_s < self._settings.keep_alive_s or self._is_busy():
                continue
            try:
                await self._socket.send_ping()
            except ConnectionClosed:
                return
            await trio.sleep(_PONG_S)
            if self._socket.last_received_s == heard_s and not self._is_busy():
                self._log.info("websocket dropped", connection=self._connection.id, reason="no answer to a ping")
                await self._socket.close(_PING_TIMEOUT, "no answer to a ping", timeout_s=_GOODBYE_S)
                return

    def _is_busy(self) -> bool:
        """Tell whether silence says nothing: we do not read now, or the client has not read yet what comes first."""
        return self._duplex.waits_for_room or self._socket.sending

    async def _close_at_shutdown(self) -> None:
        await self._server.shutdown.wait()
        with trio.move_on_after(self._settings.shutdown_grace_s):
            await self._duplex.wait_quiet()
        await self._socket.close(_GOING_AWAY, "the server is shutting down", timeout_s=_GOODBYE_S)

    async def _close_when_over(self) -> None:
        reason = await self._server.doorway.dispatch.wait_over(self._connection)
        self._log.info("websocket closed", connection=self._connection.id, peer=self._connection.peer, reason=reason)
        await self._socket.close(_POLICY, reason[:_REASON_CHARACTERS], timeout_s=_GOODBYE_S)

    async def _send(self, messages: Sequence[bytes]) -> None:
        try:
            await self._socket.send_texts(messages)
        except ConnectionClosed as error:
            raise PeerGone from error
