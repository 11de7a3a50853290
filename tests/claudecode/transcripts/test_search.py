"""Search: what users type, what is found, in which sessions, and that the index keeps step."""

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import attrs
import pytest

from clonk_claudecode.exchange.query import fts_expression
from clonk_claudecode.messages import StoredSession
from clonk_claudecode.store import message_rows, search_rows, session_rows
from clonk_claudecode.testing.script import Rule, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.base import RemoteError
from clonk_core.client.http import HttpClient
from clonk_core.errors import CallError
from clonk_core.plugin import Database, InvalidParams
from clonk_core.storage.migrate import migrate, read_migrations
from clonk_core.storage.sqlite import open_sqlite
from clonk_core.testing.host import TestHost
from clonk_core.testing.serving import served
from tests.claudecode.transcripts.conftest import stored_session
from tests.core.gateway.guarded import guarded_in, key_settings, secret_of


async def say(database: Database, session: StoredSession, content: Any, role: str = "user") -> int:
    """Add a message to a session's history."""
    number = await database.run(
        message_rows.add_message,
        session_id=session.id,
        turn_id="sub_x",
        role=role,
        content=content,
        entry_uuid=None,
        tree_id=None,
        node_id=f"node_{content}"[:20],
        now=datetime.now(UTC),
    )
    assert number is not None
    return number


async def find(database: Database, query: str) -> list[int]:
    """The numbers of the messages found, in order."""
    hits = await database.read(search_rows.search, fts_expression(query), None, None, 100)
    return sorted(hit.seq for hit in hits)


SAID = ["the quick brown fox", "a quick blue fox-trot", "slow brown bear", "don't C++ $PATH: a/b.py"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("quick", [1, 2]),
        ("QUICK fox", [1, 2]),
        ("quick AND brown", [1]),
        ('"brown fox"', [1]),
        ('"fox brown"', []),
        ("fox-trot", [2]),
        ("bro*", [1, 3]),
        ('"quick bro"*', [1]),
        ("blue OR slow", [2, 3]),
        ("quick -brown", [2]),
        ("quick NOT brown", [2]),
        ("(blue OR slow) -fox", [3]),
        ("brown (quick OR slow)", [1, 3]),
        ("don't", [4]),
        ("C++", [4]),
        ("$PATH: a/b.py", [4]),
        ("text:quick", []),
        ("NEAR(quick fox)", []),
        ("quick *", [1, 2]),
        ("quick & fox", [1, 2]),
        ("_ quick", [1, 2]),
        ("quick ^fox", [1, 2]),
        ("quick\0fox", [1, 2]),
    ],
)
async def test_what_is_found(database: Database, session: StoredSession, query: str, found: list[int]) -> None:
    for text in SAID:
        await say(database, session, text)
    assert await find(database, query) == found


@pytest.mark.parametrize(
    "query",
    [
        *('"quick', 'quick "', "(quick", "quick)", "quick OR", "OR quick", "AND", "NOT quick", "-quick", "quick NOT"),
        *("quick AND", "()", "", "   ", "* *", "!!!", "a " * 65, "(" * 21 + "a" + ")" * 21),
    ],
)
def test_a_query_with_a_mistake_is_refused_with_its_path(query: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        fts_expression(query)
    assert caught.value.data["path"] == "$.query"


async def test_texts_and_the_beginning_of_what_tools_gave_are_searched(
    database: Database, session: StoredSession
) -> None:
    blocks = [
        {"type": "text", "text": "first"},
        {"type": "thinking", "thinking": "secretly"},
        {"type": "tool_use", "name": "Bash", "input": {"command": "commanded"}},
        {"type": "text", "text": "second"},
    ]
    await say(database, session, blocks, "assistant")
    results = [
        {"type": "tool_result", "content": "printed " + "x" * 20_000 + " toolate"},
        {"type": "tool_result", "content": [{"type": "text", "text": "inblock"}, {"type": "image", "source": {}}]},
    ]
    await say(database, session, results)
    await say(database, session, [])
    await say(database, session, {"type": "odd"})
    assert await find(database, "first second") == [1]
    assert await find(database, "printed inblock") == [2]
    for absent in ("secretly", "commanded", "toolate", "image"):
        assert await find(database, absent) == []


async def test_a_message_nested_beyond_measure_is_stored_and_not_searched(
    database: Database, session: StoredSession
) -> None:
    await say(database, session, "needle")
    nested = '[{"type":"text","text":"needle"},' + "[" * 1500 + "]" * 1500 + "]"  # SQLite reads a thousand levels
    change = "update messages set content = :content"
    await database.run(lambda transaction: transaction.all(change, {"content": nested}))
    assert await find(database, "needle") == []


async def test_the_index_goes_with_a_message_and_with_its_session(
    database: Database, session: StoredSession, tmp_path: Path
) -> None:
    await say(database, session, "needle one")
    await say(database, session, "needle two")
    change = "update messages set content = :content where seq = 1"
    await database.run(lambda transaction: transaction.all(change, {"content": json.dumps("thread")}))
    assert (await find(database, "needle"), await find(database, "thread")) == ([2], [1])
    await database.run(lambda transaction: transaction.all("delete from messages where seq = 2"))
    assert await find(database, "needle") == []
    await database.run(session_rows.delete_session, session.id)
    assert await find(database, "thread") == []
    check = "insert into message_search (message_search, rank) values ('integrity-check', 1)"
    await database.run(lambda transaction: transaction.all(check))


async def test_messages_of_an_earlier_version_are_indexed_when_it_is_upgraded(tmp_path: Path) -> None:
    plan = read_migrations("clonk_claudecode.migrations")
    number = next(one.number for one in plan.migrations if "message_search" in one.sql)
    path = tmp_path / "old.db"
    with closing(apsw.Connection(str(path))) as connection:
        migrate(connection, path, attrs.evolve(plan, migrations=plan.migrations[: number - 1]))
        connection.execute(
            "insert into sessions (id, name, claude_session_id, working_dir, model, permission_mode, created_at, "
            "last_active_at) values ('sess_1', 'one', 'u', '/', 'sonnet', 'default', '2026-01-01', '2026-01-01')"
        )
        for seq, content in enumerate(["needle", [{"type": "text", "text": "a needle"}], []], start=1):
            connection.execute(
                "insert into messages (session_id, seq, role, content, turn_id, created_at) "
                "values ('sess_1', ?, 'user', ?, 'sub_1', '2026-01-01')",
                (seq, json.dumps(content)),
            )
    async with open_sqlite(path, migrations=["clonk_claudecode.migrations"]) as database:
        assert await find(database, "needle") == [1, 2]


# ── through a hub ─────────────────────────────────────────────────────────────


async def _error(call: Any) -> CallError | RemoteError:
    with pytest.raises((CallError, RemoteError)) as caught:
        await call
    assert isinstance(caught.value, CallError | RemoteError)
    return caught.value


async def test_prompts_answers_and_results_are_found_with_where_they_are(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(Rule("zebra", [ToolUse("Bash", {"command": "echo giraffe", "description": "say"}), "an okapi answers"]))
    for name in ("one", "two"):
        await hub.client.call("claudecode.create", name=name, permission_mode="bypassPermissions")
    await hub.client.events("claudecode.chat", name="one", prompt="about the zebra in a long sentence")
    await hub.client.events("claudecode.chat", name="two", prompt="nothing of that, zebra, zebra, zebra")
    history = await hub.client.call("claudecode.history", name="one")
    for query, number, words in (("sentence", 1, "**sentence**"), ("giraffe", 3, "giraffe"), ("OKAPI", 4, "**okapi**")):
        hits = [hit for hit in await hub.client.call("claudecode.search", query=query) if hit["session"] == "one"]
        assert [(hit["seq"], hit["snapshot_id"]) for hit in hits] == [(number, history[number - 1]["snapshot_id"])]
        assert words in hits[0]["snippet"]
    both = await hub.client.call("claudecode.search", query="zebra")
    assert [hit["session"] for hit in both] == ["two", "one"]
    assert both[0]["score"] >= both[1]["score"]
    only = await hub.client.call("claudecode.search", query="zebra", name="one")
    assert [hit["session"] for hit in only] == ["one"]
    first = await hub.client.call("claudecode.search", query="zebra", limit=1)
    rest = await hub.client.call("claudecode.search", query="zebra", after=first[0]["cursor"])
    assert [*first, *rest] == both
    await hub.client.call("claudecode.delete", name="two")
    assert [hit["session"] for hit in await hub.client.call("claudecode.search", query="zebra")] == ["one"]


async def test_wrong_searches_are_refused(hub: TestHost) -> None:
    for params, path in (
        ({"query": '"open'}, "$.query"),
        ({"query": "x" * 1001}, "$.query"),
        ({"query": "x", "after": "somewhere"}, "$.after"),
        ({"query": "x", "after": "nan:1"}, "$.after"),
        ({"query": "x", "after": f"1.0:{2**70}"}, "$.after"),
        ({"query": "x", "limit": 101}, "$.limit"),
    ):
        error = await _error(hub.client.call("claudecode.search", **params))
        assert (error.kind, error.data["path"]) == ("invalid_params", path)
    assert (await _error(hub.client.call("claudecode.search", query="x", name="none"))).kind == "not_found"


async def test_a_narrowed_key_finds_only_what_it_may_reach(tmp_path: Path) -> None:
    folder = tmp_path / "guarded"
    folder.joinpath("data").mkdir(parents=True)
    async with open_sqlite(folder / "data" / "claudecode.db", migrations=["clonk_claudecode.migrations"]) as database:
        for name in ("ci-1", "ci-2", "private"):
            session = stored_session(name=name)
            assert await database.run(session_rows.insert_session, session)
            await say(database, session, "needle")
    keys = [key_settings("ci", ["claudecode:chat@ci-*"]), key_settings("none", ["arbor:read"])]
    async with guarded_in(folder)(*keys, packages=["claudecode"]) as host:
        async with served(host) as addresses:
            url = addresses.http.url("http")
            async with HttpClient(url, api_key=secret_of("ci")) as client:
                hits = await client.call("claudecode.search", query="needle")
                assert sorted(hit["session"] for hit in hits) == ["ci-1", "ci-2"]
                assert len(await client.call("claudecode.search", query="needle", name="ci-1")) == 1
                # What it may not reach looks like what is not there.
                for name in ("private", "absent"):
                    error = await _error(client.call("claudecode.search", query="needle", name=name))
                    assert error.kind == "not_found"
            async with HttpClient(url, api_key=secret_of("none")) as client:
                assert (await _error(client.call("claudecode.search", query="needle"))).kind == "forbidden"
