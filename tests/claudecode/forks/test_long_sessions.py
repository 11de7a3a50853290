"""Forks of forks of forks, at every message of a long session."""

import json
from pathlib import Path
from typing import Any

import pytest

TURNS = 30
LEAF_ENTRIES = ("user", "assistant")


def conversation(transcript: Path) -> list[tuple[str, Any]]:
    """What a transcript of the binary's says: who, and what."""
    entries = [json.loads(line) for line in transcript.read_text().splitlines()]
    return [(entry["type"], entry["message"]["content"]) for entry in entries if entry["type"] in LEAF_ENTRIES]


@pytest.mark.deadline(180)
async def test_a_fork_of_a_fork_of_a_fork_at_every_message_of_thirty_turns(talk: Any, tmp_path: Path) -> None:
    await talk.create()
    for number in range(TURNS):
        await talk.say(f"prompt {number}")
    history = await talk.history()
    assert len(history) == 2 * TURNS
    said = [(one["role"], one["content"]) for one in history]
    projects = tmp_path / "data/claudecode/claude/projects"

    for number, message in enumerate(history, start=1):
        fork: Any = None
        for parent, name in (("one", "child"), ("child", "grandchild"), ("grandchild", f"at-{number}")):
            fork = await talk.call("fork", name=parent, snapshot_id=message["snapshot_id"], new_name=name)
            assert fork["message_count"] == number
        await talk.call("delete", name="grandchild")
        await talk.call("delete", name="child")
        assert await talk.history(f"at-{number}") == history[:number]
        (transcript,) = projects.glob(f"*/{fork['claude_session_id']}.jsonl")
        assert conversation(transcript) == said[:number]
        assert (await talk.call("get", name="one"))["tree_id"] == fork["tree_id"]

    await talk.call("delete", name="one")
    for number in (1, 30, 59):
        told = await talk.told("and now", f"at-{number}")
        expected: list[tuple[str, str]] = []
        for role, content in said[:number]:
            expected.append((role, content if isinstance(content, str) else content[0]["text"]))
        closed = [("assistant", "No response requested.")] if number % 2 else []
        assert told == [*expected, *closed, ("user", "and now")]


async def test_rewinds_upon_rewinds_keep_every_way_the_conversation_went(talk: Any) -> None:
    await talk.create()
    for number in range(4):
        await talk.say(f"a{number}")
    trunk = await talk.history()
    ways = [trunk]
    for cut, word in ((6, "b"), (4, "c"), (2, "d"), (1, "e")):
        current = await talk.history()
        await talk.call("rewind", name="one", snapshot_id=current[cut - 1]["snapshot_id"])
        if word != "d":
            await talk.say(f"{word}0")
        ways.append(await talk.history())
    for number, way in enumerate(ways):
        fork = await talk.call("fork", name="one", snapshot_id=way[-1]["snapshot_id"], new_name=f"way-{number}")
        assert await talk.history(f"way-{number}") == way, number
        assert fork["message_count"] == len(way)
    for way in ways:
        await talk.call("rewind", name="one", snapshot_id=way[-1]["snapshot_id"])
        assert await talk.history() == way
    told = await talk.told("end", "one")
    assert [text for role, text in told if role == "user"] == ["a0", "e0", "end"]
