"""A whole working day with one session, over each transport: everything that is offered, in one go."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.base import ClientError, RemoteError
from tests.e2e.day import COLOUR, COUNTS, SLEEP, TRANSPORTS, Day, Watching, git, script, watch, working_day

FORM = {"type": "object", "properties": {"done": {"type": "integer"}}, "required": ["done"]}


@pytest.mark.deadline(150)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_whole_working_day(
    transport: str,
    model: ScriptedModel,
    claude_settings: dict[str, Any],
    tmp_path: Path,
    wait_no_process: Callable[[Path], Awaitable[None]],
) -> None:
    async with working_day(tmp_path, transport, model, {"claudecode": claude_settings}) as day:
        model.add(*script(day.repo))
        await day.ann.call("claudecode.create", name="work", working_dir=str(day.repo), allowed_tools=["Bash"])
        seen = [Watching() for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for client, watching in zip((day.ann, day.ben, day.eve), seen, strict=True):
                await nursery.start(partial(watch, client, "work", watching))
            watchers = (await day.eve.call("claudecode.get", name="work"))["watchers"]
            assert [one["caller"] for one in watchers] == [day.known_as(who) for who in ("ann", "ben", "eve")]
            planned = await _a_permission_is_answered_from_a_second_client(day)
            changed = await _a_file_is_edited_without_asking(day)
            await _a_question_is_answered(day)
            await _a_turn_is_interrupted(day)
            await _prompts_wait_for_each_other(day)
            await _a_prompt_leaves_no_trace(day)
            await _forks_go_their_own_ways(day, planned, changed)
            await _the_session_goes_back(day, planned, changed)
            await _a_guest_comes_and_goes(day)
            await _what_was_said_is_found(day)
            await _the_session_is_exported_in_all_formats(day)
            await _the_session_is_put_aside_and_taken_back(day)
            await _usage_adds_up(day)
            await _everything_is_deleted(day)
        # The nursery has ended: so have all three watchings, with the session.
        for watching in seen:
            assert watching.runs == day.runs["work"]
            assert watching.others[-1]["type"] == "done"
            changes = {kind: count for kind, count in watching.kinds().items() if kind.startswith("session_changed")}
            assert changes == {
                "session_changed updated": 3,
                "session_changed rewound": 1,
                "session_changed archived": 1,
                "session_changed restored": 1,
            }
        assert [watching.kinds()["presence joined"] for watching in seen] == [2, 1, 0]
    await wait_no_process(tmp_path)


async def _a_permission_is_answered_from_a_second_client(day: Day) -> Any:
    async with day.chatting("make a plan") as events:
        request = [event async for event in _until(events, "permission_request")][-1]
        (waiting,) = await day.eve.call("claudecode.permissions", name="work")
        assert (waiting["request_id"], waiting["tool"]) == (request["request_id"], "Write")
        assert (await day.ann.call("claudecode.get", name="work"))["waiting"] == [request["request_id"]]
        assert not (day.repo / "plan.txt").exists()
        await day.ben.call("claudecode.permit", request_id=request["request_id"], decision="allow")
        if day.transport != "stdio":
            assert await _refusal(day.eve, "permit", request_id=request["request_id"], decision="deny") == "forbidden"
        again = partial(_refusal, day.ann, "permit", request_id=request["request_id"], decision="deny")
        assert await again() == "claudecode.permission_resolved"
        resolved = [event async for event in _until(events, "permission_resolved")][-1]
        assert (resolved["state"], resolved["by"]) == ("allowed", day.known_as("ben"))
    done = day.last()
    assert (done["outcome"], done["usage"]["input_tokens"], done["usage"]["tool_calls"]) == ("complete", 200, 1)
    assert (day.repo / "plan.txt").read_text() == "the first plan\n"
    assert git(day.repo, "show", f"{done['checkpoint']['commit']}:plan.txt") == "the first plan"
    return done


async def _a_file_is_edited_without_asking(day: Day) -> Any:
    await day.ann.call("claudecode.update", name="work", permission_mode="acceptEdits")
    done = await day.chat("change it", who="ben")
    assert (day.repo / "plan.txt").read_text() == "the second plan\n"
    assert "aubergines" in str(day.model.turns[-1].messages)
    return done


async def _a_question_is_answered(day: Day) -> None:
    async with day.chatting("ask me") as events:
        request = [event async for event in _until(events, "permission_request")][-1]
        assert request["kind"] == "question"
        await day.ben.call(
            "claudecode.permit", request_id=request["request_id"], decision="allow", answers={COLOUR: "Blue"}
        )
    assert day.last()["outcome"] == "complete"
    assert f'"{COLOUR}"="Blue"' in str(day.model.turns[-1].tool_results)


async def _a_turn_is_interrupted(day: Day) -> None:
    async with day.chatting("take long") as events:
        _ = [event async for event in _until(events, "tool_use")]
        with trio.fail_after(20):
            while not _sleepers(day.repo):
                await trio.sleep(0.02)
        assert await _refusal(day.ben, "chat", name="work", prompt="too early") == "claudecode.session_busy"
        answer = await day.ben.call("claudecode.interrupt", name="work")
        assert answer["interrupted"]
        assert not _sleepers(day.repo)
    assert day.last()["outcome"] == "cancelled"


def _sleepers(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline() == SLEEP.split() and process.cwd() == str(folder):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


async def _prompts_wait_for_each_other(day: Day) -> None:
    async with day.chatting("slowly") as events:
        _ = [event async for event in _until(events, "text_delta")]
        async with day.chatting("and then this", who="ben", queue=True) as later:
            assert await anext(later) == {"type": "queued", "position": 1}
            day.model.release("queue")
            _ = [event async for event in events]
    assert day.last()["outcome"] == "complete"
    assert "Slow answer." in str(day.model.turns[-1].messages)


async def _a_prompt_leaves_no_trace(day: Day) -> None:
    before = await day.history()
    await day.chat("a whisper of rhubarb", ephemeral=True)
    assert await day.history() == before
    assert await day.ann.call("claudecode.search", query="rhubarb") == []


async def _forks_go_their_own_ways(day: Day, planned: Any, changed: Any) -> None:
    for files, text in (("worktree", "the first plan\n"), ("copy", "the second plan\n")):
        fork = await day.ann.call(
            "claudecode.fork", name="work", snapshot_id=planned["snapshot_id"], new_name=files, files=files
        )
        assert (fork["forked_from"]["session"], fork["message_count"]) == ("work", 4)
        folder = Path(fork["working_dir"])
        assert (folder / "plan.txt").read_text() == text
        (folder / "plan.txt").write_text("another\n")
        await day.chat(f"what now in the {files}", name=files)
        told = str(day.model.turns[-1].messages)
        assert "aubergines" in told
        assert "courgettes" not in told
    assert (day.repo / "plan.txt").read_text() == "the second plan\n"
    assert changed["snapshot_id"] in {one["snapshot_id"] for one in await day.history()}


async def _the_session_goes_back(day: Day, planned: Any, changed: Any) -> None:
    (day.repo / "by-hand.txt").write_text("typed\n")
    back = await day.ann.call("claudecode.rewind", name="work", snapshot_id=planned["snapshot_id"])
    assert (back["files"], back["message_count"]) == ("restored", 4)
    assert (day.repo / "plan.txt").read_text() == "the first plan\n"
    assert not (day.repo / "by-hand.txt").exists()
    assert git(day.repo, "show", f"{back['checkpoint']['commit']}:by-hand.txt") == "typed"
    assert git(day.repo, "status", "--short") == "?? plan.txt"
    await day.chat("change it", who="ben")
    told = str(day.model.turns[-1].messages)
    assert "aubergines" in told
    assert "courgettes" not in told
    assert (day.repo / "plan.txt").read_text() == "the second plan\n"
    # What was left can still be forked.
    left = await day.ann.call("claudecode.fork", name="work", snapshot_id=changed["snapshot_id"], new_name="left")
    assert left["message_count"] == 8


async def _a_guest_comes_and_goes(day: Day) -> None:
    share = await day.ann.call("claudecode.share", name="work", access="chat", expires_in_s=600)
    assert [one["id"] for one in await day.ann.call("claudecode.shares", name="work")] == [share["id"]]
    if day.transport != "stdio":  # which has one caller, whoever sits at the machine
        async with day.open(share["token"]) as guest:
            assert [one["name"] for one in await guest.call("claudecode.list")] == ["work"]
            assert await guest.call("claudecode.history", name="work") == await day.history()
            assert await _refusal(guest, "get", name="left") == "forbidden"
            assert await _refusal(guest, "delete", name="work") == "forbidden"
            async with guest.stream("claudecode.chat", name="work", prompt="a guest says hello") as stream:
                events = [event async for _, event in stream]
            assert events[-1]["outcome"] == "complete"
            day.runs["work"][stream.subscription] = events
            day.spent.append(("work", share["id"], events[-1]["usage"]))
            await day.ann.call("claudecode.unshare", name="work", id=share["id"])
            with pytest.raises(ClientError):
                await guest.call("claudecode.get", name="work")
    else:
        await day.ann.call("claudecode.unshare", name="work", id=share["id"])
    assert (await day.ann.call("claudecode.shares", name="work"))[0]["revoked_at"] is not None


async def _what_was_said_is_found(day: Day) -> None:
    hits = await day.eve.call("claudecode.search", query="aubergines")
    assert {hit["session"] for hit in hits} == {"work", "worktree", "copy", "left"}
    (hit,) = await day.eve.call("claudecode.search", query="aubergines", name="work")
    (message,) = [one for one in await day.history() if one["seq"] == hit["seq"]]
    assert message["snapshot_id"] == hit["snapshot_id"]
    assert "aubergines" in str(message["content"])


async def _the_session_is_exported_in_all_formats(day: Day) -> None:
    history = await day.history()
    texts = {}
    for kind in ("markdown", "json", "jsonl"):
        events = await day.eve.events("claudecode.export", name="work", format=kind)
        assert events[-1]["outcome"] == "complete"
        texts[kind] = "".join(event["text"] for event in events[:-1])
    assert "Planned with aubergines." in texts["markdown"]
    assert json.loads(texts["json"])["messages"] == history
    entries = [json.loads(line) for line in texts["jsonl"].splitlines()]
    assert any("aubergines" in str(entry) for entry in entries)
    again = await day.ann.call("claudecode.import", name="again", transcript=texts["jsonl"])
    assert again["message_count"] == len(history)
    done = await day.chat("count", name="again", output_schema=FORM)
    assert done["output"] == {"done": 7}
    assert "aubergines" in str(day.model.turns[-1].messages)


async def _the_session_is_put_aside_and_taken_back(day: Day) -> None:
    changed = await day.ann.call("claudecode.update", name="work", model="opus", metadata={"ticket": "42"})
    assert changed["metadata"] == {"ticket": "42"}
    await day.ann.call("claudecode.archive", name="work")
    assert "work" not in {one["name"] for one in await day.eve.call("claudecode.list")}
    assert await _refusal(day.ben, "chat", name="work", prompt="are you there") == "claudecode.session_archived"
    await day.ann.call("claudecode.archive", name="work", archived=False)
    await day.ann.call("claudecode.update", name="work", system_prompt="Be brief.")
    await day.chat("good night")
    assert "opus" in day.model.turns[-1].body["model"]
    assert "Be brief." in day.model.turns[-1].system
    assert "aubergines" in str(day.model.turns[-1].messages)


async def _usage_adds_up(day: Day) -> None:
    for of, group_by in enumerate(("session", "caller")):
        rows = await day.ann.call("claudecode.usage", group_by=group_by)
        told = {row["group"]: Counter({name: row[name] for name in (*COUNTS, "turns")}) for row in rows}
        mine = day.sums(of)
        assert told == mine
    (total,) = await day.ann.call("claudecode.usage")
    whole = sum(day.sums(1).values(), Counter[str]())
    assert {name: total[name] for name in whole} == dict(whole)
    costs = sum(usage["cost_usd"] for _, _, usage in day.spent if usage["cost_usd"] is not None)
    assert total["cost_usd"] == pytest.approx(costs)


async def _everything_is_deleted(day: Day) -> None:
    folders = [Path((await day.ann.call("claudecode.get", name=name))["working_dir"]) for name in ("worktree", "copy")]
    for name in ("again", "left", "worktree", "copy", "work"):
        assert await day.ann.call("claudecode.delete", name=name)
    assert await day.ann.call("claudecode.list") == []
    assert await day.ann.call("claudecode.permissions", state="any") == []
    assert await day.ann.call("claudecode.search", query="aubergines") == []
    assert git(day.repo, "for-each-ref", "refs/clonk") == ""
    assert (day.repo / "plan.txt").read_text() == "the second plan\n"
    assert not folders[1].exists()
    (total,) = await day.ann.call("claudecode.usage")
    assert total["turns"] == len(day.spent)


async def _until(events: Any, kind: str) -> Any:
    async for event in events:
        yield event
        if event["type"] == kind:
            return


async def _refusal(client: Any, method: str, **params: Any) -> str:
    with pytest.raises(RemoteError) as refused:
        await (client.events if method == "chat" else client.call)(f"claudecode.{method}", **params)
    return refused.value.kind
