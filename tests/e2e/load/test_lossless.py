"""Readers that are cut and a server that is killed, again and again: no event is lost, and none comes twice.

60 cuts and 2 kills over 6 000 events in the usual run. The whole, 100 events for each cut:

    export CLONK_CUTS=1000 CLONK_KILLS=20
    pytest -o faulthandler_timeout=0 -s tests/e2e/load/test_lossless.py
"""

import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import attrs
import pytest
import trio

from clonk_core.client.base import ConnectionLost, RemoteError, StreamEvent
from clonk_core.client.http import HttpClient
from clonk_core.client.websocket import WebSocketClient
from clonk_core.testing.server_process import ServerProcess
from tests.e2e.load.cutting import Cutter, CuttingProxy

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]

CUTS: Final = int(os.environ.get("CLONK_CUTS", "60"))
KILLS: Final = int(os.environ.get("CLONK_KILLS", "2"))
SEED: Final = int(os.environ.get("CLONK_CUTS_SEED", "4"))
EVENTS: Final = 100 * CUTS
SESSIONS: Final = 4
DELTAS: Final = min(1000, max(200, EVENTS // SESSIONS // 8))
PROMPT: Final = f"count {DELTAS} pause 10"
EVENT_BYTES: Final = 190
READERS: Final = 3
"""Of each session: over HTTP, over WebSocket, and attached."""


@attrs.define
class _Session:
    """What the readers of one session have seen.

    Attributes:
        name: Its name.
        over_http, over_websocket: The events of each run.
        attached: What was shown to whoever is attached: the run, and the event.
    """

    name: str
    over_http: list[list[StreamEvent]] = attrs.field(factory=list)
    over_websocket: list[list[StreamEvent]] = attrs.field(factory=list)
    attached: list[tuple[str, Any]] = attrs.field(factory=list)


class _Load:
    """Sessions that answer, and their readers, over connections that are cut."""

    def __init__(self) -> None:
        self.cutter = Cutter(SEED, 1.2 * EVENTS * READERS * EVENT_BYTES / CUTS)
        self.http = CuttingProxy(self.cutter)
        self.websocket = CuttingProxy(self.cutter)
        self.sessions = [_Session(f"s{number}") for number in range(SESSIONS)]
        self.is_ending = False

    def aim(self, server: ServerProcess) -> None:
        """Carry connections to this server from now on."""
        self.http.target = _port(server.http_url)
        self.websocket.target = _port(server.websocket_url.removesuffix("/ws"))

    @property
    def events(self) -> int:
        """How many events the runs have had so far."""
        return sum(len(run) for session in self.sessions for run in session.over_http)

    @property
    def is_answering(self) -> bool:
        """Whether an answer has begun just now, so that a kill cuts it: what readers see may be long over."""
        runs = [session.over_http[-1] for session in self.sessions if session.over_http]
        return any(1 <= len(run) < DELTAS // 4 for run in runs)

    async def work(self, session: _Session) -> None:
        """Have a session answer until it is enough, each answer read twice, and all of them by one who is attached."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._attach, session)
            while not self.is_ending:
                key = f"{session.name}-{len(session.over_http)}"
                session.over_http.append([])
                session.over_websocket.append([])
                async with trio.open_nursery() as readers:
                    readers.start_soon(self._chat, HttpClient, session.name, key, session.over_http[-1])
                    readers.start_soon(self._chat, WebSocketClient, session.name, key, session.over_websocket[-1])
            last = session.over_http[-1][-1].subscription
            while not session.attached or not _is_end(session.attached[-1], last):
                await trio.sleep(0.02)
            nursery.cancel_scope.cancel()

    def _client(self, kind: Any) -> Any:
        is_http = kind is HttpClient
        url = f"http://127.0.0.1:{self.http.port}" if is_http else f"ws://127.0.0.1:{self.websocket.port}/ws"
        return kind(url)

    async def _chat(self, kind: Any, name: str, key: str, seen: list[StreamEvent]) -> None:
        """Read one run whole. Both readers ask for it with the same key, and again when the answer was lost."""
        subscription = ""
        while not (seen and seen[-1].is_done):
            async with _coming_back(), self._client(kind) as client:
                stream = (
                    client.resume(subscription, after=len(seen))
                    if subscription
                    else client.stream("claudecode.chat", name=name, prompt=PROMPT, idempotency_key=key)
                )
                async with stream as events:
                    subscription = events.subscription
                    async for event in events:
                        seen.append(event)  # noqa: PERF401  (kept also when the connection is cut)

    async def _attach(self, session: _Session) -> None:
        cursor = "start"
        while True:
            async with (
                _coming_back(),
                self._client(HttpClient) as client,
                client.stream("claudecode.attach", name=session.name, after=cursor) as events,
            ):
                async for _, event in events:
                    assert event["type"] != "missed"
                    if event["type"] == "session_event":
                        cursor = event["cursor"]
                        session.attached.append((event["subscription"], event["event"]))


class _coming_back:  # noqa: N801  (a context manager)
    """Outlives a lost connection, and a server that is not ready yet."""

    async def __aenter__(self) -> None:
        return

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, ConnectionLost) or (isinstance(error, RemoteError) and error.kind == "unavailable"):
            await trio.sleep(0.02)
            return True
        return False


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _is_end(shown: tuple[str, Any], subscription: str) -> bool:
    return shown[0] == subscription and shown[1]["type"] == "done"


@pytest.fixture
async def load() -> AsyncIterator[_Load]:
    made = _Load()
    async with trio.open_nursery() as nursery:
        await nursery.start(made.http.serve)
        await nursery.start(made.websocket.serve)
        yield made
        nursery.cancel_scope.cancel()


async def _reach(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.deadline(120 + 2 * CUTS)
async def test_no_event_is_lost_or_doubled_over_cut_connections_and_a_killed_server(
    start_server: StartServer, load: _Load, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = random.Random(SEED)
    async with trio.open_nursery() as nursery:
        for life in range(KILLS + 1):
            async with start_server(max_concurrent=SESSIONS) as server:
                load.aim(server)
                if life == 0:
                    async with HttpClient(server.http_url) as client:
                        for session in load.sessions:
                            await client.call("claudecode.create", name=session.name)
                            nursery.start_soon(load.work, session)
                wanted = load.events + int(moments.uniform(0.5, 1.3) * EVENTS / (KILLS + 1))
                await _reach(lambda: load.events >= wanted)  # noqa: B023  (waited for at once)
                if life < KILLS:
                    await _reach(lambda: load.is_answering)
                    await server.kill()
                    continue
                await _reach(lambda: load.events >= EVENTS and load.cutter.cuts >= CUTS)
                load.is_ending = True
                await _reach(lambda: not nursery.child_tasks)
                async with HttpClient(server.http_url) as client:
                    for session in load.sessions:
                        await _check(client, session)
    delivered = load.events + sum(
        sum(map(len, session.over_websocket)) + len(session.attached) for session in load.sessions
    )
    ends = [run[-1].event["outcome"] for session in load.sessions for run in session.over_http]
    with capsys.disabled():
        print(
            f"\n{load.events} events in {len(ends)} runs ({ends.count('failed')} of them cut off by a kill), "
            f"delivered {delivered} times over {load.cutter.cuts} cuts and {KILLS} kills: none lost, none doubled"
        )
    assert load.cutter.cuts >= CUTS
    assert 1 <= ends.count("failed") <= KILLS * SESSIONS


async def _check(client: HttpClient, session: _Session) -> None:
    """See that every reader has seen what the server keeps, all of it and once."""
    shown: list[tuple[str, Any]] = []
    for over_http, over_websocket in zip(session.over_http, session.over_websocket, strict=True):
        subscription = over_http[0].subscription
        async with client.resume(subscription) as events:
            kept = [event async for event in events]
        assert [event.seq for event in kept] == list(range(1, len(kept) + 1))
        assert over_http == kept
        assert over_websocket == kept
        assert [event.is_done for event in kept] == [False] * (len(kept) - 1) + [True]
        texts = [event.event["text"] for event in kept if event.event["type"] == "text_delta"]
        assert texts == [f"{count} " for count in range(1, len(texts) + 1)]
        if kept[-1].event["outcome"] == "complete":
            assert len(texts) == DELTAS
        else:
            assert kept[-1].event["error"]["data"]["kind"] == "server_restarted"
        if len(kept) > 1:  # a run that was killed before its turn began is none of the session's
            shown += [(subscription, event.event) for event in kept]
    assert session.attached == shown
    history = await client.call("claudecode.history", name=session.name, limit=1000)
    asked = [one["subscription"] for one in history if one["role"] == "user"]
    assert asked == [run[0].subscription for run in session.over_http if len(run) > 1]
