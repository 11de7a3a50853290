"""Attacks with slowness and with size: each is ended in bounded time, costs little, and holds up nobody else."""

import gc
import tracemalloc
from typing import Any

import orjson
import pytest
import trio

from clonk_core.testing.serving import served
from tests.core.gateway.guarded import OpenGuarded, key_settings
from tests.core.gateway.raw import Raw, ask_raw, bearer, ended, frame_bytes, frames, message, post_bytes, upgrade_bytes

QUICK = {
    "http_port": 0,
    "websocket_port": 0,
    "idle_timeout_s": 0.5,
    "body_timeout_s": 0.5,
    "handshake_timeout_s": 0.5,
}
HEAD = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


async def dribble(stream: trio.SocketStream, data: bytes) -> None:
    """Send a byte every 20 ms, again and again, until the other side has had enough."""
    try:
        while data:
            for number in range(len(data)):
                await stream.send_all(data[number : number + 1])
                await trio.sleep(0.02)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def time_until_closed(port: int, start: bytes, dribbled: bytes, others: Any) -> tuple[float, bytes]:
    """Attack, serve others meanwhile, and return how long it was borne and what was answered."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        began = trio.current_time()
        if start:
            await stream.send_all(start)
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dribble, stream, dribbled)
            await others()
            with trio.fail_after(15):
                try:
                    while piece := await stream.receive_some(4096):
                        received += piece
                except trio.BrokenResourceError:
                    pass
            nursery.cancel_scope.cancel()
        return trio.current_time() - began, received


@pytest.mark.parametrize(
    ("start", "dribbled", "status"),
    [
        (b"", b"", None),
        (b"", b"\r\n", None),
        (b"GET / HT", b"", None),
        (HEAD, b"X-Slow: and slower\r\n", None),
        (HEAD + b"Content-Length: 60000\r\n\r\n{", b" ", 408),
        (HEAD + bearer("a") + b"\r\nContent-Length: 60000\r\n\r\n{", b" ", 408),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 408),
        (HEAD + bearer("a") + b"\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 408),
        (HEAD.replace(b"/mcp", b"/health") + b"Content-Length: 60000\r\n\r\n{", b" ", 405),
        (HEAD.replace(b"/mcp", b"/nowhere") + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 404),
    ],
)
async def test_a_request_that_never_ends_is_ended_and_others_are_served_meanwhile(
    open_guarded: OpenGuarded, start: bytes, dribbled: bytes, status: int | None
) -> None:
    async with open_guarded(key_settings("a"), settings={"server": QUICK}) as host, served(host) as addresses:
        port = addresses.http.port

        async def others() -> None:
            for _ in range(5):
                assert (await ask_raw(port, post_bytes(message(), bearer("a")))).status == 200

        took_s, received = await time_until_closed(port, start, dribbled, others)
        assert took_s < 6  # half a second to time out, two to linger, and a busy machine
        if status is None:
            assert received == b"" or Raw.of(received).status in (400, 408)
        else:
            assert Raw.of(received).status == status


@pytest.mark.parametrize(
    ("start", "dribbled"),
    [
        (b"", b""),
        (upgrade_bytes()[:-2], b"X-Slow: and slower\r\n"),
        (upgrade_bytes(), b""),
        (upgrade_bytes(), b"\x81\xfe\xff\x00\0\0\0\0" + b" " * 1000),
        (upgrade_bytes(), b"\x01\x81\0\0\0\0 "),
        (upgrade_bytes(), b"\x89\x80\0\0\0\0"),
    ],
    ids=["nothing", "handshake", "silence", "frame", "fragments", "pings"],
)
async def test_a_websocket_that_never_says_who_it_is_is_ended_and_others_are_served_meanwhile(
    open_guarded: OpenGuarded, start: bytes, dribbled: bytes
) -> None:
    auth = {"authenticate_within_s": 0.5}
    settings = {"server": QUICK}
    async with open_guarded(key_settings("a"), auth=auth, settings=settings) as host, served(host) as addresses:
        port = addresses.websocket.port

        async def others() -> None:
            for _ in range(5):
                async with frames(port, bearer("a")) as peer:
                    await peer.send(message())
                    assert (await peer.answer(1))["result"]["caller"] == "a"

        took_s, _ = await time_until_closed(port, start, dribbled, others)
        assert took_s < 6


async def test_a_crowd_of_idle_and_unfinished_http_connections_makes_room_for_callers(
    open_guarded: OpenGuarded,
) -> None:
    starts = [
        b"",
        b"GET / HT",
        HEAD + b"Content-Length: 1000\r\n\r\n{",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
    settings = {"server": {"http_port": 0, "websocket_port": 0, "max_strangers": 20}}
    async with open_guarded(key_settings("a"), settings=settings) as host, served(host) as addresses:
        port = addresses.http.port
        async with await trio.open_tcp_stream("127.0.0.1", port) as slow:
            # A known caller's body is no stranger's, however long it takes.
            body = message()
            await slow.send_all(HEAD + bearer("a") + b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
            crowd = []
            for number in range(100):
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                await stream.send_all(starts[number % 4])
                crowd.append(stream)
                if number % 10 == 0:
                    assert (await ask_raw(port, post_bytes(message(), bearer("a")))).status == 200
            for number, stream in enumerate(crowd[:60]):
                assert await ended(stream), number
            await slow.send_all(body)
            with trio.fail_after(5):
                answer = Raw.of(b"".join([bytes(piece) async for piece in slow]))
            assert orjson.loads(answer.body)["result"]["caller"] == "a"
        for stream in crowd:
            await trio.aclose_forcefully(stream)


async def test_who_is_pushed_out_while_sending_a_body_is_told_so(open_guarded: OpenGuarded) -> None:
    settings = {"server": {"http_port": 0, "websocket_port": 0, "max_strangers": 1}}
    async with open_guarded(key_settings("a"), settings=settings) as host, served(host) as addresses:
        async with await trio.open_tcp_stream("127.0.0.1", addresses.http.port) as first:
            await first.send_all(HEAD + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
            assert (await first.receive_some(1000)).startswith(b"HTTP/1.1 100")
            async with await trio.open_tcp_stream("127.0.0.1", addresses.http.port):
                answer = Raw.of(await read_all(first))
            assert (answer.status, answer.kind) == (503, "unavailable")


async def read_all(stream: trio.SocketStream) -> bytes:
    with trio.fail_after(10):
        return b"".join([bytes(piece) async for piece in stream])


async def test_known_callers_push_nobody_out(open_guarded: OpenGuarded) -> None:
    settings = {"server": {"http_port": 0, "websocket_port": 0, "max_strangers": 3}}
    async with open_guarded(key_settings("a"), settings=settings) as host, served(host) as addresses:
        port = addresses.websocket.port
        async with frames(port, bearer("a")) as one, frames(port, bearer("a")) as two, frames(port) as three:
            await three.send(message("auth.authenticate", {"api_key": "clonk_a_of-the-test"}))
            assert "result" in await three.answer(1)
            # Three are known, so each of these is the first stranger, and may stay.
            for _ in range(3):
                async with frames(port) as newcomer:
                    await newcomer.send(message("health.check"))
                    assert "result" in await newcomer.answer(1)
            for known in (one, two, three):
                await known.send(message(id=2))
                assert (await known.answer(2))["result"]["caller"] == "a"


# ── size ─────────────────────────────────────────────────────────────────────


async def test_a_stranger_s_message_is_small_and_whoever_is_known_may_send_more(open_guarded: OpenGuarded) -> None:
    large = message("auth.whoami", {"x": "y" * 100_000})
    async with open_guarded(key_settings("a")) as host, served(host) as addresses:
        async with frames(addresses.websocket.port) as peer:
            await peer.send(large)
            error = (await peer.answer(None))["error"]
            assert error["data"] == {"kind": "too_large", "limit": 65_536}
            await peer.send(message("auth.authenticate", {"api_key": "clonk_a_of-the-test"}))
            assert "result" in await peer.answer(1)
            await peer.send(large)
            assert (await peer.answer(1))["error"]["data"]["kind"] == "invalid_params"


@pytest.mark.parametrize("known", [False, True])
async def test_a_message_of_many_tiny_frames_takes_about_its_size(open_guarded: OpenGuarded, known: bool) -> None:
    pieces = 10_000  # of two bytes: in a list they would be 430 KB of objects
    async with open_guarded(key_settings("a")) as host, served(host) as addresses:
        async with frames(addresses.websocket.port, *([bearer("a")] if known else [])) as peer:
            await peer.send(b'["', first=0x01)
            await peer.send(b"", opcode=9)
            await peer.receive()
            gc.collect()
            tracemalloc.start()
            try:
                for _ in range(10):
                    await peer.stream.send_all(frame_bytes(b"xy", 0, first=0x00) * (pieces // 10))
                await peer.send(b"", opcode=9)
                assert (await peer.receive())[0] == 10
                gc.collect()
                held, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert held < 200_000, held


async def test_no_compression_is_negotiated_and_a_compressed_frame_is_refused_unread(
    open_guarded: OpenGuarded,
) -> None:
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(b" " * (64 * 2**20)) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 70_000
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"
    async with open_guarded(key_settings("a")) as host, served(host) as addresses:
        for first in (0xC1, 0xC2, 0xA1, 0x91):  # RSV1 on text and on binary, RSV2, RSV3
            async with frames(addresses.websocket.port, bearer("a"), offer) as peer:
                assert peer.head.startswith(b"HTTP/1.1 101")
                assert b"extensions" not in peer.head.lower()
                tracemalloc.start()
                try:
                    await peer.send(bomb[:60_000], first=first)
                    opcode, payload = await peer.receive()
                    _, peak = tracemalloc.get_traced_memory()
                finally:
                    tracemalloc.stop()
                assert (opcode, int.from_bytes(payload[:2], "big")) == (8, 1002)
                assert peak < 2 * 2**20, peak
