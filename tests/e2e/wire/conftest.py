"""One server for all tests of the wire, and for each transport a peer by hand, which may send what no library would."""

import json
import os
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import h11
import pytest
import trio

from clonk_core.testing.server_process import ServerProcess, server_process, write_config

PLUGINS = Path(__file__).parent / "plugins"
SETTINGS = {"plugins": {"dir": str(PLUGINS)}, "server": {"keep_alive_s": 0.5, "max_batch_items": 50}}
TRANSPORTS = ("http", "websocket", "stdio")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One `clonk serve` for all tests; each must leave it as it was."""
    folder = tmp_path_factory.mktemp("wire")
    ready: queue.Queue[Any] = queue.Queue()

    async def hold() -> None:
        stop = trio.Event()
        async with server_process(folder, settings=SETTINGS) as found:
            ready.put((found, trio.lowlevel.current_trio_token(), stop))
            await stop.wait()

    def run() -> None:
        try:
            trio.run(hold)
        except BaseException as error:
            ready.put(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    answer = ready.get(timeout=60)
    if isinstance(answer, BaseException):
        raise answer
    found, token, stop = answer
    try:
        yield found
    finally:
        token.run_sync_soon(stop.set)
        thread.join(timeout=60)
    records = [json.loads(line) for line in found.log_text.splitlines()]
    faults = [one for one in records if one["level"] == "error" and not str(one.get("where")).startswith("trouble.")]
    assert faults == []  # nothing that was sent may have broken anything but the plugin that wants to


def port_of(url: str) -> int:
    return int(url.split("://")[1].partition("/")[0].rpartition(":")[2])


# ── peers ────────────────────────────────────────────────────────────────────


@attrs.define
class HttpAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class HttpPeer:
    """One keep-alive connection to `/mcp`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)

    async def _next(self) -> Any:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(bytes(await self.stream.receive_some(65536)))
        return event

    async def request(
        self, body: bytes = b"", *, method: str = "POST", target: str = "/mcp", headers: dict[str, str] | None = None
    ) -> HttpAnswer:
        answer, pieces = await self.begin(body, method=method, target=target, headers=headers)
        return attrs.evolve(answer, body=b"".join([piece async for piece in pieces]))

    async def begin(
        self, body: bytes = b"", *, method: str = "POST", target: str = "/mcp", headers: dict[str, str] | None = None
    ) -> tuple[HttpAnswer, AsyncIterator[bytes]]:
        """Send a request; return the head of the answer and its body as it comes."""
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        own = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(body))}
        head = h11.Request(method=method, target=target, headers=list({**own, **(headers or {})}.items()))
        data = self._h11.send(head) or b""
        data += self._h11.send(h11.Data(data=body)) or b""
        data += self._h11.send(h11.EndOfMessage()) or b""
        with suppress(trio.BrokenResourceError):  # refused half-way; the answer is there all the same
            await self.stream.send_all(data)
        while isinstance(event := await self._next(), h11.InformationalResponse):
            pass
        assert isinstance(event, h11.Response), event
        found = {name.decode().lower(): value.decode() for name, value in event.headers}
        return HttpAnswer(event.status_code, found, b""), self._body()

    async def _body(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
            yield bytes(event.data)

    # What all peers have in common:

    async def ask(self, message: bytes) -> Any:
        """Send one message and return its one answer as JSON; None when there is none."""
        answer = await self.request(message)
        return answer.json() if answer.status != 204 else None

    async def tell(self, message: bytes) -> None:
        """Send a message that must have no answer."""
        answer = await self.request(message)
        assert (answer.status, answer.body) == (204, b"")

    async def stream_messages(self, message: bytes) -> list[Any]:
        """Send a call of a streaming method and return all messages up to `done` or an error."""
        answer = await self.request(message)
        if answer.headers.get("content-type") != "text/event-stream":
            return [answer.json()]
        lines = [line for line in answer.body.split(b"\n") if line.startswith(b"data: ")]
        return [json.loads(line.removeprefix(b"data: ")) for line in lines]

    async def rest(self) -> list[Any]:
        """Close, and return what was not asked for."""
        await self.stream.send_eof()
        return [bytes(piece) async for piece in self.stream]


class _DuplexPeer:
    """What WebSocket and stdio have in common."""

    async def send(self, message: bytes) -> None:
        raise NotImplementedError

    async def receive(self) -> Any:
        raise NotImplementedError

    async def ask(self, message: bytes) -> Any:
        await self.send(message)
        return await self.receive()

    async def tell(self, message: bytes) -> None:
        await self.send(message)

    async def stream_messages(self, message: bytes) -> list[Any]:
        await self.send(message)
        found = [await self.receive()]
        if not str(found[0].get("result")).startswith("sub_"):
            return found  # a plain answer
        while "error" not in found[-1].get("params", {}) and not _is_done(found[-1]):
            found.append(await self.receive())
        return found


def _is_done(message: Any) -> bool:
    result = message.get("params", {}).get("result") if isinstance(message, dict) else None
    return isinstance(result, dict) and result.get("type") == "done"


class WebSocketPeer(_DuplexPeer):
    """One WebSocket, its frames made by hand."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def open(self, path: str = "/ws") -> None:
        await self.stream.send_all(
            b"GET %b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % path.encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0], head
        self._buffer = bytearray(rest)

    async def _more(self) -> None:
        piece = await self.stream.receive_some(65536)
        if not piece:
            raise EOFError
        self._buffer += piece

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def send(self, message: bytes) -> None:
        await self.send_frame(1, message)

    async def send_frame(self, opcode: int, payload: bytes, *, final: bool = True) -> None:
        await self.stream.send_all(frame_bytes(opcode, payload, final=final))

    async def receive_frame(self) -> tuple[int, bytes]:
        first, second = await self._take(2)
        size = second & 127
        if size == 126:
            (size,) = struct.unpack("!H", await self._take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._take(8))
        return first & 15, await self._take(size)

    async def receive(self) -> Any:
        opcode, payload = await self.receive_frame()
        while opcode == 9:
            await self.send_frame(10, payload)
            opcode, payload = await self.receive_frame()
        assert opcode == 1, (opcode, payload)
        return json.loads(payload)

    async def rest(self) -> list[Any]:
        await self.send_frame(8, struct.pack("!H", 1000))
        found: list[Any] = []
        while True:
            opcode, payload = await self.receive_frame()
            if opcode == 8:
                return found
            if opcode == 1:
                found.append(json.loads(payload))


def frame_bytes(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """One frame of a client, masked with zeros: as good a mask as any."""
    size = len(payload)
    head = bytes([opcode | (0x80 if final else 0)])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += struct.pack("!BH", 0x80 | 126, size)
    else:
        head += struct.pack("!BQ", 0x80 | 127, size)
    return head + b"\0\0\0\0" + payload


class StdioPeer(_DuplexPeer):
    """`clonk stdio`, started as a child."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._buffer = b""

    async def send(self, message: bytes) -> None:
        assert self.process.stdin is not None
        # A line must not hold a line end; JSON does not mind a blank in its place.
        await self.process.stdin.send_all(message.replace(b"\n", b" ") + b"\n")

    async def receive(self) -> Any:
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            piece = await self.process.stdout.receive_some(65536)
            if not piece:
                raise EOFError
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    async def rest(self) -> list[Any]:
        assert self.process.stdin is not None
        await self.process.stdin.aclose()
        found = []
        while True:
            try:
                found.append(await self.receive())
            except EOFError:
                assert await self.process.wait() == 0
                return found


Peer = HttpPeer | WebSocketPeer | StdioPeer
OpenPeer = Callable[[str], AbstractAsyncContextManager[Peer]]


@pytest.fixture
def open_http(server: ServerProcess) -> Callable[[], AbstractAsyncContextManager[HttpPeer]]:
    @asynccontextmanager
    async def open_one() -> AsyncIterator[HttpPeer]:
        async with await trio.open_tcp_stream("127.0.0.1", port_of(server.http_url)) as stream:
            yield HttpPeer(stream)

    return open_one


@pytest.fixture
def open_websocket(server: ServerProcess) -> Callable[..., AbstractAsyncContextManager[WebSocketPeer]]:
    @asynccontextmanager
    async def open_one(path: str = "/ws") -> AsyncIterator[WebSocketPeer]:
        async with await trio.open_tcp_stream("127.0.0.1", port_of(server.websocket_url)) as stream:
            peer = WebSocketPeer(stream)
            await peer.open(path)
            yield peer

    return open_one


@asynccontextmanager
async def open_stdio(folder: Path) -> AsyncIterator[StdioPeer]:
    config = write_config(folder / "stdio.yaml", folder / "stdio", SETTINGS)
    with (folder / "stdio.log").open("wb") as log:
        process: trio.Process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "clonk_core", "stdio", "--config", str(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder)},
            cwd=folder,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin, process.stdout:
        try:
            yield StdioPeer(process)
        finally:
            if process.poll() is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


@pytest.fixture(params=TRANSPORTS)
async def peer(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    server: ServerProcess,
    open_http: Callable[[], AbstractAsyncContextManager[HttpPeer]],
    open_websocket: Callable[[], AbstractAsyncContextManager[WebSocketPeer]],
) -> AsyncIterator[Peer]:
    """A peer on each transport in turn."""
    opened: AbstractAsyncContextManager[Peer]
    if request.param == "http":
        opened = open_http()
    elif request.param == "websocket":
        opened = open_websocket()
    else:
        opened = open_stdio(tmp_path)
    async with opened as found:
        yield found


def call_bytes(method: str, params: Any = None, id: Any = 1) -> bytes:
    message = {"jsonrpc": "2.0", "method": method, "id": id}
    return json.dumps(message if params is None else {**message, "params": params}).encode()


@pytest.fixture
def call() -> Callable[..., bytes]:
    """Makes the bytes of a request."""
    return call_bytes
