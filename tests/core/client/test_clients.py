"""Every client, against real servers: calls, streams, errors; and coming back after a cut."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from clonk_core.client.base import ClientError, ConnectionLost, RemoteError, StreamEvent
from clonk_core.client.http import HttpClient
from clonk_core.client.stdio import PipeClient, StdioClient
from clonk_core.client.websocket import WebSocketClient
from clonk_core.config.settings import ServerSettings
from clonk_core.errors import StorageFull
from clonk_core.transports.stdio import serve_stdio

STDIO_PROGRAM = Path(__file__).parents[1] / "transports" / "stdio_program.py"


@asynccontextmanager
async def over_pipes(door: Any, log: Any) -> AsyncIterator[PipeClient]:
    ours, theirs = trio.testing.memory_stream_pair()

    async def serve() -> None:
        await serve_stdio(door, ServerSettings(), theirs, theirs, log=log)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with PipeClient(ours, ours) as client:
            yield client
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["http", "websocket", "pipes"])
async def client(request: pytest.FixtureRequest, served: Any) -> AsyncIterator[Any]:
    if request.param == "http":
        async with HttpClient(served.http_url) as over_http:
            yield over_http
    elif request.param == "websocket":
        async with WebSocketClient(served.websocket_url) as over_websocket:
            yield over_websocket
    else:
        async with over_pipes(served.door, served.log) as over_pipe:
            yield over_pipe


async def test_a_call_returns_its_result(client: Any) -> None:
    assert await client.call("test.echo", text="ä", id=7, method="named so") == {
        "text": "ä",
        "id": 7,
        "method": "named so",
    }
    assert await client.call("test.echo", 1, None) == [1, None]
    with pytest.raises(TypeError):
        await client.call("test.echo", 1, two=2)


async def test_an_error_is_raised_with_all_that_was_said(client: Any) -> None:
    with pytest.raises(RemoteError) as caught:
        await client.call("test.fail", kind="conflict", subscription="sub_x")
    assert (caught.value.code, caught.value.kind, caught.value.message) == (409, "conflict", "as asked")
    assert caught.value.data == {"subscription": "sub_x"}
    with pytest.raises(RemoteError) as caught:
        await client.call("no.such")
    assert caught.value.kind == "method_not_found"


async def test_a_notification_is_sent(client: Any, served: Any) -> None:
    await client.notify("test.echo", a=1)
    await client.call("test.echo")
    assert [request.is_notification for request in served.door.calls] == [True, False]


async def test_a_stream_gives_its_events_to_the_last(client: Any) -> None:
    async with client.stream("test.stream", events=2) as events:
        assert events.subscription.startswith("sub_")
        first = await events.next()
        assert first == StreamEvent(events.subscription, 1, {"type": "number", "value": 1, "filler": ""})
        rest = [(seq, event["type"]) async for seq, event in events]
        assert rest == [(2, "number"), (3, "done")]
        with pytest.raises(StopAsyncIteration):
            await events.next()
    assert [event["type"] for event in await client.events("test.stream", events=1)] == ["number", "done"]


async def test_a_stream_may_be_left_early_and_another_begun(client: Any) -> None:
    for _ in range(3):
        async with client.stream("test.stream", events=600, end=False) as events:
            assert (await events.next()).seq == 1
    assert await client.call("test.echo") == {}


async def test_a_call_that_streams_not_is_no_stream(client: Any) -> None:
    with pytest.raises(ClientError):
        async with client.stream("test.echo"):
            pass
    with pytest.raises(RemoteError):
        async with client.stream("test.fail", kind="conflict"):
            pass


async def test_a_kept_run_is_read_from_anywhere(client: Any, served: Any) -> None:
    run = served.door.new_run()
    run.add("a", "b")
    run.finish()
    async with client.resume(run.id, after=1) as events:
        assert [event.seq async for event in events] == [2, 3]
    with pytest.raises(RemoteError) as caught:
        async with client.resume("sub_unknown", after=0) as events:
            await events.next()
    assert caught.value.kind == "not_found"


async def test_a_log_that_cannot_be_read_is_an_error(client: Any, served: Any) -> None:
    async with client.stream("test.stream", end=False) as events:
        served.door.runs[events.subscription].break_log(StorageFull("the disk is full"))
        with pytest.raises(RemoteError) as caught:
            await events.next()
    assert caught.value.kind == "storage_full"


async def test_a_result_of_many_megabytes_arrives(client: Any) -> None:
    assert len((await client.call("test.echo", "x" * (9 * 2**20)))[0]) == 9 * 2**20


async def test_a_request_over_the_limit_is_an_error(client: Any) -> None:
    with pytest.raises(RemoteError) as caught:
        await client.call("test.echo", "x" * (11 * 2**20))
    assert caught.value.kind == "too_large"
    assert await client.call("test.echo") == {}


async def test_many_calls_and_streams_go_side_by_side(client: Any, served: Any) -> None:
    async def stream() -> None:
        assert len(await client.events("test.stream", events=50)) == 51

    async def call(number: int) -> None:
        assert await client.call("test.echo", number) == [number]

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(stream)
            nursery.start_soon(call, number)


async def test_an_error_in_the_block_comes_out_as_it_is(served: Any) -> None:
    for client in (HttpClient(served.http_url), WebSocketClient(served.websocket_url)):
        with pytest.raises(ZeroDivisionError):
            async with client, client.stream("test.stream", events=5, end=False) as events:
                await events.next()
                raise ZeroDivisionError


# ── nobody there ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://[", "http://127.0.0.1:99999"])
async def test_nobody_there_is_said(url: str) -> None:
    with pytest.raises(ConnectionLost):
        async with HttpClient(url) as client:
            await client.call("test.echo")
    with pytest.raises(ConnectionLost):
        async with WebSocketClient(url.replace("http", "ws")) as client:
            await client.call("test.echo")


async def test_a_server_that_is_none_of_ours_is_said(served: Any) -> None:
    async with HttpClient(f"{served.http_url}/page") as client:
        with pytest.raises(ClientError):
            await client.call("test.echo")
    with pytest.raises(ConnectionLost):
        async with WebSocketClient(f"{served.websocket_url}/nowhere"):
            pass


# ── cuts ─────────────────────────────────────────────────────────────────────


class Cutter:
    """A relay on the way to the server that can cut every connection and let no new one through."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._scopes: set[trio.CancelScope] = set()
        self.closed = False
        self.cut_after_bytes: int | None = None
        self.connections = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        if self.closed:
            return
        server = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with server:
            with trio.CancelScope() as scope:
                self._scopes.add(scope)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._relay, stream, server, None, scope)
                    nursery.start_soon(self._relay, server, stream, self.cut_after_bytes, scope)
            self._scopes.discard(scope)

    async def _relay(self, source: Any, sink: Any, limit: int | None, scope: trio.CancelScope) -> None:
        passed = 0
        try:
            async for piece in source:
                data = bytes(piece)
                if limit is not None and passed + len(data) > limit:
                    await sink.send_all(data[: limit - passed])
                    break
                passed += len(data)
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    def cut(self) -> None:
        for scope in self._scopes:
            scope.cancel()


@asynccontextmanager
async def behind_cutter(port: int) -> AsyncIterator[tuple[Cutter, int]]:
    cutter = Cutter(port)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, cutter.handle, 0)
        yield cutter, listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_a_stream_cut_anywhere_comes_back_without_loss_or_repetition(served: Any, transport: str) -> None:
    """The connection is cut again and again, each time some bytes further into the stream."""
    run = served.door.new_run()
    run.add(*({"filler": "x" * 40} for _ in range(300)))
    run.finish()
    port = served.http_port if transport == "http" else served.websocket_port
    async with behind_cutter(port) as (cutter, relay_port):
        cutter.cut_after_bytes = 3_001
        client: Any = (
            HttpClient(f"http://127.0.0.1:{relay_port}")
            if transport == "http"
            else WebSocketClient(f"ws://127.0.0.1:{relay_port}/ws")
        )
        async with client, client.resume(run.id) as events:
            seen = [event.seq async for event in events]
    assert seen == list(range(1, 302))
    assert cutter.connections > 10


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_a_live_stream_goes_on_after_a_cut(served: Any, transport: str) -> None:
    port = served.http_port if transport == "http" else served.websocket_port
    async with behind_cutter(port) as (cutter, relay_port):
        client: Any = (
            HttpClient(f"http://127.0.0.1:{relay_port}")
            if transport == "http"
            else WebSocketClient(f"ws://127.0.0.1:{relay_port}/ws")
        )
        async with client, client.stream("test.stream", events=2, end=False) as events:
            run = served.door.runs[events.subscription]
            assert [(await events.next()).seq for _ in range(2)] == [1, 2]
            cutter.cut()
            run.add("three")
            assert (await events.next()).seq == 3
            run.finish()
            assert (await events.next()).is_done


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_a_server_that_stays_away_is_given_up(served: Any, transport: str) -> None:
    port = served.http_port if transport == "http" else served.websocket_port
    async with behind_cutter(port) as (cutter, relay_port):
        client: Any = (
            HttpClient(f"http://127.0.0.1:{relay_port}", retries=2)
            if transport == "http"
            else WebSocketClient(f"ws://127.0.0.1:{relay_port}/ws", retries=2)
        )
        async with client, client.stream("test.stream", events=1, end=False) as events:
            await events.next()
            cutter.closed = True
            cutter.cut()
            with pytest.raises(ConnectionLost):
                await events.next()


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_a_cut_run_that_is_not_kept_is_lost(served: Any, transport: str) -> None:
    port = served.http_port if transport == "http" else served.websocket_port
    async with behind_cutter(port) as (cutter, relay_port):
        client: Any = (
            HttpClient(f"http://127.0.0.1:{relay_port}")
            if transport == "http"
            else WebSocketClient(f"ws://127.0.0.1:{relay_port}/ws")
        )
        async with client, client.stream("test.stream", events=1, end=False) as events:
            await events.next()
            del served.door.runs[events.subscription]
            cutter.cut()
            with pytest.raises(ConnectionLost):
                await events.next()


async def test_a_call_that_is_cut_is_lost_and_the_next_one_works(served: Any) -> None:
    async with behind_cutter(served.websocket_port) as (cutter, relay_port):
        async with WebSocketClient(f"ws://127.0.0.1:{relay_port}/ws") as client:
            async with trio.open_nursery() as nursery:

                async def call() -> None:
                    with pytest.raises(ConnectionLost):
                        await client.call("test.wait")

                nursery.start_soon(call)
                await served.door.wait_waiting(1)
                cutter.cut()
            assert await client.call("test.echo") == {}


async def test_a_stream_that_is_read_slowly_holds_up_no_call_and_loses_nothing(served: Any) -> None:
    """Its events are far more than the client keeps in memory; what was dropped is asked for again."""
    run = served.door.new_run()
    run.add(*({"filler": "x" * 10_000} for _ in range(4_000)))
    run.finish()
    async with WebSocketClient(served.websocket_url) as client, client.resume(run.id) as events:
        assert (await events.next()).seq == 1
        for _ in range(20):
            assert await client.call("test.echo") == {}
        await run.wait_changed(lambda: run.followers == 0)  # all of it was sent
        assert await client.call("test.echo") == {}
        seen = [event.seq async for event in events]
    assert seen == list(range(2, 4_002))


# ── a process ────────────────────────────────────────────────────────────────


async def test_a_process_is_called_over_its_pipes_and_ends_with_the_client() -> None:
    async with StdioClient([sys.executable, str(STDIO_PROGRAM), "5"]) as client:
        assert await client.call("test.echo", 1) == [1]
        assert len(await client.events("test.stream", events=3)) == 4


async def test_a_process_that_ends_or_cannot_be_started_is_lost() -> None:
    with pytest.raises(ConnectionLost):
        async with StdioClient([sys.executable, "-c", "pass"]) as client:
            await client.call("test.echo")
    with pytest.raises(ConnectionLost):
        async with StdioClient(["/no/such/program"]):
            pass
