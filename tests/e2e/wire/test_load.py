"""Many at once, and those who do not read: nobody waits for another, and memory has a bound."""

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import psutil
import pytest
import trio

from clonk_core.testing.server_process import ServerProcess

Call = Callable[..., bytes]
MIB = 2**20


async def _wait_waiting(peer: Any, call: Call, gate: str, count: int) -> None:
    """Wait until so many calls wait at the gate."""
    while (await peer.ask(call("trouble.waiting", [gate])))["result"] < count:
        await trio.sleep(0.02)


@pytest.mark.deadline(60)
async def test_a_thousand_calls_at_once_over_http_are_answered(open_http: Any, call: Call) -> None:
    answers: dict[int, Any] = {}

    async def one(number: int) -> None:
        async with open_http() as peer:
            answers[number] = await peer.ask(call("trouble.wait", ["thousand", number], id=number))

    async with open_http() as watcher, trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(one, number)
        await _wait_waiting(watcher, call, "thousand", 1000)
        await watcher.ask(call("trouble.release", ["thousand"]))
    assert answers == {number: {"jsonrpc": "2.0", "id": number, "result": number} for number in range(1000)}


@pytest.mark.deadline(60)
async def test_a_thousand_calls_at_once_over_one_websocket_and_over_fifty_are_answered(
    open_websocket: Any, open_http: Any, call: Call
) -> None:
    async with open_websocket() as peer:
        numbers = set()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for number in range(1000):
                    await peer.send(call("trouble.echo", [number], id=number))

            nursery.start_soon(send)
            for _ in range(1000):
                answer = await peer.receive()
                assert answer["id"] == answer["result"]
                numbers.add(answer["id"])
        assert numbers == set(range(1000))
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(open_websocket()) for _ in range(50)]
        for peer in peers:
            for number in range(20):
                await peer.send(call("trouble.wait", ["fifty"], id=number))
        async with open_http() as watcher:
            await _wait_waiting(watcher, call, "fifty", 1000)
            await watcher.ask(call("trouble.release", ["fifty"]))
        for peer in peers:
            assert {(await peer.receive())["id"] for _ in range(20)} == set(range(20))


# ── readers of one run ───────────────────────────────────────────────────────

EVENTS = 2000
FILL = 4000
"""Together 8 MiB: more than the kernel's buffers take for a reader that does not read."""


async def _seqs(pieces: AsyncIterator[bytes]) -> list[int]:
    """Read a stream to its end and return the numbers of its events."""
    lines = b"".join([piece async for piece in pieces]).split(b"\n")
    return [int(line.rpartition(b"/")[2]) for line in lines if line.startswith(b"id: ")]


async def _count_events(stream: trio.abc.ReceiveStream) -> int:
    """Read a connection to the end of its stream and count the events; cheap, since there are many."""
    count, tail = 0, b""
    while b'"outcome":"complete"' not in tail:
        piece = bytes(await stream.receive_some(MIB))
        if not piece:
            raise EOFError
        count += (tail[-3:] + piece).count(b"id: ")
        tail = (tail + piece)[-1000:]
    return count


class _Memory:
    """How much a process's memory grows at most while it is watched."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._before_bytes = self._process.memory_info().rss
        self.growth_bytes = 0

    async def watch(self) -> None:
        while True:
            self.growth_bytes = max(self.growth_bytes, self._process.memory_info().rss - self._before_bytes)
            await trio.sleep(0.05)


def _stalled(port: int, request: bytes) -> socket.socket:
    """A connection whose owner sends a request and never reads."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.connect(("127.0.0.1", port))
    found.sendall(request)
    return found


@pytest.mark.deadline(90)
async def test_a_stalled_reader_hurts_none_of_ninety_nine_and_memory_stays_bounded(
    server: ServerProcess, open_http: Any, open_websocket: Any, call: Call
) -> None:
    async with open_http() as peer, open_http() as gate_keeper, open_http() as starter:
        # A run that waits with its first event, so that all readers are there before the flood.
        _, first = await starter.begin(call("trouble.flood_gated", ["flood", EVENTS, FILL]))
        head = b""
        while b'"seq":1,' not in head:
            head += await anext(first)
        subscription = json.loads(head.split(b"data: ")[1].split(b"\n")[0])["result"]
        resume = call("rpc.resume", [subscription, 0])
        port = int(server.http_url.rpartition(":")[2])
        text = (
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        )
        request = text % (len(resume), resume)
        stalled = _stalled(port, request)
        counts: list[int] = []
        numbers: list[int] = []
        async with AsyncExitStack() as stack:
            stalled_websocket = await stack.enter_async_context(open_websocket())
            await stalled_websocket.send(resume)
            readers = [
                await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port)) for _ in range(98)
            ]
            for reader in readers:
                await reader.send_all(request)
            last = await stack.enter_async_context(open_http())
            _, pieces = await last.begin(resume)
            memory = _Memory(server.pid)

            async def count(reader: trio.SocketStream) -> None:
                counts.append(await _count_events(reader))

            async with trio.open_nursery() as outer:
                outer.start_soon(memory.watch)
                async with trio.open_nursery() as nursery:
                    for reader in readers:
                        nursery.start_soon(count, reader)
                    await gate_keeper.ask(call("trouble.release", ["flood"]))
                    # Plain calls are answered meanwhile.
                    for number in range(20):
                        assert (await peer.ask(call("trouble.add", [number, 1])))["result"] == number + 1
                    numbers += await _seqs(pieces)
                outer.cancel_scope.cancel()
            # All the fast ones have all of it, and the stalled ones have not read a byte.
            assert counts == [EVENTS + 1] * 98
            assert numbers == list(range(1, EVENTS + 2))
            assert stalled.recv(4, socket.MSG_PEEK) == b"HTTP"
            assert memory.growth_bytes < 120 * MIB
            # The stalled one begins to read: nothing is lost for it either.
            async with trio.SocketStream(trio.socket.from_stdlib_socket(stalled)) as stream:
                assert await _count_events(stream) == EVENTS + 1
            await first.aclose()


@pytest.mark.deadline(60)
async def test_a_hundred_readers_of_one_run_over_both_ports_all_see_all_of_it(
    open_http: Any, open_websocket: Any, call: Call
) -> None:
    async with open_http() as starter, open_http() as other, AsyncExitStack() as stack:
        _, first = await starter.begin(call("trouble.count_gated", ["hundred", 200]))
        head = await anext(first)
        while b"data: " not in head:
            head += await anext(first)
        subscription = json.loads(head.split(b"data: ")[1].split(b"\n")[0])["result"]
        resume = call("rpc.resume", [subscription, 0])
        readers = [await stack.enter_async_context((open_http, open_websocket)[n % 2]()) for n in range(100)]
        found: list[list[Any]] = []

        async def read(reader: Any) -> None:
            found.append(await reader.stream_messages(resume))

        async with trio.open_nursery() as nursery:
            for reader in readers:
                nursery.start_soon(read, reader)
            await other.ask(call("trouble.release", ["hundred"]))
        assert len(found) == 100
        assert all(one == found[0] for one in found)
        assert [one["params"]["seq"] for one in found[0][1:]] == list(range(1, 202))
        await first.aclose()


@pytest.mark.deadline(60)
async def test_who_sends_large_requests_and_reads_no_answer_is_held_up_and_fills_no_memory(
    server: ServerProcess, open_http: Any, open_websocket: Any, call: Call
) -> None:
    large = call("trouble.echo", ["x" * (9 * MIB)])
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    async with open_websocket() as peer, open_http() as other:
        sent = 0
        # Together 540 MiB; the server stops taking them long before.
        with trio.move_on_after(3):
            for _ in range(60):
                await peer.send(large)
                sent += 1
        assert sent < 30
        assert process.memory_info().rss - before < 250 * MIB
        assert (await other.ask(call("trouble.add", [1, 2])))["result"] == 3
        # Once it reads, all that was sent whole is answered.
        for _ in range(sent):
            assert len((await peer.receive())["result"]) == 9 * MIB


# ── connections that do nothing ──────────────────────────────────────────────


@pytest.mark.deadline(60)
async def test_slow_bodies_and_half_open_connections_cost_a_descriptor_and_hold_up_nobody(
    server: ServerProcess, open_http: Any, call: Call
) -> None:
    process = psutil.Process(server.pid)
    before = process.num_fds()
    ports = [int(server.http_url.rpartition(":")[2]), int(server.websocket_url.removesuffix("/ws").rpartition(":")[2])]
    starts = [
        b"",
        b"GET / HT",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{",
    ]
    async with AsyncExitStack() as stack:
        for number in range(300):
            stream = await trio.open_tcp_stream("127.0.0.1", ports[number % 2])
            await stack.enter_async_context(stream)
            await stream.send_all(starts[number % 3])
        async with open_http() as peer:
            for _ in range(50):
                assert (await peer.ask(call("trouble.add", [1, 2])))["result"] == 3
    with trio.fail_after(10):
        while process.num_fds() > before + 5:
            await trio.sleep(0.05)
