"""Faults of hypercorn and trio-websocket that we mend; each test names the mend it proves (see the modules' lists)."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from quart_trio import QuartTrio

from clonk_core.transports.hypercorn_mends import Limits
from clonk_core.transports.listening import open_listeners
from clonk_core.transports.serve_asgi import serve_asgi


@asynccontextmanager
async def serving_app(app: Any, log: Any) -> AsyncIterator[tuple[int, trio.Event]]:
    listeners, address = await open_listeners("127.0.0.1", 0, setting="test")
    shutdown = trio.Event()

    async def serve() -> None:
        await serve_asgi(app, listeners, shutdown=shutdown, grace_s=5, limits=Limits(idle_timeout_s=0.2), log=log)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield address.port, shutdown
        nursery.cancel_scope.cancel()


async def talk(port: int, data: bytes) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        with trio.fail_after(5):
            await stream.send_all(data)
            return b"".join([piece async for piece in stream])


def answering(body: bytes, *, read: bool = True) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while read and (await receive()).get("more_body"):
            pass
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.0\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"])
async def test_mend_1_a_quart_application_s_connection_is_closed(request_line: bytes, list_log: Any) -> None:
    app = QuartTrio("test")

    @app.route("/")
    async def home() -> str:
        return "home"

    async with serving_app(app, list_log) as (port, _):
        assert (await talk(port, request_line + b"\r\n")).endswith(b"home")


async def test_mend_1_an_idle_connection_of_a_quart_application_is_closed(list_log: Any) -> None:
    app = QuartTrio("test")

    @app.route("/")
    async def home() -> str:
        return "home"

    async with serving_app(app, list_log) as (port, _):
        assert (await talk(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"home")


async def test_mend_3_and_4_a_body_that_is_not_read_blocks_nothing_and_the_answer_arrives(list_log: Any) -> None:
    body = b"x" * (8 * 2**20)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving_app(answering(b"enough", read=False), list_log) as (port, _):
        assert (await talk(port, head + body)).endswith(b"enough")


async def test_mend_5_an_application_that_raises_harms_only_its_own_request(list_log: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/bad-header":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"a\nb", b"c")]})
            await send({"type": "http.response.body", "body": b""})
        if scope["path"] == "/raises":
            raise ZeroDivisionError
        await answering(b"fine")(scope, receive, send)

    async with serving_app(app, list_log) as (port, _):
        for path in (b"/raises", b"/bad-header"):
            await talk(port, b"GET %b HTTP/1.0\r\n\r\n" % path)
        assert (await talk(port, b"GET / HTTP/1.0\r\n\r\n")).endswith(b"fine")
    assert "exception" in {level for level, _, _ in list_log.records}


async def test_mend_6_requests_behind_the_last_one_do_not_hold_the_connection(list_log: Any) -> None:
    async with serving_app(answering(b"fine"), list_log) as (port, shutdown):
        last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await talk(port, last + b"GET /more HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        assert answer.startswith(b"HTTP/1.1 ")
        shutdown.set()
    assert list_log.told("exception") == []


async def test_mend_8_an_offer_of_http_2_is_passed_over(list_log: Any) -> None:
    async with serving_app(answering(b"fine"), list_log) as (port, _):
        offer = b"Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
        answer = await talk(port, b"GET / HTTP/1.1\r\nHost: x\r\n" + offer + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"fine")
        await talk(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    assert list_log.told("exception") == []


async def test_half_a_request_line_is_closed_after_the_idle_time(list_log: Any) -> None:
    async with serving_app(answering(b"fine"), list_log) as (port, _):
        assert await talk(port, b"GET / HT") == b""


async def test_headers_beyond_the_limit_are_refused(list_log: Any) -> None:
    async with serving_app(answering(b"fine"), list_log) as (port, _):
        answer = await talk(port, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000 + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431")
