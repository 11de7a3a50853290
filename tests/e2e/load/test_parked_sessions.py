"""Many sessions that were chatted with and are parked: few processes, and all of them still there after a restart.

100 in the usual run; as many as wanted with `CLONK_PARKED=2000`. How long it takes and what it weighs is in
`tests/bench/bench_many.py`.
"""

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import psutil
import pytest
import trio

from clonk_core.client.http import HttpClient
from clonk_core.testing.server_process import ServerProcess

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]

SESSIONS: Final = int(os.environ.get("CLONK_PARKED", "100"))
LIVE: Final = 8


async def _chat(client: HttpClient, name: str, prompt: str) -> list[Any]:
    events = await client.events("claudecode.chat", name=name, prompt=prompt)
    assert events[-1]["outcome"] == "complete"
    return events


async def _shown(client: HttpClient, name: str, count: int) -> list[Any]:
    """Attach to a session and return the first events of its runs."""
    shown: list[Any] = []
    async with client.stream("claudecode.attach", name=name, after="start") as events:
        while len(shown) < count:
            event = (await events.next()).event
            if event["type"] == "session_event":
                shown.append(event["event"])
    return shown


async def _names(client: HttpClient) -> list[str]:
    names: list[str] = []
    while page := await client.call("claudecode.list", limit=77, after=names[-1] if names else None):
        names += [one["name"] for one in page]
    return names


@pytest.mark.slow
@pytest.mark.deadline(60 + SESSIONS)
async def test_parked_sessions_are_found_watched_counted_and_chatted_on_also_after_a_restart(
    start_server: StartServer,
) -> None:
    answers: dict[str, list[Any]] = {}
    turn = trio.CapacityLimiter(LIVE)

    async def create_and_chat(client: HttpClient, number: int) -> None:
        async with turn:
            await client.call("claudecode.create", name=f"s{number}")
            answers[f"s{number}"] = await _chat(client, f"s{number}", f"the word is marker{number}")

    async def look(client: HttpClient) -> None:
        assert sorted(await _names(client)) == sorted(answers)
        for number in (0, SESSIONS // 2, SESSIONS - 1):
            name = f"s{number}"
            (hit,) = await client.call("claudecode.search", query=f"marker{number}")
            assert hit["session"] == name
            assert await _shown(client, name, len(answers[name])) == answers[name]
        (total,) = await client.call("claudecode.usage")
        assert total["turns"] == SESSIONS
        assert total["input_tokens"] == 10 * SESSIONS
        by_session = await client.call("claudecode.usage", group_by="session")
        assert {one["group"]: one["turns"] for one in by_session} == dict.fromkeys(answers, 1)

    async with start_server(max_concurrent=LIVE) as server, HttpClient(server.http_url) as client:
        async with trio.open_nursery() as nursery:
            for number in range(SESSIONS):
                nursery.start_soon(create_and_chat, client, number)
        assert len([one for one in psutil.Process(server.pid).children() if one.name() == "claude"]) <= LIVE
        await look(client)
        assert '"level": "error"' not in server.log_text
    async with start_server(max_concurrent=LIVE) as server, HttpClient(server.http_url) as client:
        await look(client)
        await _chat(client, "s0", "once more")
        history = await client.call("claudecode.history", name="s0")
        assert [one["role"] for one in history] == ["user", "assistant"] * 2
        assert '"level": "error"' not in server.log_text
