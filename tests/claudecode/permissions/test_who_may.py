"""Who may see what waits and answer it."""

from pathlib import Path

from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.testing.host import TestHost
from tests.claudecode.permissions.asking import asked, caller, create, refusal, write


async def test_each_key_sees_and_answers_what_its_scopes_cover(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(write(workspace / "a.txt"), "Done.")
    await create(hub, workspace, name="red-one")
    async with asked(hub, name="red-one") as turn:
        permit = {"request_id": turn.request["request_id"], "decision": "allow"}
        blue = caller(hub, "blue", "claudecode:chat@blue-*")
        assert await blue.call("claudecode.permissions") == []
        # It cannot tell a session that is not there from one that it may not see, nor their requests.
        assert (await refusal(blue.call("claudecode.permissions", name="red-one"))).kind == "not_found"
        unknown = await refusal(blue.call("claudecode.permit", **{**permit, "request_id": "perm_none"}))
        error = await refusal(blue.call("claudecode.permit", **permit))
        assert (error.kind, unknown.kind) == ("not_found", "not_found")
        assert error.message == unknown.message.replace("perm_none", turn.request["request_id"])
        reader = caller(hub, "reader", "claudecode:read")
        assert [one["session"] for one in await reader.call("claudecode.permissions")] == ["red-one"]
        assert (await refusal(reader.call("claudecode.permit", **permit))).kind == "forbidden"
        own_tool = caller(hub, "anna", kind="session")
        for method, params in {
            "claudecode.permit": permit,
            "claudecode.permissions": {},
            "claudecode.get": {"name": "red-one"},
            "claudecode.list": {},
            "claudecode.create": {"name": "other"},
            "claudecode.delete": {"name": "red-one"},
            "claudecode.interrupt": {"name": "red-one"},
        }.items():
            assert (await refusal(own_tool.call(method, **params))).kind == "forbidden", method
        red = caller(hub, "red", "claudecode:chat@red-*")
        (waiting,) = await red.call("claudecode.permissions", name="red-one")
        assert waiting["request_id"] == permit["request_id"]
        assert (await red.call("claudecode.permit", **permit))["decided_by"] == "red"
        await turn.rest()


async def test_requests_page_in_the_order_in_which_they_were_asked(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    for number in range(3):
        model.add(write(workspace / f"{number}"), "Done.")
    await create(hub, workspace, name="one")
    await create(hub, workspace, name="two")
    ids = []
    for name in ("one", "two", "one"):
        async with asked(hub, name=name) as turn:
            ids.append(turn.request["request_id"])
            await hub.client.call("claudecode.permit", request_id=ids[-1], decision="deny")
            await turn.rest()
    page = await hub.client.call("claudecode.permissions", state="any", limit=2)
    assert [one["request_id"] for one in page] == ids[:2]
    page = await hub.client.call("claudecode.permissions", state="denied", after=ids[1])
    assert [one["request_id"] for one in page] == ids[2:]
    narrowed = caller(hub, "two", "claudecode:chat@two")
    page = await narrowed.call("claudecode.permissions", state="any", limit=1)
    assert [one["request_id"] for one in page] == [ids[1]]
    page = await hub.client.call("claudecode.permissions", state="any", name="one")
    assert [one["request_id"] for one in page] == [ids[0], ids[2]]
