"""A permission that waits while the server is killed."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from clonk_claudecode.testing.script import Reply, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.base import RemoteError
from clonk_core.client.http import HttpClient
from clonk_core.client.websocket import WebSocketClient
from clonk_core.testing.server_process import ServerProcess

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]


@pytest.mark.deadline(120)
async def test_a_killed_server_closes_what_waited_and_the_session_asks_anew(
    start_server: StartServer,
    model: ScriptedModel,
    tmp_path: Path,
    wait_no_process: Callable[[Path], Awaitable[None]],
) -> None:
    ask = Reply([ToolUse("Bash", {"command": "touch done.txt"})])
    model.add(ask)
    async with start_server() as server, HttpClient(server.http_url) as client:
        created = await client.call("claudecode.create", name="one")
        async with client.stream("claudecode.chat", name="one", prompt="go") as events:
            subscription = events.subscription
            async for event in events:
                if event.event["type"] == "permission_request":
                    break
            request = event.event
            await server.kill()
    await wait_no_process(tmp_path)
    model.add(ask, "Done.")
    async with start_server() as server, HttpClient(server.http_url) as client:
        assert await client.call("claudecode.permissions") == []
        (kept,) = await client.call("claudecode.permissions", state="any")
        assert (kept["request_id"], kept["state"]) == (request["request_id"], "ended")
        with pytest.raises(RemoteError) as caught:
            await client.call("claudecode.permit", request_id=request["request_id"], decision="allow")
        assert (caught.value.kind, caught.value.data["state"]) == ("claudecode.permission_resolved", "ended")
        async with client.resume(subscription, after=0) as again:
            last = [event.event async for event in again][-1]
        assert last["error"]["data"]["kind"] == "server_restarted"
        (row,) = await client.call("audit.query", kind="tool", after=0)
        assert row["outcome"] == "unknown"
        done = Path(created["working_dir"]) / "done.txt"
        assert not done.exists()
        async with client.stream("claudecode.chat", name="one", prompt="again") as events:
            async for event in events:
                if event.event["type"] == "permission_request":
                    # Answered by a second client, on another transport.
                    async with WebSocketClient(server.websocket_url) as second:
                        await second.call("claudecode.permit", request_id=event.event["request_id"], decision="allow")
        assert event.event["outcome"] == "complete"
        assert done.exists()
