"""What turns spend is kept, added up, and limited by budgets."""

import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.clock import clock_text
from clonk_claudecode.metering.budgets import period_around
from clonk_claudecode.testing.script import Reply, ToolUse, Usage, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.errors import CallError
from clonk_core.testing.host import TestHost
from tests.claudecode.sessions.conftest import OpenHub
from tests.claudecode.sharing.conftest import ClientOf

USED = Usage(input_tokens=100, output_tokens=20, cache_read_input_tokens=7, cache_creation_input_tokens=3)
COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def _answer(text: str) -> Reply:
    return Reply(text, usage=USED)


def _counts(row: Any) -> tuple[int, ...]:
    return tuple(row[name] for name in COUNTS)


async def _usage(hub: TestHost, **params: Any) -> list[Any]:
    found: list[Any] = await hub.client.call("claudecode.usage", **params)
    return found


async def test_a_turns_usage_is_told_at_its_end_and_turns_add_up(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(_answer("One."), Reply([ToolUse("Bash", {"command": "true"})], usage=USED), _answer("Two."))
    await hub.client.call(
        "claudecode.create", name="w", working_dir=str(workspace), permission_mode="bypassPermissions"
    )
    first = (await hub.client.events("claudecode.chat", name="w", prompt="a"))[-1]["usage"]
    assert _counts(first) == (100, 20, 7, 3)
    assert first["cost_usd"] > 0
    assert first["tool_calls"] == 0
    assert first["duration_ms"] > 0
    assert [_counts(used) for used in first["models"]] == [(100, 20, 7, 3)]
    second = (await hub.client.events("claudecode.chat", name="w", prompt="b"))[-1]["usage"]
    assert (_counts(second), second["tool_calls"]) == ((200, 40, 14, 6), 1)
    assert second["cost_usd"] == pytest.approx(2 * first["cost_usd"])
    (total,) = await _usage(hub)
    assert (total["group"], total["turns"], total["tool_calls"]) == ("total", 2, 1)
    assert _counts(total) == (300, 60, 21, 9)
    assert total["cost_usd"] == pytest.approx(3 * first["cost_usd"])
    assert total["duration_ms"] == first["duration_ms"] + second["duration_ms"]


async def test_an_interrupted_turn_counts_and_is_not_counted_again_by_the_next(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(Reply(["Now ", Wait("gate"), "never."], usage=USED), _answer("Two."))
    await hub.client.call("claudecode.create", name="w", working_dir=str(workspace))
    last: Any = None
    async with hub.client.stream("claudecode.chat", name="w", prompt="a") as events:
        async for _, event in events:
            if event["type"] == "text_delta":
                await hub.client.call("claudecode.interrupt", name="w")
            last = event
    assert last["outcome"] == "cancelled"
    assert last["usage"]["input_tokens"] == 100
    done = (await hub.client.events("claudecode.chat", name="w", prompt="b"))[-1]
    assert _counts(done["usage"]) == (100, 20, 7, 3)
    (total,) = await _usage(hub)
    assert (total["turns"], total["input_tokens"]) == (2, 200)


async def test_a_resumed_conversation_does_not_count_what_was_spent_before(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    model.add(_answer("One."), _answer("Two."))
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="w", working_dir=str(workspace))
        await hub.client.events("claudecode.chat", name="w", prompt="a")
    async with open_hub() as hub:
        done = (await hub.client.events("claudecode.chat", name="w", prompt="b"))[-1]
        assert _counts(done["usage"]) == (100, 20, 7, 3)
        (total,) = await _usage(hub)
        assert (total["turns"], total["input_tokens"]) == (2, 200)


async def test_usage_is_grouped_by_session_caller_model_and_time_and_outlives_its_session(
    hub: TestHost, model: ScriptedModel, workspace: Path, client_of: ClientOf
) -> None:
    model.add(*[_answer(f"{number}.") for number in range(3)])
    for name, chosen in (("a-1", "sonnet"), ("b-1", "opus")):
        await hub.client.call("claudecode.create", name=name, working_dir=str(workspace), model=chosen)
    ann, bob = client_of(hub, "ann", "claudecode:*"), client_of(hub, "bob", "claudecode:chat")
    for client, name in ((ann, "a-1"), (bob, "a-1"), (bob, "b-1")):
        await client.events("claudecode.chat", name=name, prompt="go")
    await hub.client.call("claudecode.delete", name="b-1")
    groups = {
        grouping: {row["group"]: row["turns"] for row in await _usage(hub, group_by=grouping)}
        for grouping in ("session", "caller", "day", "month", "hour", "model")
    }
    assert groups["session"] == {"a-1": 2, "b-1": 1}
    assert groups["caller"] == {"ann": 1, "bob": 2}
    assert sorted(groups["model"].values()) == [1, 2]
    now = datetime.now(UTC)
    assert sum(groups["day"].values()) == sum(groups["hour"].values()) == sum(groups["month"].values()) == 3
    assert f"{now:%Y-%m}" in groups["month"]
    assert f"{now:%Y-%m-%dT%H}:00:00Z" in groups["hour"]
    assert [row["turns"] for row in await _usage(hub, caller="bob", session="a-1")] == [1]
    narrowed = client_of(hub, "eve", "claudecode:usage@a-*")
    assert [row["turns"] for row in await narrowed.call("claudecode.usage")] == [2]
    assert await _usage(hub, until=(now - timedelta(days=1)).isoformat()) == []


@pytest.mark.parametrize(
    "params",
    [
        {"group_by": "planet"},
        {"since": "2026-01-01T00:00:00"},
        {"since": "yesterday"},
        {"since": "0001-01-01T00:00:00+23:59"},
        {"until": "9999-12-31T23:59:59-23:59"},
        {"since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {"session": "with blank"},
        {"caller": "x" * 201},
    ],
)
async def test_what_cannot_be_added_up_is_an_error(hub: TestHost, params: dict[str, Any]) -> None:
    with pytest.raises(CallError) as refused:
        await hub.client.call("claudecode.usage", **params)
    assert refused.value.kind == "invalid_params"


async def test_a_budget_that_is_used_up_refuses_the_next_turn_and_says_until_when(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path, client_of: ClientOf
) -> None:
    model.add(_answer("One."), _answer("Two."))
    budgets = {"each_caller": {"period": "day", "tokens": 130}, "callers": {"bob": {"period": "ever", "tokens": 1000}}}
    async with open_hub(budgets=budgets) as hub:
        ann, bob = client_of(hub, "ann", "claudecode:*"), client_of(hub, "bob", "claudecode:chat")
        await ann.call("claudecode.create", name="w", working_dir=str(workspace))
        await ann.events("claudecode.chat", name="w", prompt="a")
        with pytest.raises(CallError) as refused:
            await ann.events("claudecode.chat", name="w", prompt="b")
        error = refused.value
        assert error.kind == "claudecode.budget_exhausted"
        assert 0 < error.data["retry_after_s"] <= 86_400
        assert len(model.requests) == 1
        (state,) = await ann.call("claudecode.budgets")
        assert (state["of"], state["spent_tokens"], state["limit_tokens"], state["exhausted"]) == (
            "ann",
            130,
            130,
            True,
        )
        assert (await bob.events("claudecode.chat", name="w", prompt="b"))[-1]["outcome"] == "complete"
        (state,) = await bob.call("claudecode.budgets")
        assert (state["spent_tokens"], state["resets_at"], state["exhausted"]) == (130, None, False)
    async with open_hub(budgets={"tenant": {"period": "month", "cost_usd": 0.000001}}) as hub:
        with pytest.raises(CallError) as refused:  # what was spent is known after a restart
            await client_of(hub, "carl", "claudecode:*").events("claudecode.chat", name="w", prompt="c")
        assert (refused.value.kind, refused.value.data["of"]) == ("claudecode.budget_exhausted", "tenant")


async def _is_exhausted(caller: Any) -> None:
    with pytest.raises(CallError) as refused:
        await caller.events("claudecode.chat", name="v", prompt="b")
    assert (refused.value.kind, refused.value.data["of"]) == ("claudecode.budget_exhausted", "ann")


async def test_what_a_token_of_a_session_spends_is_spent_by_who_gave_it_out(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path, client_of: ClientOf
) -> None:
    model.add(_answer("One."), _answer("Two."))
    async with open_hub(budgets={"each_caller": {"period": "day", "tokens": 130}}) as hub:
        ann = client_of(hub, "ann", "claudecode:*")
        for name in ("w", "v"):
            await ann.call("claudecode.create", name=name, working_dir=str(workspace))
        shares = [await ann.call("claudecode.share", name=name, access="chat") for name in ("w", "v")]
        guests = [client_of(hub, share["id"], "claudecode:chat") for share in shares]
        await guests[0].events("claudecode.chat", name="w", prompt="a")
        for caller in (ann, *guests):
            await _is_exhausted(caller)
        await ann.call("claudecode.delete", name="w")
        for caller in (ann, guests[1]):  # it stays spent
            await _is_exhausted(caller)
        assert [row["group"] for row in await ann.call("claudecode.usage", group_by="caller")] == [shares[0]["id"]]
        assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("moment", "period", "begin", "end"),
    [
        ("2026-12-31T23:59:59", "day", "2026-12-31T00:00:00", "2027-01-01T00:00:00"),
        ("2026-12-31T23:59:59", "month", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("2028-02-29T12:00:00", "month", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        ("2028-02-29T12:00:00", "ever", "1970-01-01T00:00:00", None),
    ],
)
def test_periods_are_those_of_the_calendar_in_utc(moment: str, period: Any, begin: str, end: str | None) -> None:
    def utc(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    assert period_around(utc(moment), period) == (utc(begin), end and utc(end))


FILL = """
with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 5000)
insert into turn_usage (turn_id, session_id, session, caller, began_at, ended_at, tool_calls, duration_ms)
select 'sub_' || n, 'sess_' || n, 's' || n, 'local', :now, :now, 1, 2 from numbers"""


async def test_the_sum_of_thousands_of_sessions_is_not_added_up_where_everybody_waits_for_it(
    hub: TestHost, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "data" / "claudecode.db")) as connection, connection:
        connection.execute(FILL, {"now": clock_text(datetime.now(UTC))})
    await _usage(hub)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)  # of this thread, and no thread of the database
    try:
        (total,) = await _usage(hub)
    finally:
        sys.setprofile(None)
    assert (total["turns"], total["tool_calls"], total["duration_ms"]) == (5000, 5000, 10_000)
    assert calls < 5000
