"""What happens when something dies: the server, the binary, a connection, the disk."""

import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from clonk_claudecode.testing.script import LongText, Reply, Rule, Text, ToolUse, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.base import RemoteError
from clonk_core.client.http import HttpClient
from clonk_core.testing.server_process import ServerProcess

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]
WaitNoProcess = Callable[[Path], Awaitable[None]]


async def _read(client: HttpClient, name: str, prompt: str) -> list[Any]:
    async with client.stream("claudecode.chat", name=name, prompt=prompt) as events:
        return [event async for event in events]


def _text(events: list[Any]) -> str:
    return "".join(one.event["text"] for one in events if one.event["type"] == "text_delta")


@pytest.mark.deadline(120)
async def test_a_killed_server_loses_nothing_that_was_shown_and_the_session_goes_on(
    start_server: StartServer, model: ScriptedModel, tmp_path: Path, wait_no_process: WaitNoProcess
) -> None:
    model.add(Rule("first", Reply(["shown before the end ", Wait("gate"), "never shown"])))
    seen: list[Any] = []
    async with start_server() as server:
        async with HttpClient(server.http_url) as client:
            await client.call("claudecode.create", name="one")
            await _read(client, "one", "zeroth")
            async with client.stream("claudecode.chat", name="one", prompt="first") as events:
                subscription = events.subscription
                while "end" not in _text(seen):
                    seen.append(await events.next())
                await model.wait_reached("gate")
                await server.kill()
    await wait_no_process(tmp_path)
    async with start_server() as server, HttpClient(server.http_url) as client:
        # The run was closed honestly, and what was shown can be read again.
        async with client.resume(subscription, after=0) as events:
            again = [event async for event in events]
        assert [one.seq for one in again] == list(range(1, len(again) + 1))
        assert again[: len(seen)] == seen
        assert again[-1].event["outcome"] == "failed"
        assert again[-1].event["error"]["data"]["kind"] == "server_restarted"
        history = await client.call("claudecode.history", name="one")
        assert [one["role"] for one in history] == ["user", "assistant", "user", "assistant"]
        assert history[-1]["partial"] is True
        assert history[-1]["content"][0]["text"] == _text(again)
        assert _text(seen) in history[-1]["content"][0]["text"]
        events_of_next = await _read(client, "one", "second")
        assert events_of_next[-1].event["outcome"] == "complete"
        assert "zeroth" in str(model.turns[-1].body["messages"])


@pytest.mark.deadline(120)
async def test_a_killed_server_leaves_no_tool_running(
    start_server: StartServer, model: ScriptedModel, tmp_path: Path, wait_no_process: WaitNoProcess
) -> None:
    marker = tmp_path / "hub" / "data" / "workspaces" / "ran.txt"
    command = f"sleep 3; echo ran > {marker}"
    model.add(Rule("run", [Reply([ToolUse("Bash", {"command": command, "description": "wait"})]), "done"]))
    async with start_server() as server:
        async with HttpClient(server.http_url) as client:
            await client.call("claudecode.create", name="one", permission_mode="bypassPermissions")
            async with client.stream("claudecode.chat", name="one", prompt="run it") as events:
                async for event in events:
                    if event.event["type"] == "tool_use":
                        break
                await server.kill()
    await wait_no_process(tmp_path)
    assert not marker.exists()


@pytest.mark.deadline(120)
async def test_a_killed_binary_fails_the_turn_and_the_next_one_resumes(
    start_server: StartServer,
    model: ScriptedModel,
    processes_below: Callable[[Path], list[psutil.Process]],
    tmp_path: Path,
) -> None:
    model.add(Rule("first", Reply(["before ", Wait("gate"), "after"])))
    async with start_server() as server, HttpClient(server.http_url) as client:
        await client.call("claudecode.create", name="one")
        async with client.stream("claudecode.chat", name="one", prompt="first") as events:
            await model.wait_reached("gate")
            (binary,) = [one for one in processes_below(tmp_path) if "--input-format" in one.cmdline()]
            binary.send_signal(signal.SIGKILL)
            rest = [event async for event in events]
        assert rest[-1].event["outcome"] == "failed"
        assert rest[-1].event["error"]["data"]["kind"] == "claudecode.process_died"
        assert rest[-1].event["error"]["data"]["exit_code"] == -9
        assert (await _read(client, "one", "second"))[-1].event["outcome"] == "complete"


@pytest.mark.deadline(120)
async def test_sigterm_during_ten_chats_and_with_a_stalled_reader_ends_in_order(
    start_server: StartServer, model: ScriptedModel, tmp_path: Path, wait_no_process: WaitNoProcess
) -> None:
    long = Reply([Text("word " * 2000), Wait("gate"), "never"])
    model.add(Rule("go", long))
    ends: list[str] = []
    async with start_server(server={"shutdown_grace_s": 5}) as server, HttpClient(server.http_url) as client:
        for number in range(10):
            await client.call("claudecode.create", name=f"s{number}")
        stalled = _stalled_reader(server)
        async with trio.open_nursery() as nursery:

            async def follow(name: str) -> None:
                async with client.stream("claudecode.chat", name=name, prompt="go") as events:
                    seen = [event async for event in events]
                    ends.append(seen[-1].event["error"]["data"]["kind"])

            for number in range(1, 10):
                nursery.start_soon(follow, f"s{number}")
            with trio.fail_after(60):
                while len(model.turns) < 10:
                    await model.wait_request(len(model.turns) + 1)
            began = trio.current_time()
            assert await server.terminate() == 0
            assert trio.current_time() - began < 5 + 10
        stalled.close()
    assert ends == ["server_restarted"] * 9
    await wait_no_process(tmp_path)


def _stalled_reader(server: ServerProcess) -> socket.socket:
    """Open a stream and never read it."""
    host, port = server.http_url.removeprefix("http://").split(":")
    body = b'{"jsonrpc":"2.0","method":"claudecode.chat","params":{"name":"s0","prompt":"go"},"id":1}'
    stalled = socket.create_connection((host, int(port)))
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.sendall(
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Accept: text/event-stream\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return stalled


@pytest.mark.deadline(120)
async def test_a_reader_cut_and_resumed_at_every_event_loses_nothing_and_sees_nothing_twice(
    start_server: StartServer, model: ScriptedModel
) -> None:
    words = [f"w{number} " for number in range(30)]
    model.add(Rule("go", Reply(list(words))))
    async with start_server() as server, HttpClient(server.http_url) as client:
        await client.call("claudecode.create", name="one")
        whole = await _read(client, "one", "go")
        subscription = whole[0].subscription
        for cut in range(len(whole)):
            seen: list[Any] = []
            async with client.resume(subscription, after=0) as events:
                while len(seen) < cut:
                    seen.append(await events.next())
            async with client.resume(subscription, after=cut) as events:
                seen += [event async for event in events]
            assert seen == whole, f"cut after {cut}"


@pytest.mark.alone
@pytest.mark.deadline(120)
async def test_a_hundred_readers_of_one_run_all_see_all_of_it(start_server: StartServer, model: ScriptedModel) -> None:
    model.add(Rule("go", Reply(["one ", Wait("gate"), *[f"w{number} " for number in range(200)]])))
    async with start_server() as server, HttpClient(server.http_url) as client:
        await client.call("claudecode.create", name="one")
        async with client.stream("claudecode.chat", name="one", prompt="go") as events:
            subscription = events.subscription
            await model.wait_reached("gate")
            results: list[list[Any]] = []

            async def follow() -> None:
                async with HttpClient(server.http_url) as own, own.resume(subscription, after=0) as stream:
                    results.append([event async for event in stream])

            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(follow)
                await _wait_connections(server, 100)
                model.release("gate")
        assert len(results) == 100
        assert all(result == results[0] for result in results)
        assert results[0][-1].event["outcome"] == "complete"


async def _wait_connections(server: ServerProcess, count: int) -> None:
    process = psutil.Process(server.pid)
    with trio.fail_after(30):
        while sum(one.status == "ESTABLISHED" for one in process.net_connections("tcp")) < count:
            await trio.sleep(0.05)


def _fill(folder: Path) -> Path:
    """Take all the room there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return filler


@pytest.mark.deadline(120)
async def test_a_full_disk_is_told_and_forgotten_when_there_is_room_again(
    start_server: StartServer, small_disk: Path
) -> None:
    async with (
        start_server(storage={"data_dir": str(small_disk)}) as server,
        HttpClient(server.http_url) as client,
    ):
        tree = await client.call("arbor.tree_create", name="t")
        filler = _fill(small_disk)
        with pytest.raises(RemoteError) as caught:
            for _ in range(100):
                await client.call("arbor.node_create", tree_id=tree, content="x" * 100_000)
        assert caught.value.kind == "storage_full"
        assert (await client.call("hub.info"))["name"] == "clonk"
        filler.unlink()
        await client.call("arbor.node_create", tree_id=tree, content="small")


async def _read_when_possible(client: HttpClient, subscription: str) -> list[Any]:
    """Read a run whose log could not be written, as a client does that is told to come back later."""
    with trio.fail_after(30):
        while True:
            try:
                async with client.resume(subscription, after=0) as events:
                    return [event async for event in events]
            except RemoteError as error:
                if error.kind != "storage_full":
                    raise
                await trio.sleep(0.2)


@pytest.mark.deadline(120)
async def test_a_chat_on_a_full_disk_ends_honestly_and_the_session_goes_on(
    start_server: StartServer, model: ScriptedModel, small_disk: Path, workspace: Path
) -> None:
    model.add(Rule("go", Reply(["before ", Wait("gate"), LongText(5_000)])))
    async with (
        start_server(storage={"data_dir": str(small_disk)}, workspaces={"roots": [str(workspace)]}) as server,
        HttpClient(server.http_url) as client,
    ):
        await client.call("claudecode.create", name="one", working_dir=str(workspace))
        async with client.stream("claudecode.chat", name="one", prompt="go") as events:
            subscription = events.subscription
            await model.wait_reached("gate")
            seen = [await events.next()]
            filler = _fill(small_disk)
            model.release("gate")
            with pytest.raises(RemoteError) as caught:
                while True:
                    seen.append(await events.next())
            assert caught.value.kind == "storage_full"
        filler.unlink()
        # With room again the run is closed by itself, and what was shown is kept.
        again = await _read_when_possible(client, subscription)
        assert again[: len(seen)] == seen
        assert again[-1].event["outcome"] == "failed"
        assert (await _read(client, "one", "second"))[-1].event["outcome"] == "complete"
