"""JSON-RPC over standard input and output, in a process of its own and on streams in memory."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
import trio
import trio.testing

from clonk_core.config.settings import ServerSettings
from clonk_core.transports.stdio import serve_stdio

PROGRAM = Path(__file__).with_name("stdio_program.py")


def line(method: str, params: Any = None, id: Any = 1) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params or {}, "id": id}) + b"\n"


@attrs.define
class Peer:
    """The one who started the server."""

    door: Any
    stream: trio.StapledStream[Any, Any]
    ended: trio.Event
    buffer: bytes = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def receive(self) -> Any:
        with trio.fail_after(20):
            while b"\n" not in self.buffer:
                piece = await self.stream.receive_some()
                assert piece, "the end of the output"
                self.buffer += bytes(piece)
        message, _, self.buffer = self.buffer.partition(b"\n")
        return orjson.loads(message)


@pytest.fixture
def peer_of(new_door: Any, list_log: Any) -> Any:
    @asynccontextmanager
    async def open_peer(**settings: Any) -> AsyncIterator[Peer]:
        ours, theirs = trio.testing.memory_stream_pair()
        peer = Peer(new_door(), ours, trio.Event())

        async def serve() -> None:
            await serve_stdio(peer.door, ServerSettings(**settings), theirs, theirs, log=list_log)
            peer.ended.set()
            await theirs.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield peer
            nursery.cancel_scope.cancel()

    return open_peer


@pytest.fixture
async def peer(peer_of: Any) -> AsyncIterator[Peer]:
    async with peer_of() as found:
        yield found


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"{", "parse_error"),
        (b"[]", "invalid_request"),
        (b"\xff\xfe", "parse_error"),
        (b'{"jsonrpc":"2.0","method":"test.echo","params":["\\ud800"],"id":1}', "parse_error"),
        (b"[" * 100_000 + b"]" * 100_000, "parse_error"),
        (b'{"jsonrpc":"2.0","method":"test.echo","params":[NaN],"id":1}', "parse_error"),
        (b'{"jsonrpc":"2.0","method":"test.echo","params":[' + b"9" * 5000 + b'],"id":1}', "parse_error"),
        (b'{"jsonrpc":"2.0","method":"test.echo","id":1,"id":1}', "invalid_request"),
        (b'{"jsonrpc":"2.0","method":"no.such","id":1}', "method_not_found"),
        (b'"' + b"x" * (11 * 2**20) + b'"', "too_large"),
    ],
)
async def test_malformed_lines_get_their_error_and_the_peer_goes_on(peer: Peer, message: bytes, kind: str) -> None:
    await peer.send(message + b"\n")
    assert (await peer.receive())["error"]["data"]["kind"] == kind
    await peer.send(line("test.echo", [1]))
    assert (await peer.receive())["result"] == [1]


async def test_empty_lines_are_nothing_and_windows_line_ends_are_taken(peer: Peer) -> None:
    await peer.send(b"\n \r\n\t\n" + line("test.echo", [1]).replace(b"\n", b"\r\n"))
    assert (await peer.receive())["result"] == [1]


async def test_a_message_may_come_in_any_pieces(peer: Peer) -> None:
    for byte in line("test.echo", ["ä"]):
        await peer.send(bytes([byte]))
    assert (await peer.receive())["result"] == ["ä"]


async def test_a_slow_call_blocks_no_other(peer: Peer) -> None:
    await peer.send(line("test.wait", id="slow") + line("test.echo", [1], id="quick"))
    assert (await peer.receive())["id"] == "quick"
    peer.door.gate.set()
    assert (await peer.receive())["id"] == "slow"


async def test_a_stream_is_acknowledged_and_then_sent(peer: Peer) -> None:
    await peer.send(line("test.stream", {"events": 2}))
    subscription = (await peer.receive())["result"]
    found = [(await peer.receive())["params"] for _ in range(3)]
    assert [(event["subscription"], event["seq"]) for event in found] == [(subscription, n) for n in (1, 2, 3)]


async def test_a_thousand_calls_are_answered(peer: Peer) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, b"".join(line("test.echo", [n], id=n) for n in range(1000)))
        found = {(await peer.receive())["id"] for _ in range(1000)}
    assert found == set(range(1000))


async def test_at_the_end_of_the_input_what_is_under_way_is_answered(peer: Peer) -> None:
    await peer.send(line("test.wait") + line("test.stream", {"end": False}, id=2))
    assert (await peer.receive())["id"] == 2
    await peer.stream.send_stream.aclose()
    peer.door.gate.set()
    assert (await peer.receive())["result"] == "waited"
    (await peer.door.wait_run()).finish()
    assert (await peer.receive())["params"]["result"]["type"] == "done"
    with trio.fail_after(5):
        await peer.ended.wait()


async def test_streams_that_go_on_after_the_end_of_the_input_are_left(peer_of: Any) -> None:
    async with peer_of(shutdown_grace_s=0.05) as peer:
        await peer.send(line("test.stream", {"end": False, "durable": False}))
        await peer.receive()
        await peer.stream.send_stream.aclose()
        with trio.fail_after(5):
            await peer.ended.wait()
        assert (await peer.door.wait_run()).stopped == "reader_gone"


async def test_a_last_line_needs_no_line_end(peer: Peer) -> None:
    await peer.send(line("test.echo", [1]).rstrip(b"\n"))
    await peer.stream.send_stream.aclose()
    assert (await peer.receive())["result"] == [1]


# ── a process of its own ─────────────────────────────────────────────────────


async def run_program(**options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, str(PROGRAM), "5"]
    return await trio.run_process(command, check=False, capture_stderr=True, **options)


async def test_only_messages_come_out_of_the_process(tmp_path: Path) -> None:
    requests = line("test.echo", [1]) + b"garbage\n" + line("test.stream", {"events": 1}, id=2)
    done = await run_program(stdin=requests, capture_stdout=True)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.splitlines()
    assert lines.pop() == b"after"  # printed when the protocol was over
    assert len([orjson.loads(text) for text in lines]) == 5
    assert b"a stray print" in done.stderr
    assert b"a stray child" in done.stderr


async def test_input_and_output_may_be_files(tmp_path: Path) -> None:
    source, sink = tmp_path / "in", tmp_path / "out"
    source.write_bytes(line("test.echo", [1]))
    with source.open("rb") as stdin, sink.open("wb") as stdout:
        done = await run_program(stdin=stdin, stdout=stdout)
    assert done.returncode == 0, done.stderr.decode()
    assert orjson.loads(sink.read_bytes().splitlines()[0])["result"] == [1]
