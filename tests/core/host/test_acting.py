"""Calls in somebody's name: through the whole door, and never more than that one may now."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from clonk_core.names import scopes_in_both
from clonk_core.plugin import (
    Activation,
    Call,
    Caller,
    CallError,
    Forbidden,
    Host,
    InvalidParams,
    JsonValue,
    RateLimited,
    method,
)
from clonk_core.testing.host import TestHost
from tests.core.gateway.guarded import guarded_in, key_settings


class Dice(Activation):
    """Dice that say who threw them."""

    namespace = "dice"

    def __init__(self) -> None:
        self.seen: list[Caller] = []

    @method(scope="read")
    async def roll(self, call: Call, sides: int = 6) -> str:
        """Throw one.

        Args:
            sides: How many sides it has.
        """
        self.seen.append(call.caller)
        return f"{call.caller.kind} {call.caller.id} threw one of {sides}"

    @method(scope="count", durable=True)
    async def count(self, call: Call, to: int) -> AsyncIterator[int]:
        """Count.

        Args:
            to: How far.
        """
        for number in range(to):
            yield number


class Agent(Activation):
    """Does things in others' names."""

    namespace = "agent"

    def __init__(self, host: Host) -> None:
        self.host = host


@pytest.fixture
def parts() -> dict[str, Any]:
    return {}


def _host(folder: Path, parts: dict[str, Any], *keys: dict[str, Any], **options: Any) -> Any:
    def dice() -> Activation:
        made = parts["dice"] = Dice()
        return made

    def agent(host: Host) -> Activation:
        made = parts["agent"] = Agent(host)
        return made

    return guarded_in(folder)(*keys, activations=[dice, agent], **options)


class Picky(Activation):
    """Answers nobody's tools."""

    namespace = "picky"

    def admit(self, call: Call) -> None:
        if call.caller.kind == "session" and call.method != "picky.name":
            raise Forbidden(f"{call.method} is not for tools")

    @method(scope="read")
    async def name(self) -> str:
        """Tell its name."""
        return "Picky"

    @method(scope="read")
    async def taste(self) -> str:
        """Taste."""
        return "Good."

    @method(scope="read")
    async def tastes(self) -> AsyncIterator[str]:
        """Taste again and again."""
        yield "Good."


class Go(Activation):
    """Goes to others for whoever calls."""

    namespace = "go"

    def __init__(self, host: Host) -> None:
        self.host = host

    @method()
    async def between(self, to: str) -> JsonValue:
        """Call another activation.

        Args:
            to: Its method.
        """
        return await self.host.call(to)


async def test_an_activation_refuses_callers_on_its_own_account_also_behind_another(tmp_path: Path) -> None:
    made: list[Go] = []

    def go(host: Host) -> Activation:
        made.append(Go(host))
        return made[0]

    async with guarded_in(tmp_path)(activations=[Picky, go]) as hub:
        host = made[0].host
        tool = Caller(id="local", scopes=frozenset({"*"}))
        for method_name, params in [("picky.taste", {}), ("go.between", {"to": "picky.taste"})]:
            assert await hub.client.call(method_name, **params) == "Good."
            with pytest.raises(Forbidden):
                await host.call_as(tool, method_name, params, peer="w")
        with pytest.raises(Forbidden):
            async with host.stream_as(tool, "picky.tastes", {}, peer="w"):
                pass
        assert (await hub.client.events("picky.tastes"))[0] == "Good."
        assert await host.call_as(tool, "go.between", {"to": "picky.name"}, peer="w") == "Picky"


async def _rows(hub: TestHost, action: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = await hub.client.call("audit.query", kind="call", action=action, after=0)
    return rows


async def test_a_call_in_a_keys_name_is_the_keys_with_less_scopes_and_is_written_down(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    async with _host(tmp_path, parts, key_settings("ci", ["dice:*", "arbor:read"])) as hub:
        host: Host = parts["agent"].host
        given = Caller(id="ci", scopes=frozenset({"dice:read", "keys:create"}))
        answer = await host.call_as(given, "dice.roll", {"sides": 20}, peer="session w", run_id="sub_1")
        assert answer == "session ci threw one of 20"
        (seen,) = parts["dice"].seen
        assert seen.scopes == {"dice:read"}
        (row,) = await _rows(hub, "dice.roll")
        assert (row["caller"], row["outcome"], row["run_id"], row["peer"], row["transport"]) == (
            "ci",
            "ok",
            "sub_1",
            "session w",
            "inside",
        )


async def test_scopes_that_were_not_given_and_those_that_the_key_lost_are_refused(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    async with _host(tmp_path, parts, key_settings("ci", ["dice:read"])) as hub:
        host: Host = parts["agent"].host
        for given in ({"arbor:read"}, {"dice:count"}, set[str]()):
            with pytest.raises(Forbidden):
                await host.call_as(Caller(id="ci", scopes=frozenset(given)), "dice.roll", {}, peer="w")
        with pytest.raises(Forbidden):  # given once, and not the key's any more
            async with host.stream_as(Caller(id="ci", scopes=frozenset({"*"})), "dice.count", {"to": 1}, peer="w"):
                pass
        assert [row["outcome"] for row in await _rows(hub, "dice.roll")] == ["forbidden"] * 3
        assert parts["dice"].seen == []


async def test_in_the_name_of_a_key_that_was_revoked_or_never_was_nothing_is_done_and_that_is_written_down(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    async with _host(tmp_path, parts) as hub:
        host: Host = parts["agent"].host
        given = Caller(id="bob", scopes=frozenset({"*"}))
        with pytest.raises(Forbidden):
            await host.call_as(given, "dice.roll", {}, peer="w")
        await hub.client.call("keys.create", id="bob", scopes=["*"])
        await host.call_as(given, "dice.roll", {}, peer="w")
        await hub.client.call("keys.revoke", id="bob")
        with pytest.raises(Forbidden):
            host.acting(given)
        with pytest.raises(Forbidden):
            await host.call_as(given, "dice.roll", {}, peer="w")
        assert [row["outcome"] for row in await _rows(hub, "dice.roll")] == ["forbidden", "ok", "forbidden"]


async def test_the_local_caller_is_always_let_in_and_users_only_where_there_is_an_identity_provider(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    async with _host(tmp_path, parts):
        host: Host = parts["agent"].host
        assert host.acting(Caller(id="local", scopes=frozenset({"dice:*"}))).scopes == {"dice:*"}
        with pytest.raises(Forbidden):
            host.acting(Caller(id="user:ann", scopes=frozenset({"dice:*"})))
    async with _host(tmp_path, parts, auth={"enabled": False}):
        host = parts["agent"].host
        assert host.acting(Caller(id="user:ann", scopes=frozenset({"dice:*"}))).kind == "session"


async def test_calls_and_streams_in_a_keys_name_count_against_the_keys_limits(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    key = key_settings("ci", rate_limit="3/h", max_runs=1)
    async with _host(tmp_path, parts, key):
        host: Host = parts["agent"].host
        given = Caller(id="ci", scopes=frozenset({"dice:*"}))
        async with host.stream_as(given, "dice.count", {"to": 10**6}, peer="w") as events:
            assert await anext(aiter(events)) == 0
            with pytest.raises(RateLimited) as refused:
                async with host.stream_as(given, "dice.count", {"to": 1}, peer="w"):
                    pass
            assert refused.value.data["limit_of"] == "runs"
        await host.call_as(given, "dice.roll", {}, peer="w")
        with pytest.raises(RateLimited) as refused:
            await host.call_as(given, "dice.roll", {}, peer="w")
        assert refused.value.data["limit_of"] == "calls"


async def test_arguments_are_checked_and_a_durable_run_ends_with_its_reader(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    async with _host(tmp_path, parts) as hub:
        host: Host = parts["agent"].host
        given = Caller(id="local", scopes=frozenset({"dice:*"}))
        wrong: list[Any] = [{"sides": "six"}, {"edges": 1}, [1, 2], "six"]
        for params in wrong:
            with pytest.raises(CallError) as refused:
                await host.call_as(given, "dice.roll", params, peer="w")
            assert isinstance(refused.value, InvalidParams)
        async with host.stream_as(given, "dice.count", {"to": 3}, peer="w") as events:
            assert [event async for event in events][:3] == [0, 1, 2]
        async with host.stream_as(given, "dice.count", {"to": 10**6}, peer="w"):
            pass
        runs = await hub.client.call("rpc.subscriptions")
        assert sorted(run["outcome"] for run in runs) == ["cancelled", "complete"]


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ({"*"}, {"dice:read", "arbor:*"}, {"dice:read", "arbor:*"}),
        ({"dice:*"}, {"dice:read", "arbor:read"}, {"dice:read"}),
        ({"dice:*"}, {"*@red-*"}, {"dice:*@red-*"}),
        ({"dice:read"}, {"*@red-*", "dice:*@blue-*", "arbor:*"}, {"dice:read@red-*", "dice:read@blue-*"}),
        ({"dice:read@red-*"}, {"*@red-*"}, {"dice:read@red-*"}),
        ({"dice:read@red-*"}, {"dice:*"}, {"dice:read@red-*"}),
        ({"dice:read@red-*"}, {"dice:read@*-1"}, set()),
        (set(), {"*"}, set()),
    ],
)
def test_what_two_sets_of_scopes_allow_both(one: set[str], other: set[str], both: set[str]) -> None:
    assert scopes_in_both(frozenset(one), frozenset(other)) == both
    assert scopes_in_both(frozenset(other), frozenset(one)) == both
