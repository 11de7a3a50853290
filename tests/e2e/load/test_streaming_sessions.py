"""Two hundred sessions that stream at the same time, each to two readers, from a server on whatever cores there are."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from clonk_core.client.http import HttpClient
from clonk_core.client.websocket import WebSocketClient
from clonk_core.testing.server_process import ServerProcess

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]

SESSIONS = 200
DELTAS = 100
BOUND_BYTES = 2**20
"""Of the server's memory, for each session that streams."""


class _Gate:
    """Where the scripted binaries wait in the middle of their reply."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        # Open in both directions, nobody waits for the other side to be there.
        self._descriptor = os.open(path, os.O_RDWR)

    def open(self, times: int) -> None:
        os.write(self._descriptor, b"\n" * times)

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[_Gate]:
    opened = _Gate(tmp_path / "gate")
    yield opened
    opened.close()


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.deadline(240)
async def test_two_hundred_sessions_stream_at_once_and_every_reader_has_every_event_once_and_in_order(
    start_server: StartServer, gate: _Gate
) -> None:
    prompt = f"count {DELTAS} gate {gate.path}"
    first_readers: dict[int, list[Any]] = {number: [] for number in range(SESSIONS)}
    second_readers: dict[int, list[Any]] = {}
    async with (
        start_server(max_concurrent=SESSIONS) as server,
        HttpClient(server.http_url) as http,
        WebSocketClient(server.websocket_url) as websocket,
    ):
        clients = (http, websocket)

        async def create(number: int) -> None:
            await clients[number % 2].call("claudecode.create", name=f"s{number}")

        async def chat(number: int, read_again: trio.Nursery) -> None:
            client: Any = clients[number % 2]
            async with client.stream("claudecode.chat", name=f"s{number}", prompt=prompt) as events:
                read_again.start_soon(resume, number, events.subscription)
                async for event in events:
                    first_readers[number].append(event)

        async def resume(number: int, subscription: str) -> None:
            client: Any = clients[(number + 1) % 2]
            async with client.resume(subscription) as events:
                second_readers[number] = [event async for event in events]

        async with trio.open_nursery() as nursery:
            for number in range(SESSIONS):
                nursery.start_soon(create, number)
        process = psutil.Process(server.pid)
        before_bytes = process.memory_info().rss
        async with trio.open_nursery() as nursery:
            for number in range(SESSIONS):
                nursery.start_soon(chat, number, nursery)
            while min(map(len, first_readers.values())) <= DELTAS // 2:  # the first one is `started`
                await trio.sleep(0.05)
            at_work = [one for one in process.children() if one.name() == "claude"]
            each_bytes = (process.memory_info().rss - before_bytes) / SESSIONS
            # The server answers others meanwhile.
            assert len(await http.call("claudecode.list", limit=SESSIONS)) == SESSIONS
            gate.open(SESSIONS)
        assert len(at_work) == SESSIONS
        assert each_bytes < BOUND_BYTES
        assert '"level": "error"' not in server.log_text
    for number, events in first_readers.items():
        assert [event.seq for event in events] == list(range(1, DELTAS + 4))
        texts = [event.event["text"] for event in events if event.event["type"] == "text_delta"]
        assert texts == [f"{count} " for count in range(1, DELTAS + 1)]
        assert [event.event["outcome"] for event in events if event.is_done] == ["complete"]
        assert second_readers[number] == events
