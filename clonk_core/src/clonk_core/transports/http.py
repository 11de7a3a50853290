"""JSON-RPC over HTTP: `/mcp` as a bare ASGI application, every other path handed on to the pages."""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from weakref import WeakValueDictionary

import attrs
import trio

from clonk_core.config.settings import ServerSettings
from clonk_core.errors import (
    CallError,
    DeadlineExceeded,
    InvalidParams,
    InvalidRequest,
    NotFound,
    TooLarge,
    Unavailable,
)
from clonk_core.interfaces.door import Connection, Dispatch
from clonk_core.interfaces.host import Log
from clonk_core.interfaces.runs import Following
from clonk_core.messages import Quota, Reply, Request
from clonk_core.transports.addresses import Proxies
from clonk_core.transports.cors import is_preflight, preflight_headers, with_cors
from clonk_core.transports.doorway import Doorway
from clonk_core.transports.exchange import Exchange, Header, HttpRefusal
from clonk_core.transports.guard import Guard
from clonk_core.transports.headers import JSON, charset, media_type, prefers_json
from clonk_core.transports.http_streams import answer_as_json, answer_as_stream
from clonk_core.transports.hypercorn_mends import ASGIApp
from clonk_core.transports.strangers import STRANGER_BYTES, Strangers, WaitingScope
from clonk_core.wire.error_codes import http_status
from clonk_core.wire.http_caller import http_connection
from clonk_core.wire.jsonrpc import (
    Batch,
    Limits,
    Refused,
    batch_bytes,
    error_bytes,
    parse,
    reply_bytes,
    subscription_reply,
)
from clonk_core.wire.sse import SubscriptionWriter, split_event_id

PATH: Final = "/mcp"
_ALLOW: Final = (b"allow", b"GET, POST, OPTIONS")


class HttpApp:
    """The ASGI application of the HTTP port.

    Args:
        dispatch: What answers requests.
        settings: Limits.
        guard: Who may knock, on every path.
        pages: What serves the other paths.
        strangers: Those of the port; who sends a body without having said who they are is one.
        log: Where faults are told.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        settings: ServerSettings,
        *,
        guard: Guard,
        pages: ASGIApp,
        strangers: Strangers,
        log: Log,
    ) -> None:
        self._doorway = Doorway(dispatch, log)
        self._settings = settings
        self._limits = Limits(message_bytes=settings.max_body_bytes, batch_items=settings.max_batch_items)
        self._guard = guard
        self._proxies = Proxies.build(settings.trusted_proxies)
        self._pages = pages
        self._strangers = strangers
        # Of the runs that are being read.
        self._writers: WeakValueDictionary[str, SubscriptionWriter] = WeakValueDictionary()

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await _refuse_websocket(send)
            return
        scope = self._proxies.see_through(scope)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        origin = headers.get(b"origin")
        exchange = Exchange(scope, headers, receive, with_cors(send, origin) if origin is not None else send)
        refusal = self._guard.refusal(headers.get(b"host"), origin)
        if refusal is not None:
            # Without the CORS headers: that page shall not even read why.
            await Exchange(scope, headers, receive, send).answer_json(
                refusal.status, error_bytes(None, refusal.error), close=True
            )
        elif is_preflight(scope["method"], headers):
            await exchange.answer_empty(204, preflight_headers(headers))
        elif scope["path"] == PATH:
            await self._serve_endpoint(exchange)
        else:
            await self._pages(scope, receive, exchange.send)

    async def _serve_endpoint(self, exchange: Exchange) -> None:
        try:
            if exchange.method == "POST":
                await self._post(exchange)
            elif exchange.method == "GET":
                await self._get(exchange)
            elif exchange.method == "OPTIONS":
                await exchange.answer_empty(204, [_ALLOW])
            else:
                text = f"{PATH} takes POST, and GET with Last-Event-ID; sessions to delete come in a later version"
                raise HttpRefusal(405, InvalidRequest(text), [_ALLOW])
        except HttpRefusal as refusal:
            await exchange.answer_json(
                refusal.status, error_bytes(None, refusal.error), refusal.headers, close=refusal.close
            )

    # ── POST ─────────────────────────────────────────────────────────────────

    async def _post(self, exchange: Exchange) -> None:
        _check_content_type(exchange.headers)
        connection = await self._greeted(exchange)
        body = await self._read_body(exchange, connection)
        if body is None:
            return
        incoming = parse(body, self._limits)
        del body  # up to 10 MiB that the call does not need to hold
        if isinstance(incoming, Request):
            await self._answer_call(exchange, incoming, connection)
        elif isinstance(incoming, Batch):
            await self._answer_batch(exchange, incoming, connection)
        else:
            await _answer_error(exchange, incoming.id, incoming.error)

    async def _answer_call(self, exchange: Exchange, request: Request, connection: Connection) -> None:
        try:
            answer = await self._doorway.call(request, connection)
            exchange.added += quota_headers(connection.quota)
            if request.is_notification:
                if isinstance(answer, Following):
                    await self._doorway.leave_unread(answer)
                await exchange.answer_empty(204)
            elif isinstance(answer, Reply):
                await exchange.answer_json(200, reply_bytes(request.id, answer.result))
            else:
                await self._answer_stream(exchange, answer, request.id, connection)
        except CallError as error:
            exchange.added = quota_headers(connection.quota)
            if request.is_notification:
                await exchange.answer_empty(204)
            else:
                await _answer_error(exchange, request.id, error)

    async def _answer_batch(self, exchange: Exchange, batch: Batch, connection: Connection) -> None:
        """Work the items in order. There is one answer, so nothing in it can stream."""
        answers = []
        for item in batch.items:
            if isinstance(item, Refused):
                answers.append(error_bytes(item.id, item.error))
                continue
            try:
                answer = await self._doorway.call(attrs.evolve(item, plain_only=True), connection)
            except CallError as error:
                answer_bytes = error_bytes(item.id, error)
            else:
                assert isinstance(answer, Reply)  # noqa: S101  (the door keeps `plain_only`)
                answer_bytes = reply_bytes(item.id, answer.result)
            if not item.is_notification:
                answers.append(answer_bytes)
        exchange.added += quota_headers(connection.quota)
        if answers:
            await exchange.answer_json(200, batch_bytes(answers))
        else:
            await exchange.answer_empty(204)

    async def _greeted(self, exchange: Exchange) -> Connection:
        """Return the connection, its credential looked at before anything of the body is read.

        Raises:
            HttpRefusal: The credential is not good.
        """
        connection = http_connection(exchange.scope, exchange.headers)
        try:
            await self._doorway.greet(connection)
        except CallError as error:
            exchange.added += quota_headers(connection.quota)
            status = http_status(error)
            raise HttpRefusal(status, error, _error_headers(error, status), close=True) from error
        return connection

    async def _read_body(self, exchange: Exchange, connection: Connection) -> bytes | None:
        """Return the body, None when the client has gone."""
        limit = self._settings.max_body_bytes
        is_stranger = connection.grant is None
        if is_stranger:
            limit = min(limit, STRANGER_BYTES)
        length = exchange.headers.get(b"content-length", b"0")
        if int(length) > limit:
            raise _too_large(limit)
        with trio.move_on_after(self._settings.body_timeout_s) as scope:
            if not is_stranger:
                return await exchange.read_body(limit)
            with self._strangers.holding(WaitingScope(scope)):
                return await exchange.read_body(limit)
        if trio.current_time() < scope.deadline:
            text = "too many send a body without saying who they are; try again, with a credential"
            raise HttpRefusal(503, Unavailable(text), close=True)
        text = f"the request's body did not arrive within {self._settings.body_timeout_s:g} s"
        raise HttpRefusal(408, DeadlineExceeded(text), close=True)

    # ── GET ──────────────────────────────────────────────────────────────────

    async def _get(self, exchange: Exchange) -> None:
        """Go on reading a run where `Last-Event-ID` says."""
        text = exchange.headers.get(b"last-event-id", b"").decode("utf-8", "replace")
        place = split_event_id(text)
        if place is None:
            hint = "GET wants the header Last-Event-ID: <subscription>/<seq>"
            raise HttpRefusal(400, InvalidParams(hint, path="$.after", method="rpc.resume"))
        subscription, after = place
        resume = Request(method="rpc.resume", params={"subscription": subscription, "after": after}, id=None)
        try:
            connection = await self._greeted(exchange)
            answer = await self._doorway.call(resume, connection)
            assert isinstance(answer, Following)  # noqa: S101  (`rpc.resume` streams)
            if answer.run.state == "done" and answer.run.last_seq <= after:
                await exchange.answer_empty(204)  # tells an EventSource not to come back
            else:
                await self._answer_stream(exchange, answer, None, connection, acknowledge=False)
        except InvalidParams as error:
            raise HttpRefusal(400, error) from error
        except CallError as error:
            await _answer_error(exchange, None, error)

    # ── both ─────────────────────────────────────────────────────────────────

    async def _answer_stream(
        self,
        exchange: Exchange,
        following: Following,
        id_: object,
        connection: Connection,
        *,
        acknowledge: bool = True,
    ) -> None:
        if prefers_json(exchange.header_list(b"accept")):
            await answer_as_json(exchange, self._doorway, following, id_)
            return
        run_id = following.run.id
        first = subscription_reply(id_, run_id) if acknowledge else b""
        writer = self._writers.get(run_id)
        if writer is None:
            writer = self._writers[run_id] = SubscriptionWriter(run_id)
        await answer_as_stream(
            exchange,
            self._doorway,
            following,
            first,
            writer=writer,
            keep_alive_s=self._settings.keep_alive_s,
            connection=connection,
        )


async def _refuse_websocket(send: Callable[[Any], Awaitable[None]]) -> None:
    """Answer a handshake on the wrong port, whoever sent it (ASGI's extension `websocket.http.response`)."""
    error = NotFound("no WebSocket on this port; it is on the one that the setting `server.websocket_port` names")
    headers = [(b"content-type", JSON.encode()), (b"connection", b"close")]
    await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": error_bytes(None, error)})


def _check_content_type(headers: Mapping[bytes, bytes]) -> None:
    """Refuse what a web page can send without asking first, and what is not JSON in UTF-8."""
    content_type = headers.get(b"content-type", b"")
    if media_type(content_type) != JSON or charset(content_type) not in {"utf-8", "utf8", "us-ascii"}:
        raise HttpRefusal(415, InvalidRequest(f"send `Content-Type: {JSON}`"), close=True)
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise HttpRefusal(415, InvalidRequest("send the body without Content-Encoding"), close=True)


async def _answer_error(exchange: Exchange, id_: object, error: CallError) -> None:
    status = http_status(error)
    await exchange.answer_json(status, error_bytes(id_, error), _error_headers(error, status))


def _error_headers(error: CallError, status: int) -> list[Header]:
    headers = []
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    retry_after_s = error.data.get("retry_after_s")
    if status in {429, 503} and isinstance(retry_after_s, int | float):
        headers.append((b"retry-after", b"%d" % max(1, -int(-retry_after_s // 1))))
    return headers


def quota_headers(quota: Quota | None) -> list[Header]:
    """Return what tells a client how much is left (draft-ietf-httpapi-ratelimit-headers-03), nothing without a limit.

    The limit of a rate `100/min` is 100; what is left, and the seconds until all of it is back.
    """
    if quota is None:
        return []
    return [
        (b"ratelimit-limit", b"%d" % quota.limit),
        (b"ratelimit-remaining", b"%d" % quota.remaining),
        (b"ratelimit-reset", b"%d" % math.ceil(quota.reset_s)),
    ]


def _too_large(limit: int) -> HttpRefusal:
    return HttpRefusal(413, TooLarge(f"a request's body may have at most {limit} bytes", limit=limit), close=True)
