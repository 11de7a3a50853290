"""Prompts that wait for the one before them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

from clonk_claudecode.testing.script import Reply, Rule, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]


class Chats:
    """Several chats at the same time, and what each has shown so far."""

    def __init__(self, hub: TestHost, nursery: trio.Nursery) -> None:
        self._hub = hub
        self._nursery = nursery
        self._news = trio.Event()
        self.events: dict[str, list[Any]] = {}
        self.subscriptions: dict[str, str] = {}

    async def begin(self, prompt: str, first: str, **options: Any) -> None:
        """Say something and wait for its first event of a kind."""
        self._nursery.start_soon(self._read, prompt, options)
        await self.wait(prompt, first)

    async def _read(self, prompt: str, options: dict[str, Any]) -> None:
        async with self._hub.client.stream("claudecode.chat", name="s", prompt=prompt, **options) as stream:
            self.subscriptions[prompt] = stream.subscription
            async for _, event in stream:
                self.events.setdefault(prompt, []).append(event)
                self._news.set()

    async def wait(self, prompt: str, kind: str) -> dict[str, Any]:
        """Wait for an event."""
        with trio.fail_after(60):
            while True:
                for event in self.events.get(prompt, ()):
                    if event["type"] == kind:
                        found: dict[str, Any] = event
                        return found
                self._news = trio.Event()
                await self._news.wait()

    def positions(self, prompt: str) -> list[int]:
        """The places it was told."""
        return [event["position"] for event in self.events[prompt] if event["type"] == "queued"]


def _gated(name: str) -> Rule:
    return Rule(name, [Reply([Wait(name), f"answer to {name}"])])


async def _history(hub: TestHost) -> list[str]:
    """The prompts that were said."""
    messages = await hub.client.call("claudecode.history", name="s")
    return [one["content"] for one in messages if isinstance(one["content"], str)]


async def test_prompts_wait_in_order_are_told_their_place_and_can_be_taken_out(
    hub: TestHost, model: ScriptedModel
) -> None:
    model.add(_gated("first"))
    await hub.client.call("claudecode.create", name="s")
    async with trio.open_nursery() as nursery:
        chats = Chats(hub, nursery)
        await chats.begin("first", "started")
        for prompt in ("second", "third", "fourth"):
            await chats.begin(prompt, "queued", queue=True)
        assert [chats.positions(prompt) for prompt in ("second", "third", "fourth")] == [[1], [2], [3]]
        with pytest.raises(CallError) as caught:
            await hub.client.events("claudecode.chat", name="s", prompt="impatient")
        assert caught.value.kind == "claudecode.session_busy"
        assert caught.value.data["subscription"] == chats.subscriptions["first"]

        await hub.client.call("rpc.cancel", subscription=chats.subscriptions["third"])
        done = await chats.wait("third", "done")
        assert (done["outcome"], done["snapshot_id"], done["error"]["data"]["kind"]) == ("cancelled", None, "cancelled")

        model.release("first")
        for prompt in ("first", "second", "fourth"):
            assert (await chats.wait(prompt, "done"))["outcome"] == "complete"
        assert chats.positions("fourth") == [3, 2, 1]
    assert await _history(hub) == ["first", "second", "fourth"]


async def test_an_interrupt_ends_the_running_turn_and_the_next_prompt_begins(
    hub: TestHost, model: ScriptedModel
) -> None:
    model.add(_gated("first"))
    await hub.client.call("claudecode.create", name="s")
    async with trio.open_nursery() as nursery:
        chats = Chats(hub, nursery)
        await chats.begin("first", "started")
        await model.wait_reached("first")
        await chats.begin("second", "queued", queue=True)
        assert (await hub.client.call("claudecode.interrupt", name="s"))["interrupted"] is True
        assert (await chats.wait("first", "done"))["outcome"] == "cancelled"
        assert (await chats.wait("second", "done"))["outcome"] == "complete"
        assert chats.events["second"][-2]["type"] != "text_delta"


async def test_no_more_prompts_wait_than_may_and_those_of_a_deleted_session_end(
    open_hub: OpenHub, model: ScriptedModel
) -> None:
    model.add(_gated("first"))
    async with open_hub(turn={"queue_limit": 1}) as hub:
        await hub.client.call("claudecode.create", name="s")
        async with trio.open_nursery() as nursery:
            chats = Chats(hub, nursery)
            await chats.begin("first", "started")
            await chats.begin("second", "queued", queue=True)
            with pytest.raises(CallError) as caught:
                await hub.client.events("claudecode.chat", name="s", prompt="third", queue=True)
            assert (caught.value.kind, caught.value.data["limit"]) == ("claudecode.queue_full", 1)
            await hub.client.call("claudecode.delete", name="s")
            done = await chats.wait("second", "done")
            assert (done["outcome"], done["error"]["data"]["kind"]) == ("failed", "not_found")
            assert (await chats.wait("first", "done"))["outcome"] == "cancelled"
    assert "second" not in [request.prompt for request in model.requests]


async def test_a_free_session_answers_a_prompt_that_would_wait_at_once(hub: TestHost, model: ScriptedModel) -> None:
    await hub.client.call("claudecode.create", name="s")
    events = await hub.client.events("claudecode.chat", name="s", prompt="now", queue=True)
    assert events[0]["type"] == "started"
    assert events[-1]["outcome"] == "complete"


async def test_a_prompt_that_waits_when_the_server_ends_is_never_said(open_hub: OpenHub, model: ScriptedModel) -> None:
    model.add(_gated("first"))
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="s")
        async with trio.open_nursery() as nursery:
            chats = Chats(hub, nursery)
            await chats.begin("first", "started")
            await chats.begin("second", "queued", queue=True)
            await hub.app.realm.stop_runs()
            done = await chats.wait("second", "done")
            assert (done["outcome"], done["error"]["data"]["kind"]) == ("failed", "server_restarted")
    async with open_hub() as hub:
        assert await _history(hub) == ["first"]


async def test_a_chat_that_is_repeated_with_its_key_is_said_once(open_hub: OpenHub, model: ScriptedModel) -> None:
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="s")
        asked = {"name": "s", "prompt": "once", "idempotency_key": "k-1"}
        first = await hub.client.events("claudecode.chat", **asked)
        assert await hub.client.events("claudecode.chat", **asked) == first
    async with open_hub() as hub:
        assert await hub.client.events("claudecode.chat", **asked) == first
        with pytest.raises(CallError) as caught:
            await hub.client.events("claudecode.chat", **{**asked, "prompt": "twice"})
        assert caught.value.kind == "conflict"
        assert await _history(hub) == ["once"]
    assert [request.prompt for request in model.requests] == ["once"]
