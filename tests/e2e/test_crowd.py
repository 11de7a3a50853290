"""Ten thousand connections that never say who they are: a real server's memory is bounded, and callers are served."""

import hashlib
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from clonk_core.client.http import HttpClient
from clonk_core.client.websocket import WebSocketClient
from clonk_core.testing.server_process import ServerProcess, server_process

CROWD = 10_000
BATCH = 250
KEY = "clonk_real_of-the-test"
AUTH = {
    "api_keys": [
        {"id": "real", "secret_hash": f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}", "scopes": ["*"]},
    ]
}
BOUND_BYTES = 250 * 2**20
"""Two thousand strangers of some 60 KiB each are 120 MiB; as much again for what Python does not give back."""

STARTS = [
    b"",
    b"GET / HT",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{",
    (
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ),
]


@pytest.fixture
def descriptors() -> Iterator[int]:
    """As many file descriptors as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(hard, 1_000_000) if hard > 0 else 1_000_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ports(server: ServerProcess) -> tuple[int, int]:
    return (
        int(server.http_url.rpartition(":")[2]),
        int(server.websocket_url.removesuffix("/ws").rpartition(":")[2]),
    )


async def open_crowd(server: ServerProcess, count: int, found: list[trio.SocketStream]) -> None:
    """Open connections to both ports in turn, some silent, some with half of what they should say."""

    async def one(number: int) -> None:
        with suppress(OSError, trio.BrokenResourceError):
            stream = await trio.open_tcp_stream("127.0.0.1", ports(server)[number % 2])
            found.append(stream)
            if start := STARTS[number // 2 % len(STARTS)]:
                await stream.send_all(start)

    for begin in range(0, count, BATCH):
        async with trio.open_nursery() as nursery:
            for number in range(begin, min(begin + BATCH, count)):
                nursery.start_soon(one, number)


async def serve_a_caller(server: ServerProcess, took_s: list[float]) -> None:
    """Call on both ports again and again, on new connections."""
    while True:
        for client in (HttpClient(server.http_url, api_key=KEY), WebSocketClient(server.websocket_url, api_key=KEY)):
            began = trio.current_time()
            async with client as opened:
                opened_any: Any = opened
                assert (await opened_any.call("auth.whoami"))["caller"] == "real"
            took_s.append(trio.current_time() - began)
        await trio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.deadline(240)
async def test_ten_thousand_strangers_cost_bounded_memory_and_a_caller_is_served_throughout(
    tmp_path: Path, descriptors: int, capsys: pytest.CaptureFixture[str]
) -> None:
    count = min(CROWD, descriptors - 500)
    async with server_process(tmp_path / "crowd", settings={"auth": AUTH, "server": {"max_strangers": 1000}}) as server:
        process = psutil.Process(server.pid)
        before = process.memory_info().rss
        crowd: list[trio.SocketStream] = []
        took_s: list[float] = []
        most_descriptors = 0
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_a_caller, server, took_s)
                await open_crowd(server, count, crowd)
                most_descriptors = process.num_fds()
                served = len(took_s)
                with trio.fail_after(60):
                    while len(took_s) < served + 4:  # and still afterwards
                        await trio.sleep(0.05)
                grown = process.memory_info().rss - before
                nursery.cancel_scope.cancel()
        finally:
            for stream in crowd:
                await trio.aclose_forcefully(stream)
        with capsys.disabled():
            print(
                f"\n{len(crowd)} strangers: {before / 2**20:.0f} MiB before, {grown / 2**20:.0f} more, "
                f"{most_descriptors} descriptors; {len(took_s)} calls meanwhile, the slowest {max(took_s):.2f} s"
            )
        assert len(crowd) > count * 0.9
        assert grown < BOUND_BYTES
        assert most_descriptors < 2 * 1000 + 500
        assert max(took_s) < 20
        assert '"level": "error"' not in server.log_text


@pytest.mark.alone
@pytest.mark.deadline(120)
async def test_a_server_out_of_descriptors_goes_on_says_so_once_and_serves_callers(
    tmp_path: Path, descriptors: int
) -> None:
    async with server_process(tmp_path / "full", settings={"auth": AUTH}) as server:
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        assert soft == hard  # raised by the server itself
        few = psutil.Process(server.pid).num_fds() + 60
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (few, few))
        crowd: list[trio.SocketStream] = []
        took_s: list[float] = []
        try:
            await open_crowd(server, 250, crowd)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_a_caller, server, took_s)
                with trio.fail_after(60):
                    while len(took_s) < 10:
                        await trio.sleep(0.05)
                nursery.cancel_scope.cancel()
        finally:
            for stream in crowd:
                await trio.aclose_forcefully(stream)
        assert max(took_s) < 20
        assert 1 <= server.log_text.count("connections cannot be accepted") <= 20
        assert all(line.startswith("{") for line in server.log_text.splitlines())


@pytest.mark.parametrize("held", ["http", "websocket"])
@pytest.mark.deadline(120)
async def test_strangers_who_hold_all_descriptors_on_one_port_make_room_for_callers_of_the_other(
    tmp_path: Path, held: str
) -> None:
    patient = {"handshake_timeout_s": 300, "idle_timeout_s": 300}
    auth = AUTH | {"authenticate_within_s": 300}
    async with server_process(tmp_path / held, settings={"auth": auth, "server": patient}) as server:
        process = psutil.Process(server.pid)

        async def call() -> None:
            other = WebSocketClient(server.websocket_url, api_key=KEY)
            client: Any = HttpClient(server.http_url, api_key=KEY) if held == "websocket" else other
            async with client as opened:
                assert (await opened.call("auth.whoami"))["caller"] == "real"

        async def wait_open(count: int) -> None:
            with trio.fail_after(30):
                while len([one for one in process.net_connections("tcp") if one.status != "LISTEN"]) != count:
                    await trio.sleep(0.01)

        await call()
        silent = [await trio.open_tcp_stream("127.0.0.1", ports(server)[held == "websocket"]) for _ in range(30)]
        try:
            await wait_open(30)
            full = process.num_fds()
            _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (full + 1, hard))
            await call()  # it takes the last one, and nobody need leave
            await wait_open(30)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (full, hard))
            await call()
        finally:
            for stream in silent:
                await trio.aclose_forcefully(stream)
