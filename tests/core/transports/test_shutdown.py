"""The end of both servers: in order, within the grace period, whatever clients do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url


def post(method: str, **params: Any) -> bytes:
    body = orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def message(method: str, **params: Any) -> str:
    return orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).decode()


@asynccontextmanager
async def connected(served: Any) -> AsyncIterator[WebSocketConnection]:
    async with open_websocket_url(served.websocket_url) as socket:
        yield socket
    # The library's client leaves its socket open when the server has closed first.
    await trio.aclose_forcefully(socket._stream)


async def read_all(stream: trio.SocketStream) -> bytes:
    return b"".join([piece async for piece in stream])


async def read_until(stream: trio.SocketStream, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        seen += bytes(await stream.receive_some())


async def test_idle_connections_are_closed_at_once(serving: Any) -> None:
    async with serving(shutdown_grace_s=60) as served:
        http = await trio.open_tcp_stream("127.0.0.1", served.http_port)
        silent = await trio.open_tcp_stream("127.0.0.1", served.websocket_port)
        async with http, silent, connected(served) as socket:
            await http.send_all(post("test.echo"))
            await read_until(http, b'"result":{}}')
            served.shutdown.set()
            with trio.fail_after(5):
                assert await read_all(http) == b""
                with pytest.raises(ConnectionClosed) as caught:
                    await socket.get_message()
                assert caught.value.reason is not None
                assert caught.value.reason.code == 1001
            await silent.aclose()
        with trio.fail_after(15):
            await served.ended.wait()


async def test_answers_and_streams_under_way_may_end(serving: Any) -> None:
    async with serving(shutdown_grace_s=60) as served:
        call = await trio.open_tcp_stream("127.0.0.1", served.http_port)
        reader = await trio.open_tcp_stream("127.0.0.1", served.http_port)
        async with call, reader, connected(served) as socket:
            await call.send_all(post("test.wait"))
            await reader.send_all(post("test.stream", end=False))
            await socket.send_message(message("test.wait"))
            await socket.send_message(message("test.stream", end=False))
            await served.door.wait_waiting(2)
            run = await served.door.wait_run(2)
            served.shutdown.set()
            with pytest.raises(OSError):
                while True:
                    await (await trio.open_tcp_stream("127.0.0.1", served.http_port)).aclose()
            assert not served.ended.is_set()
            served.door.gate.set()
            for run in served.door.runs.values():
                run.finish("failed")
            assert (await read_all(call)).endswith(b'"result":"waited"}')
            assert b'"outcome":"failed"' in await read_all(reader)
            found = [await socket.get_message() for _ in range(3)]
            assert any('"outcome":"failed"' in str(text) for text in found)
        with trio.fail_after(5):
            await served.ended.wait()


async def test_a_stream_that_follows_a_call_on_the_same_connection_is_not_taken_for_idle(serving: Any) -> None:
    async with serving(shutdown_grace_s=60) as served:
        async with await trio.open_tcp_stream("127.0.0.1", served.http_port) as connection:
            # In one piece: the second is taken up while the answer to the first is still being written.
            await connection.send_all(post("test.echo") + post("test.stream", events=1, end=False))
            await read_until(connection, b'"seq":')
            served.shutdown.set()
            await trio.testing.wait_all_tasks_blocked()
            (await served.door.wait_run()).finish("failed")
            assert b'"outcome":"failed"' in await read_all(connection)


async def test_what_goes_on_longer_than_the_grace_period_is_cut(serving: Any) -> None:
    async with serving(shutdown_grace_s=0.05) as served:
        reader = await trio.open_tcp_stream("127.0.0.1", served.http_port)
        async with reader, connected(served) as socket:
            await reader.send_all(post("test.stream", end=False))
            await socket.send_message(message("test.stream", end=False))
            await served.door.wait_run(2)
            served.shutdown.set()
            with trio.fail_after(5):
                await read_all(reader)
                with pytest.raises(ConnectionClosed):
                    while True:
                        await socket.get_message()
        with trio.fail_after(5):
            await served.ended.wait()


@pytest.mark.parametrize("order", ["in order", "cancelled"])
async def test_stalled_readers_do_not_hold_the_end(serving: Any, order: str) -> None:
    with trio.fail_after(10):
        async with serving(shutdown_grace_s=0.2) as served:
            run = served.door.new_run()
            run.add(*({"filler": "x" * 1000} for _ in range(20_000)))
            http = await trio.open_tcp_stream("127.0.0.1", served.http_port)
            async with http, connected(served) as socket:
                await http.send_all(post("rpc.resume", subscription=run.id))
                await socket.send_message(message("rpc.resume", subscription=run.id))
                await run.wait_changed(lambda: run.followers == 2)
                if order == "in order":
                    served.shutdown.set()
                    await served.ended.wait()
                # else: leaving the block cancels both servers
    assert run.state == "running"


async def test_a_slow_body_does_not_hold_the_end(serving: Any) -> None:
    async with serving(shutdown_grace_s=0.05) as served:
        stream = await trio.open_tcp_stream("127.0.0.1", served.http_port)
        async with stream:
            await stream.send_all(post("test.echo")[:-3])
            # Its head is read when a second connection has had its answer.
            other = await trio.open_tcp_stream("127.0.0.1", served.http_port)
            async with other:
                await other.send_all(post("test.echo"))
                await other.receive_some()
                served.shutdown.set()
            with trio.fail_after(5):
                await served.ended.wait()
