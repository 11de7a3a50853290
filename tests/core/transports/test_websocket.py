"""JSON-RPC over WebSocket: calls and streams side by side, what is refused, and how connections end."""

import socket as socket_module
import struct
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url
from wsproto.events import BytesMessage, TextMessage

from clonk_core.errors import StorageFull
from clonk_core.transports.websocket_mends import ServerConnection

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
async def socket(served: Any) -> AsyncIterator[WebSocketConnection]:
    async with open_websocket_url(served.websocket_url, max_message_size=64 * 2**20) as found:
        yield found
        # The library's client leaves its socket open when the server has closed first.
        await trio.aclose_forcefully(found._stream)


async def ask(socket: WebSocketConnection, method: str, params: Any = None, id: Any = 1) -> Any:
    await send(socket, method, params, id)
    return await receive(socket)


async def send(socket: WebSocketConnection, method: str, params: Any = None, id: Any = 1) -> None:
    await socket.send_message(
        orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params or {}, "id": id}).decode()
    )


async def receive(socket: WebSocketConnection) -> Any:
    with trio.fail_after(20):
        return orjson.loads(await socket.get_message())


async def send_raw(socket: WebSocketConnection, frame: bytes) -> None:
    """Send bytes as they are, past the library's checks."""
    await socket._stream.send_all(frame)


def masked(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A client's frame of less than 126 bytes, masked with zeros."""
    return bytes([(0x80 if fin else 0) | opcode, 0x80 | len(payload)]) + bytes(4) + payload


async def test_calls_are_answered_on_both_paths(served: Any) -> None:
    for path in ("/", "/ws", "/ws?x=1"):
        async with open_websocket_url(f"ws://127.0.0.1:{served.websocket_port}{path}") as socket:
            assert (await ask(socket, "test.echo", {"a": "ä"}, id=None)) == {
                "jsonrpc": "2.0",
                "id": None,
                "result": {"a": "ä"},
            }


async def test_the_specification_s_browser_example_works_on_localhost(served: Any) -> None:
    headers = [(b"Origin", b"http://localhost:3000")]
    async with open_websocket_url(f"ws://localhost:{served.websocket_port}/ws", extra_headers=headers) as socket:
        assert (await ask(socket, "test.echo"))["result"] == {}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/other", [], 404),
        ("/ws", [(b"Origin", b"https://evil.example")], 403),
        ("/ws", [(b"Origin", b"null")], 403),
    ],
)
async def test_other_paths_and_foreign_origins_are_refused_at_the_handshake(
    served: Any, path: str, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    answer = await shake(served, path, headers)
    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.split()[1] == str(status).encode()
    assert orjson.loads(body)["error"]["data"]["kind"] in {"forbidden", "not_found"}


async def shake(served: Any, path: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Ask for a WebSocket and return everything that is answered."""
    extra = b"".join(b"%b: %b\r\n" % header for header in headers)
    async with await trio.open_tcp_stream("127.0.0.1", served.websocket_port) as stream:
        await stream.send_all(UPGRADE.replace(b"/ws", path.encode())[:-2] + extra + b"\r\n")
        with trio.fail_after(5):
            return b"".join([piece async for piece in stream])


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (UPGRADE.replace(b"localhost", b"evil.example"), b"421"),
        (UPGRADE.replace(b": 13", b": 12"), b"426"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", b"400"),
        (b"\x00\xff garbage\r\n\r\n", b"400"),
    ],
)
async def test_a_handshake_that_is_none_is_refused_and_closed(served: Any, request_bytes: bytes, status: bytes) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", served.websocket_port) as stream:
        await stream.send_all(request_bytes)
        with trio.fail_after(5):
            answer = b"".join([piece async for piece in stream])
        assert answer.split()[1] == status
    async with open_websocket_url(served.websocket_url) as socket:
        assert (await ask(socket, "test.echo"))["result"] == {}
    assert served.log.told("exception") == []


async def test_a_client_that_leaves_while_its_handshake_is_answered_is_no_fault(served: Any) -> None:
    for rounds in range(30):
        stream = await trio.open_tcp_stream("127.0.0.1", served.websocket_port)
        # Closing resets the connection, at another step of the handshake each time.
        stream.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.send_all(UPGRADE)
        for _ in range(rounds):
            await trio.lowlevel.checkpoint()
        stream.socket.close()
    async with open_websocket_url(served.websocket_url) as socket:
        assert (await ask(socket, "test.echo"))["result"] == {}
    assert served.log.told("exception") == []


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"", "parse_error"),
        (b"{", "parse_error"),
        (b"[]", "invalid_request"),
        (b'"x"', "invalid_request"),
        (b'{"jsonrpc":"1.0","method":"test.echo","id":1}', "invalid_request"),
        (b'{"jsonrpc":"2.0","method":"test.echo","method":"test.echo","id":1}', "invalid_request"),
        (b"[" * 100_000 + b"]" * 100_000, "parse_error"),
        (b'{"jsonrpc":"2.0","method":"test.echo","params":["\\ud800"],"id":1}', "parse_error"),
        (b'{"jsonrpc":"2.0","method":"test.echo","params":[NaN],"id":1}', "parse_error"),
        (b'{"jsonrpc":"2.0","method":"test.echo","params":[1e400],"id":1}', "parse_error"),
        (b'{"jsonrpc":"2.0","method":"test.echo","params":[' + b"9" * 5000 + b'],"id":1}', "parse_error"),
        (b'{"jsonrpc":"2.0","method":"no.such","id":1}', "method_not_found"),
        (b'{"jsonrpc":"2.0","method":"test.bug","id":1}', "internal"),
    ],
)
async def test_malformed_messages_get_their_error_and_the_connection_goes_on(
    socket: WebSocketConnection, message: bytes, kind: str
) -> None:
    await socket.send_message(message.decode())
    assert (await receive(socket))["error"]["data"]["kind"] == kind
    assert (await ask(socket, "test.echo", [1]))["result"] == [1]


async def test_text_that_is_no_utf_8_gets_its_error_and_the_connection_goes_on(socket: WebSocketConnection) -> None:
    await send_raw(socket, masked(1, b'{"method":"\xff\xfe"}'))
    assert (await receive(socket))["error"]["data"]["kind"] == "parse_error"
    assert (await ask(socket, "test.echo", [1]))["result"] == [1]


async def test_binary_messages_get_an_error_and_the_connection_goes_on(socket: WebSocketConnection) -> None:
    await socket.send_message(b'{"jsonrpc":"2.0","method":"test.echo","id":1}')
    assert (await receive(socket))["error"]["data"]["kind"] == "invalid_request"
    assert (await ask(socket, "test.echo", [1]))["result"] == [1]


async def test_a_message_of_11_mib_gets_an_error_and_the_connection_goes_on(socket: WebSocketConnection) -> None:
    await socket.send_message('"' + "x" * (11 * 2**20) + '"')
    error = (await receive(socket))["error"]
    assert error["data"]["kind"] == "too_large"
    assert error["data"]["limit"] == 10 * 2**20
    assert (await ask(socket, "test.echo", [1]))["result"] == [1]


async def test_a_message_just_below_the_limit_is_taken(socket: WebSocketConnection) -> None:
    text = "x" * (10 * 2**20 - 100)
    assert (await ask(socket, "test.echo", [text]))["result"] == [text]


async def test_fragmented_messages_are_joined_with_pings_in_between(socket: WebSocketConnection) -> None:
    await socket._send(TextMessage(data='{"jsonrpc":"2.0","method":', message_finished=False))
    with trio.fail_after(5):
        await socket.ping(b"still there?")
    await socket._send(TextMessage(data='"test.echo","params":["ä"]', message_finished=False))
    await socket._send(TextMessage(data=',"id":1}', message_finished=True))
    assert (await receive(socket))["result"] == ["ä"]
    await socket._send(BytesMessage(data=b"{", message_finished=False))
    await socket._send(BytesMessage(data=b"}", message_finished=True))
    assert (await receive(socket))["error"]["data"]["kind"] == "invalid_request"


async def test_a_frame_that_breaks_the_protocol_closes_with_a_reason(served: Any, socket: WebSocketConnection) -> None:
    await send_raw(socket, masked(3, b"reserved opcode"))
    with pytest.raises(ConnectionClosed):
        await receive(socket)
    assert socket.closed is not None
    assert socket.closed.code == 1002
    assert served.log.told("exception") == []


async def test_notifications_get_no_answer(socket: WebSocketConnection) -> None:
    for method in ("test.echo", "no.such", "test.bug"):
        await socket.send_message(orjson.dumps({"jsonrpc": "2.0", "method": method}).decode())
    assert (await ask(socket, "test.echo", [1]))["result"] == [1]


# ── many at the same time ────────────────────────────────────────────────────


async def test_a_slow_call_blocks_no_other(served: Any, socket: WebSocketConnection) -> None:
    await send(socket, "test.wait", id="slow")
    assert (await ask(socket, "test.echo", [1], id="quick"))["id"] == "quick"
    served.door.gate.set()
    assert (await receive(socket))["id"] == "slow"


async def test_more_calls_than_are_worked_at_once_wait_their_turn(served: Any, socket: WebSocketConnection) -> None:
    for number in range(200):
        await send(socket, "test.wait", id=number)
    await served.door.wait_waiting(64)
    assert served.door.waiting == 64
    served.door.gate.set()
    assert sorted([(await receive(socket))["id"] for _ in range(200)]) == list(range(200))


async def test_a_thousand_calls_at_the_same_time_are_answered(served: Any) -> None:
    async def some(first: int) -> None:
        async with open_websocket_url(served.websocket_url) as socket:
            for number in range(first, first + 20):
                await send(socket, "test.wait", id=number)
            found.extend([(await receive(socket))["id"] for _ in range(20)])

    found: list[int] = []
    async with trio.open_nursery() as nursery:
        for first in range(0, 1000, 20):
            nursery.start_soon(some, first)
        await served.door.wait_waiting(1000)
        served.door.gate.set()
    assert sorted(found) == list(range(1000))


# ── streams ──────────────────────────────────────────────────────────────────


async def test_a_stream_is_acknowledged_before_its_events(socket: WebSocketConnection) -> None:
    subscription = (await ask(socket, "test.stream", {"events": 3}))["result"]
    found = [(await receive(socket))["params"] for _ in range(4)]
    assert [message["seq"] for message in found] == [1, 2, 3, 4]
    assert {message["subscription"] for message in found} == {subscription}
    assert found[-1]["result"] == {"type": "done", "outcome": "complete"}


async def test_many_streams_share_a_connection(served: Any, socket: WebSocketConnection) -> None:
    for number in range(50):
        await send(socket, "test.stream", {"events": 100}, id=number)
    last: dict[str, int] = {}
    acknowledged = set()
    for _ in range(50 * 102):
        message = await receive(socket)
        if "result" in message:
            acknowledged.add(message["result"])
            continue
        params = message["params"]
        assert params["subscription"] in acknowledged
        assert params["seq"] == last.get(params["subscription"], 0) + 1
        last[params["subscription"]] = params["seq"]
    assert set(last.values()) == {101}
    assert len(last) == 50


async def test_streams_in_a_batch_are_acknowledged_in_its_answer_and_then_begin(socket: WebSocketConnection) -> None:
    batch = [
        {"jsonrpc": "2.0", "method": "test.stream", "params": {"events": 1}, "id": 1},
        {"jsonrpc": "2.0", "method": "no.such"},
        {"jsonrpc": "2.0", "method": "test.echo", "params": [2], "id": 2},
        {"jsonrpc": "2.0", "method": "test.stream", "params": {"events": 1}, "id": 3},
    ]
    await socket.send_message(orjson.dumps(batch).decode())
    answers = await receive(socket)
    assert [answer["id"] for answer in answers] == [1, 2, 3]
    events = [(await receive(socket))["params"] for _ in range(4)]
    for answer in (answers[0], answers[2]):
        assert [event["seq"] for event in events if event["subscription"] == answer["result"]] == [1, 2]


async def test_a_stream_that_cannot_be_followed_is_an_error_and_nothing_else(
    served: Any, socket: WebSocketConnection
) -> None:
    run = served.door.new_run()
    answer = await ask(socket, "rpc.resume", {"subscription": run.id, "after": 5})
    assert answer["error"]["data"]["kind"] == "invalid_params"


async def test_a_log_that_cannot_be_read_is_told_and_the_connection_goes_on(
    served: Any, socket: WebSocketConnection
) -> None:
    subscription = (await ask(socket, "test.stream", {"end": False}))["result"]
    served.door.runs[subscription].break_log(StorageFull("the disk is full"))
    params = (await receive(socket))["params"]
    assert params["subscription"] == subscription
    assert params["error"]["data"]["kind"] == "storage_full"
    assert (await ask(socket, "test.echo", [1]))["result"] == [1]


async def test_closing_ends_runs_that_are_not_durable_and_no_others(served: Any) -> None:
    async with open_websocket_url(served.websocket_url) as socket:
        passing = served.door.runs[(await ask(socket, "test.stream", {"end": False, "durable": False}))["result"]]
        kept = served.door.runs[(await ask(socket, "test.stream", {"end": False}))["result"]]
    await passing.wait_changed(lambda: passing.stopped == "reader_gone")
    await kept.wait_changed(lambda: kept.followers == 0)
    assert kept.state == "running"


async def test_a_reader_cut_at_every_event_resumes_without_loss_or_repetition(served: Any) -> None:
    run = served.door.new_run()
    run.add(*range(20))
    run.finish()
    seen: list[int] = []
    while len(seen) < 21:
        async with open_websocket_url(served.websocket_url) as socket:
            await ask(socket, "rpc.resume", {"subscription": run.id, "after": len(seen)})
            seen.append((await receive(socket))["params"]["seq"])
    assert seen == list(range(1, 22))


@pytest.mark.alone
async def test_a_stalled_reader_harms_no_other_and_is_dropped(serving: Any) -> None:
    async with serving(send_timeout_s=1.5) as served:
        run = served.door.new_run()
        run.add(*({"filler": "x" * 1000} for _ in range(5_000)))
        run.finish()

        async def read() -> None:
            async with open_websocket_url(served.websocket_url) as socket:
                await ask(socket, "rpc.resume", {"subscription": run.id})
                counts.append(len([await receive(socket) for _ in range(5_001)]))

        async with open_websocket_url(served.websocket_url) as stalled:
            await send(stalled, "rpc.resume", {"subscription": run.id})
            await run.wait_changed(lambda: run.followers == 1)
            counts: list[int] = []
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(read)
            assert counts == [5_001] * 4
            await run.wait_changed(lambda: run.followers == 0)
        assert served.log.told("warning") == ["websocket reader dropped"]


async def test_a_silent_client_is_pinged(serving: Any) -> None:
    async with serving(keep_alive_s=0.02) as served:
        async with await trio.open_tcp_stream("127.0.0.1", served.websocket_port) as stream:
            await stream.send_all(UPGRADE)
            found = b""
            with trio.fail_after(5):
                while not found.endswith(b"\x89\x00"):
                    found += bytes(await stream.receive_some())


async def test_the_bearer_of_the_handshake_reaches_the_door(served: Any) -> None:
    headers = [(b"Authorization", b"Bearer clonk_x_y")]
    async with open_websocket_url(served.websocket_url, extra_headers=headers) as socket:
        await ask(socket, "test.echo")
        await ask(socket, "test.echo")
    first, second = served.door.connections
    assert first is second
    assert first.bearer == "clonk_x_y"
    assert first.transport == "websocket"


async def test_many_messages_in_one_piece_leave_others_their_turn() -> None:
    ours, theirs = trio.socket.socketpair()
    connection = ServerConnection(trio.SocketStream(ours), max_message_bytes=1000, send_timeout_s=5)
    taken = 0
    seen = set()

    async def take() -> None:
        nonlocal taken
        while await connection.receive() is not None:
            taken += 1
        nursery.cancel_scope.cancel()

    async def greet() -> None:
        await (await connection.handshake()).accept()

    async def look() -> None:
        while True:
            seen.add(taken)
            await trio.lowlevel.checkpoint()

    with theirs:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take)
                nursery.start_soon(greet)
                nursery.start_soon(look)
                await theirs.send(UPGRADE)
                await theirs.recv(1000)
                await theirs.send(masked(1, b"x") * 50 + masked(8, struct.pack("!H", 1000)))
    assert taken == 50
    assert len(seen) > 25
