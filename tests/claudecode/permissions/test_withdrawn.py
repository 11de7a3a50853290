"""Requests that Claude Code takes back, as the real binary does not do on demand; and answers that cross with that."""

from pathlib import Path
from typing import Any, cast

import trio

from clonk_claudecode.engine.permissions import PermissionQuestion
from clonk_claudecode.permissions.desk import PermissionDesk
from clonk_core.plugin import CallError
from tests.claudecode.engine.test_live_session import Fake, fake
from tests.claudecode.permissions.asking import OpenHub, asked, create, one, refusal

__all__ = ["fake"]

TAKES_BACK = """
    initialize()
    read()
    ask = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "ls"}, "tool_use_id": "toolu_1"}
    write({"type": "control_request", "request_id": "r1", "request": ask})
    while not os.path.exists("go on"):
        time.sleep(0.02)
    # Both in one piece: the turn ends in the same moment.
    write(json.dumps({"type": "control_cancel_request", "request_id": "r1"}) + "\\n" + json.dumps(RESULT))
    while read():
        pass
"""


async def test_a_request_that_is_taken_back_is_withdrawn_and_cannot_be_answered(
    open_hub: OpenHub, workspace: Path, fake: Fake
) -> None:
    async with open_hub(binary_path=str(fake(TAKES_BACK))) as hub:
        await create(hub, workspace)
        async with asked(hub) as turn:
            (workspace / "go on").touch()
            rest = await turn.rest()
        resolved = one(rest, "permission_resolved")
        assert (resolved["state"], resolved["decision"], resolved["by"]) == ("withdrawn", None, None)
        assert rest[-1]["outcome"] == "complete"
        (kept,) = await hub.client.call("claudecode.permissions", state="withdrawn")
        assert kept["request_id"] == turn.request["request_id"]
        error = await refusal(
            hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="allow")
        )
        assert (error.kind, error.data["state"]) == ("claudecode.permission_resolved", "withdrawn")


async def test_an_answer_that_crosses_with_the_end_of_its_request_is_not_taken_for_given(
    open_hub: OpenHub, workspace: Path
) -> None:
    async with open_hub() as hub:
        await create(hub, workspace)
        session_id = (await hub.client.call("claudecode.get", name="w"))["id"]
        desk: PermissionDesk = cast(
            "Any", hub.app.realm.method("claudecode.permit").function
        ).__self__._sessions.permissions
        shown: list[Any] = []
        question = PermissionQuestion(
            session_id=session_id, tool="Bash", input={"command": "ls"}, tool_use_id=None, request={}, put=shown.append
        )
        scope = trio.CancelScope()

        async def decide() -> None:
            with scope:
                await desk.decide(question)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(decide)
            with trio.fail_after(10):
                while not shown:
                    await trio.sleep(0.01)
            said: list[CallError] = []

            async def permit() -> None:
                said.append(
                    await refusal(hub.client.call("claudecode.permit", request_id=question.id, decision="allow"))
                )

            nursery.start_soon(permit)
            with trio.fail_after(10):
                while desk._waiters[question.id].claim is None:
                    await trio.lowlevel.checkpoint()
            # It is being stored now, on the database's thread.
            question.end("withdrawn")
            scope.cancel()
        assert (said[0].kind, said[0].data["state"]) == ("claudecode.permission_resolved", "withdrawn")
        assert [item.type for item in shown] == ["permission_request", "permission_resolved"]
        (kept,) = await hub.client.call("claudecode.permissions", state="any")
        assert (kept["state"], kept["decision"], kept["decided_by"]) == ("withdrawn", None, None)
