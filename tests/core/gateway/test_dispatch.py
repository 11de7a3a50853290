"""The one door: scopes, deadlines, and nothing but a CallError comes back out."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.interfaces.door import Connection
from clonk_core.interfaces.runs import Following
from clonk_core.messages import Caller, Request
from clonk_core.plugin import Activation, Call, CallError, method
from clonk_core.testing.host import TestHost, open_host


class Slow(Activation):
    """Takes its time."""

    namespace = "slow"

    @method(scope="read", deadline_s=0.05)
    async def wait(self) -> str:
        """Wait much too long."""
        await trio.sleep(600)
        return "never"

    @method()
    async def write(self) -> str:
        """Write."""
        return "written"

    @method(public=True)
    async def greet(self) -> str:
        """Greet anybody."""
        return "hello"

    @method(durable=True)
    async def count(self, call: Call) -> AsyncIterator[int]:
        """Count three."""
        for number in range(3):
            yield number

    @method(durable=True)
    async def checked(self, count: int) -> AsyncIterator[int]:
        """Count, after a look at the number.

        Args:
            count: How far; not thirteen.
        """
        if count == 13:
            raise CallErrorOfOurs("not thirteen")

        async def numbers() -> AsyncIterator[int]:
            for number in range(count):
                yield number

        return numbers()


class CallErrorOfOurs(CallError):
    """An error straight below the root."""

    kind = "slow.thirteen"


@pytest.fixture
def activations() -> Any:
    return [Slow]


def _connection(*scopes: str) -> Connection:
    caller = Caller(id="someone", scopes=frozenset(scopes))
    return Connection(transport="inside", peer="test", id="conn_test", caller=caller)


async def _kind(host: TestHost, method_name: str, *scopes: str, **extra: Any) -> str:
    with pytest.raises(CallError) as caught:
        await host.dispatch(Request(method=method_name, id=1, **extra), _connection(*scopes))
    return caught.value.kind


async def test_a_missing_scope_is_forbidden_and_named(host: TestHost) -> None:
    with pytest.raises(CallError) as caught:
        await host.dispatch(Request(method="slow.write", id=1), _connection("slow:read", "other:*"))
    assert caught.value.kind == "forbidden"
    assert caught.value.data["scope"] == "slow:write"


@pytest.mark.parametrize("scope", ["slow:write", "slow:*", "*"])
async def test_a_scope_its_namespace_and_everything_let_in(host: TestHost, scope: str) -> None:
    await host.dispatch(Request(method="slow.write", id=1), _connection(scope))


async def test_a_public_method_needs_no_scope(host: TestHost) -> None:
    await host.dispatch(Request(method="slow.greet", id=1), _connection())


async def test_discovery_shows_a_caller_only_what_it_may_call(host: TestHost) -> None:
    names = {method.name for method in host.app.hub.methods(Caller(id="x", scopes=frozenset({"slow:read"})))}
    assert "slow.wait" in names
    assert "slow.write" not in names
    assert "rpc.discover" in names


async def test_a_call_that_takes_too_long_is_ended(host: TestHost) -> None:
    assert await _kind(host, "slow.wait", "*") == "deadline_exceeded"


async def test_an_unknown_method_tells_the_nearest(host: TestHost) -> None:
    with pytest.raises(CallError) as caught:
        await host.dispatch(Request(method="slow.wrte", id=1), _connection("*"))
    assert caught.value.kind == "method_not_found"
    assert caught.value.data["near"][0] == "slow.write"


async def test_a_streaming_method_is_refused_where_only_plain_ones_are_allowed(host: TestHost) -> None:
    assert await _kind(host, "slow.count", "*", plain_only=True) == "invalid_request"
    assert await host.client.call("rpc.subscriptions") == []


async def test_nobody_is_let_in_while_the_host_closes(host: TestHost) -> None:
    host.app.gateway.close()
    assert await _kind(host, "slow.greet", "*") == "unavailable"


async def test_what_a_coroutine_refuses_before_it_streams_is_the_calls_own_error(host: TestHost) -> None:
    assert await _kind(host, "slow.checked", "*", params={"count": 13}) == "slow.thirteen"
    assert await host.client.call("rpc.subscriptions") == []
    events = await host.client.events("slow.checked", count=2)
    assert events[:2] == [0, 1]
    assert events[-1]["outcome"] == "complete"


async def test_another_callers_run_needs_the_scope_of_its_method(host: TestHost) -> None:
    answer = await host.dispatch(Request(method="slow.count", id=1), _connection("*"))
    assert isinstance(answer, Following)
    params = {"subscription": answer.run.id}
    stranger = Connection(transport="inside", peer="x", id="c", caller=Caller(id="stranger", scopes=frozenset()))
    friend = Connection(
        transport="inside", peer="x", id="c", caller=Caller(id="friend", scopes=frozenset({"slow:count"}))
    )
    for name in ("rpc.resume", "rpc.cancel"):
        with pytest.raises(CallError) as caught:
            await host.dispatch(Request(method=name, params=params, id=1), stranger)
        assert caught.value.kind == "not_found"
    resumed = await host.dispatch(Request(method="rpc.resume", params=params, id=1), friend)
    assert isinstance(resumed, Following)


async def test_a_run_can_be_resumed_after_the_host_was_closed_and_opened_again(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", activations=[Slow]) as host:
        async with host.client.stream("slow.count") as stream:
            subscription = stream.subscription
            assert [event async for event in stream][-1][1]["type"] == "done"
    async with open_host(tmp_path / "data", activations=[Slow]) as host:
        async with host.client.stream("rpc.resume", subscription=subscription, after=2) as stream:
            assert [seq async for seq, _event in stream] == [3, 4]
        assert await _kind(host, "rpc.resume", "*", params={"subscription": subscription, "after": 99}) == (
            "invalid_params"
        )
        assert await _kind(host, "rpc.resume", "*", params={"subscription": "sub_nothing"}) == "not_found"
        (summary,) = await host.client.call("rpc.subscriptions")
        assert summary["subscription"] == subscription
        assert summary["outcome"] == "complete"


async def test_everything_logged_during_a_call_bears_its_request_id(host: TestHost) -> None:
    await host.client.call("slow.greet")
    async with host.client.stream("slow.count") as stream:
        assert [seq async for seq, _event in stream] == [1, 2, 3, 4]
    records = [json.loads(line) for line in host.log_text.splitlines()]
    calls = [record for record in records if record["event"] in ("request", "run started")]
    assert len(calls) == 3
    assert all(record["request_id"].startswith("req_") for record in calls)
    assert calls[1]["request_id"] == calls[2]["request_id"] != calls[0]["request_id"]


@pytest.mark.parametrize(("wanted", "told"), [("all", ["ok", "forbidden"]), ("failed", ["forbidden"]), ("none", [])])
async def test_each_request_is_a_line_of_the_log_where_that_is_wanted(
    tmp_path: Path, wanted: str, told: list[str]
) -> None:
    settings = {"logging": {"requests": wanted}}
    async with open_host(tmp_path / "data", activations=[Slow], settings=settings) as host:
        await host.client.call("slow.greet")
        assert await _kind(host, "slow.write") == "forbidden"
        records = [json.loads(line) for line in host.log_text.splitlines()]
    lines = [record for record in records if record["event"] == "request"]
    assert [line["outcome"] for line in lines] == told
    assert all(line["level"] == "info" and line["duration_ms"] >= 0 and line["peer"] for line in lines)
