"""Watching a session: from any point, by any number of callers, each seeing who else does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_claudecode.testing.script import Reply, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.inside import InsideClient
from clonk_core.errors import CallError
from clonk_core.testing.host import TestHost
from tests.claudecode.sessions.conftest import OpenHub
from tests.claudecode.sharing.conftest import ClientOf


async def _session(hub: TestHost, workspace: Path, name: str = "w") -> None:
    await hub.client.call("claudecode.create", name=name, working_dir=str(workspace))


@asynccontextmanager
async def _watching(client: InsideClient, **params: Any) -> AsyncIterator[Any]:
    """Watch the session `w`; gives an iterator that ends with `done`, after `attached` was seen."""
    async with client.stream("claudecode.attach", **{"name": "w", **params}) as events:
        yield events


async def _next(events: Any, kind: str) -> Any:
    """Return the next event of a kind, passing over others."""
    with trio.fail_after(30):
        while True:
            _, event = await events.next()
            if event["type"] == kind:
                return event
            assert event["type"] != "done", event


async def _run_of(events: Any) -> list[Any]:
    """Return the events of one run, to its `done`."""
    found = []
    while True:
        event = await _next(events, "session_event")
        found.append(event["event"])
        if event["event"]["type"] == "done":
            return found


async def test_every_watcher_sees_what_whoever_prompted_sees(
    hub: TestHost, model: ScriptedModel, workspace: Path, client_of: ClientOf
) -> None:
    model.add("One.", "Two.")
    await _session(hub, workspace)
    ann, bob = client_of(hub, "ann", "claudecode:read"), client_of(hub, "bob", "claudecode:chat@w")
    async with _watching(ann) as first, _watching(bob) as second:
        await _next(first, "attached")
        await _next(second, "attached")
        for answer in ("One.", "Two."):
            seen = await bob.events("claudecode.chat", name="w", prompt="go")
            assert await _run_of(first) == seen
            assert await _run_of(second) == seen
            assert [event["content"] for event in seen if event["type"] == "assistant_message"] == [answer]


async def test_one_who_comes_later_begins_with_the_first_event_of_the_run_that_answers(
    hub: TestHost, model: ScriptedModel, workspace: Path, client_of: ClientOf
) -> None:
    model.add("Before.", Reply(["Now ", Wait("gate"), "and then."]))
    await _session(hub, workspace)
    await hub.client.events("claudecode.chat", name="w", prompt="one")
    async with hub.client.stream("claudecode.chat", name="w", prompt="two") as chat:
        await _next(chat, "text_delta")
        async with _watching(client_of(hub, "ann", "claudecode:read")) as events:
            attached = await _next(events, "attached")
            assert attached["subscription"] == chat.subscription
            model.release("gate")
            assert (await _run_of(events))[0]["type"] == "started"


async def test_one_who_was_cut_off_goes_on_behind_the_last_cursor_and_misses_nothing(
    hub: TestHost, model: ScriptedModel, workspace: Path, client_of: ClientOf
) -> None:
    model.add("One two three four.", "Five six seven.")
    await _session(hub, workspace)
    for prompt in ("a", "b"):
        await hub.client.events("claudecode.chat", name="w", prompt=prompt)
    ann = client_of(hub, "ann", "claudecode:read")
    async with _watching(ann, after="start") as events:
        whole = [await _next(events, "session_event") for _ in range(8)]
    for cut in range(1, 8):
        async with _watching(ann, after=whole[cut - 1]["cursor"]) as events:
            assert [await _next(events, "session_event") for _ in range(8 - cut)] == whole[cut:]


async def test_watchers_see_each_other_come_and_go(hub: TestHost, workspace: Path, client_of: ClientOf) -> None:
    await _session(hub, workspace)
    ann, bob = client_of(hub, "ann", "claudecode:read"), client_of(hub, "bob", "claudecode:chat", "claudecode:read")
    async with _watching(ann) as first:
        attached = await _next(first, "attached")
        assert [who["caller"] for who in attached["watchers"]] == ["ann"]
        async with _watching(bob) as second:
            assert [who["caller"] for who in (await _next(second, "attached"))["watchers"]] == ["ann", "bob"]
            joined = await _next(first, "presence")
            assert (joined["change"], joined["watcher"]["caller"], joined["watcher"]["may_prompt"]) == (
                "joined",
                "bob",
                True,
            )
            session = await hub.client.call("claudecode.get", name="w")
            assert [who["caller"] for who in session["watchers"]] == ["ann", "bob"]
        left = await _next(first, "presence")
        assert (left["change"], left["watcher"]["caller"]) == ("left", "bob")
        assert [who["caller"] for who in left["watchers"]] == ["ann"]
    assert (await hub.client.call("claudecode.get", name="w"))["watchers"] == []


async def test_a_watcher_who_does_not_read_holds_up_nobody(
    hub: TestHost, model: ScriptedModel, workspace: Path, client_of: ClientOf
) -> None:
    model.add(Reply(["word " * 3000]))
    await _session(hub, workspace)
    async with _watching(client_of(hub, "slow", "claudecode:read")) as slow:
        await _next(slow, "attached")
        with trio.fail_after(30):
            seen = await hub.client.events("claudecode.chat", name="w", prompt="go")
        assert await _run_of(slow) == seen  # and it finds everything when it does read


async def test_the_watching_ends_with_the_session(
    hub: TestHost, model: ScriptedModel, workspace: Path, client_of: ClientOf
) -> None:
    model.add(Reply(["Never ", Wait("gate"), "said."]))
    await _session(hub, workspace)
    async with hub.client.stream("claudecode.chat", name="w", prompt="go") as chat:
        await _next(chat, "text_delta")
        async with _watching(client_of(hub, "ann", "claudecode:read")) as events:
            await _next(events, "attached")
            await hub.client.call("claudecode.delete", name="w")
            assert (await _run_of(events))[-1]["outcome"] == "cancelled"
            with trio.fail_after(10):
                assert (await events.next())[1]["outcome"] == "complete"
    model.release("gate")


async def test_a_change_of_the_session_is_seen_and_a_name_out_of_reach_ends_the_watching(
    hub: TestHost, workspace: Path, client_of: ClientOf
) -> None:
    await _session(hub, workspace)
    ann, bob = client_of(hub, "ann", "claudecode:read"), client_of(hub, "bob", "claudecode:read@w")
    async with _watching(ann) as first, _watching(bob) as second:
        await _next(first, "attached")
        await _next(second, "attached")
        await hub.client.call("claudecode.update", name="w", model="opus")
        assert (await _next(second, "session_changed"))["change"] == "updated"
        await hub.client.call("claudecode.update", name="w", new_name="hidden")
        await _next(first, "session_changed")
        assert (await _next(first, "session_changed"))["session"] == "hidden"
        with trio.fail_after(10):
            while (last := (await second.next())[1])["type"] != "done":
                assert last["type"] == "presence"
        assert (last["outcome"], last["error"]["data"]["kind"]) == ("refused", "forbidden")


async def test_a_session_gets_no_name_that_its_changer_may_not_reach(
    hub: TestHost, workspace: Path, client_of: ClientOf
) -> None:
    await _session(hub, workspace)
    bob = client_of(hub, "bob", "claudecode:update@w*")
    with pytest.raises(CallError) as refused:
        await bob.call("claudecode.update", name="w", new_name="mine")
    assert refused.value.kind == "forbidden"
    assert (await bob.call("claudecode.update", name="w", new_name="w2"))["name"] == "w2"


@pytest.mark.parametrize("verb", ["read", "chat", "delete"])
async def test_nobody_may_do_more_with_a_session_for_the_name_that_they_give_it(
    hub: TestHost, workspace: Path, client_of: ClientOf, verb: str
) -> None:
    await _session(hub, workspace)
    bob = client_of(hub, "bob", "claudecode:update", f"claudecode:{verb}@mine-*")
    with pytest.raises(CallError) as refused:
        await bob.call("claudecode.update", name="w", new_name="mine-1")
    assert (refused.value.kind, refused.value.data["scope"]) == ("forbidden", f"claudecode:{verb}")
    assert (await bob.call("claudecode.update", name="w", new_name="other"))["name"] == "other"


async def test_who_may_not_see_a_session_may_not_watch_it(hub: TestHost, workspace: Path, client_of: ClientOf) -> None:
    await _session(hub, workspace)
    with pytest.raises(CallError) as refused:
        await client_of(hub, "eve", "claudecode:read@other").events("claudecode.attach", name="w")
    assert refused.value.kind == "forbidden"


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({"name": "nobody"}, "not_found"),
        ({"after": "sub_unknown:3"}, "invalid_params"),
        ({"after": "nonsense"}, "invalid_params"),
        ({"after": 7}, "invalid_params"),
        ({"after": "start:" + "9" * 30}, "invalid_params"),
    ],
)
async def test_a_place_that_is_none_is_an_error(
    hub: TestHost, workspace: Path, params: dict[str, Any], kind: str
) -> None:
    await _session(hub, workspace)
    with pytest.raises(CallError) as refused:
        await hub.client.events("claudecode.attach", **{"name": "w", **params})
    assert refused.value.kind == kind


async def test_a_cursor_beyond_the_run_or_of_another_session_is_an_error(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add("One.")
    await _session(hub, workspace)
    await _session(hub, workspace, "other")
    await hub.client.events("claudecode.chat", name="w", prompt="go")
    async with _watching(hub.client, after="start") as events:
        turn = (await _next(events, "session_event"))["subscription"]
    with pytest.raises(CallError) as refused:
        await hub.client.events("claudecode.attach", name="other", after=f"{turn}:1")
    assert refused.value.kind == "invalid_params"
    events_seen = await hub.client.events("claudecode.attach", name="w", after=f"{turn}:99999")
    assert events_seen[-1]["error"]["data"]["kind"] == "invalid_params"


async def test_cursors_are_good_after_a_restart(open_hub: OpenHub, model: ScriptedModel, workspace: Path) -> None:
    model.add("One.", "Two.")
    async with open_hub() as hub:
        await _session(hub, workspace)
        await hub.client.events("claudecode.chat", name="w", prompt="go")
        async with _watching(hub.client, after="start") as events:
            first = await _next(events, "session_event")
    async with open_hub() as hub:
        await hub.client.events("claudecode.chat", name="w", prompt="go")
        async with _watching(hub.client, after=first["cursor"]) as events:
            texts = [
                event["content"]
                for run in (await _run_of(events), await _run_of(events))
                for event in run
                if event["type"] == "assistant_message"
            ]
    assert texts == ["One.", "Two."]
