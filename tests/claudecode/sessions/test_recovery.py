"""A start after a crash: whatever step was the last to reach the disk, the history is whole and nothing is twice."""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.testing.host import TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]


class Disk:
    """The databases of a hub that is not running."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def change(self, database: str, *statements: str) -> None:
        """Have a database look as a crash would have left it."""
        with closing(sqlite3.connect(self._data_dir / f"{database}.db")) as connection, connection:
            connection.execute("pragma foreign_keys = on")
            for statement in statements:
                connection.execute(statement)

    def cut_run_before(self, kind: str) -> None:
        """Take the last event of that kind, and all behind it, out of the only run's log."""
        with closing(sqlite3.connect(self._data_dir / "clonk.db")) as connection, connection:
            chunks = connection.execute("select run_id, payloads from run_events order by first_seq").fetchall()
            lines = b"\n".join(bytes(chunk[1]).strip(b"\n") for chunk in chunks).split(b"\n")
            end = max(number for number, line in enumerate(lines) if f'"{kind}"'.encode() in line)
            kept = b"\n".join(lines[:end])
            connection.execute("delete from run_events")
            row = (chunks[0][0], 1, end, len(kept), kept)
            connection.execute("insert into run_events values (?, ?, ?, ?, ?)", row)
            connection.execute("update runs set state = 'running', outcome = null, ended_at = null")


@pytest.fixture
async def disk(open_hub: OpenHub, workspace: Path, tmp_path: Path) -> Disk:
    """After one whole turn, looking as if its end had not been noted."""
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="one")
        await hub.client.events("claudecode.chat", name="one", prompt="hello")
    disk = Disk(tmp_path / "data")
    disk.change("claudecode", "update turns set ended_at = null, outcome = null")
    return disk


async def _history(hub: TestHost) -> list[tuple[str, Any, bool]]:
    history = await hub.client.call("claudecode.history", name="one")
    assert [one["seq"] for one in history] == list(range(1, len(history) + 1))
    return [(one["role"], one["content"], one["partial"]) for one in history]


PROMPT = ("user", "hello", False)
ANSWER = ("assistant", [{"type": "text", "text": "You said: hello"}], False)
PARTIAL = ("assistant", [{"type": "text", "text": "You said: hello"}], True)


async def test_a_message_that_was_stored_before_its_event_is_there_once(open_hub: OpenHub, disk: Disk) -> None:
    disk.cut_run_before("assistant_message")
    async with open_hub() as hub:
        assert await _history(hub) == [PROMPT, ANSWER]


async def test_an_answer_of_which_only_pieces_were_shown_is_there_as_a_part(open_hub: OpenHub, disk: Disk) -> None:
    disk.cut_run_before("assistant_message")
    disk.change("claudecode", "delete from messages where role = 'assistant'", "update sessions set message_count = 1")
    for _start in range(2):
        async with open_hub() as hub:
            assert await _history(hub) == [PROMPT, PARTIAL]
    async with open_hub() as hub:
        events = await hub.client.events("claudecode.chat", name="one", prompt="again")
        ancestors = await hub.client.call("arbor.node_ancestors", node_id=events[-1]["snapshot_id"])
        assert any(node["content"].get("partial") for node in ancestors)


async def test_a_turn_whose_end_alone_was_not_noted_keeps_its_messages(open_hub: OpenHub, disk: Disk) -> None:
    async with open_hub() as hub:
        assert await _history(hub) == [PROMPT, ANSWER]


async def test_a_turn_of_which_nothing_was_stored_leaves_nothing(open_hub: OpenHub, disk: Disk) -> None:
    disk.change("claudecode", "delete from messages", "update sessions set message_count = 0, head_node_id = null")
    disk.change("clonk", "delete from run_events", "update runs set state = 'running', outcome = null, ended_at = null")
    async with open_hub() as hub:
        assert await _history(hub) == []
        events = await hub.client.events("claudecode.chat", name="one", prompt="again")
        assert events[-1]["outcome"] == "complete"


async def test_a_run_whose_log_was_dropped_harms_nothing(open_hub: OpenHub, disk: Disk) -> None:
    disk.change("clonk", "delete from run_events", "delete from runs")
    async with open_hub() as hub:
        assert await _history(hub) == [PROMPT, ANSWER]
        assert (await hub.client.call("claudecode.get", name="one"))["state"] == "parked"


async def test_without_arbor_a_cut_turn_is_closed_too(open_hub: OpenHub, disk: Disk) -> None:
    disk.cut_run_before("assistant_message")
    disk.change("claudecode", "delete from messages where role = 'assistant'", "update sessions set message_count = 1")
    async with open_hub(packages=["claudecode"]) as hub:
        assert await _history(hub) == [PROMPT, PARTIAL]


async def test_what_a_cut_turn_spent_is_read_from_its_run_once(open_hub: OpenHub, disk: Disk) -> None:
    disk.cut_run_before("done")
    disk.change("claudecode", "update turn_usage set ended_at = null, duration_ms = 0", "delete from model_usage")
    for _start in range(2):
        async with open_hub() as hub:
            (total,) = await hub.client.call("claudecode.usage")
            assert total["turns"] == 1
            assert total["input_tokens"] > 0
            assert total["output_tokens"] > 0
            (row,) = await hub.client.call("claudecode.usage", group_by="model")
            assert row["input_tokens"] == total["input_tokens"]


async def test_what_claude_has_said_behind_what_was_shown_comes_into_the_history(open_hub: OpenHub, disk: Disk) -> None:
    for _word in ("You", "said:", "hello"):
        disk.cut_run_before("text_delta")
    disk.change("claudecode", "delete from messages where role = 'assistant'", "update sessions set message_count = 1")
    for _start in range(2):
        async with open_hub() as hub:
            assert await _history(hub) == [PROMPT, ANSWER]
            session = await hub.client.call("claudecode.get", name="one")
            (*_, node) = await hub.client.call("arbor.node_path", node_id=session["snapshot_id"])
            assert (node["content"]["role"], node["content"]["content"]) == ("assistant", ANSWER[1])


async def test_what_was_shown_and_not_written_by_claude_is_known_to_the_next_prompt(
    open_hub: OpenHub, disk: Disk, model: ScriptedModel, tmp_path: Path
) -> None:
    disk.cut_run_before("done")
    # Nothing at all had reached the transcript.
    disk.change("claudecode", "delete from transcript_entries")
    for path in tmp_path.glob("data/claudecode/claude/projects/*/*.jsonl"):
        path.unlink()
    async with open_hub() as hub:
        assert await _history(hub) == [PROMPT, ANSWER]
        events = await hub.client.events("claudecode.chat", name="one", prompt="again")
        assert events[-1]["outcome"] == "complete"
    told = str(model.turns[-1].messages)
    assert "'hello'" in told
    assert "You said: hello" in told
