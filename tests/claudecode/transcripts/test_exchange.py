"""Export and import: out in three formats, in from a transcript, and a session that goes there and back."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_claudecode.exchange.export import PIECE_CHARS
from clonk_claudecode.exchange.parse import conversation, read_transcript
from clonk_claudecode.testing.script import Reply, Rule, Text, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.errors import CallError
from clonk_core.plugin import InvalidParams
from clonk_core.testing.host import TestHost
from clonk_core.testing.serving import served

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]

LOCAL = "0b39a1d2-5b2f-4c3e-9a77-0123456789ab"


async def chat(hub: TestHost, name: str, prompt: str) -> None:
    events = await hub.client.events("claudecode.chat", name=name, prompt=prompt)
    assert events[-1]["outcome"] == "complete", events[-1]


async def exported(hub: TestHost, name: str, **params: Any) -> str:
    events = await hub.client.events("claudecode.export", name=name, **params)
    assert [event["type"] for event in events] == ["export_delta"] * (len(events) - 1) + ["done"]
    assert events[-1]["outcome"] == "complete"
    assert all(len(event["text"]) <= PIECE_CHARS for event in events[:-1])
    return "".join(event["text"] for event in events[:-1])


async def _error(call: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


def message(uuid: str, parent: str | None, text: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    """An entry of a transcript as Claude Code writes it."""
    return {
        "parentUuid": parent,
        "isSidechain": False,
        "type": role,
        "message": {"role": role, "content": text, **more.pop("inner", {})},
        "uuid": uuid,
        "timestamp": f"2026-01-02T03:04:{len(uuid):02}.500Z",
        "sessionId": LOCAL,
        "cwd": "/srv/project",
        **more,
    }


def lines(*entries: Any) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


# ── export ────────────────────────────────────────────────────────────────────


@pytest.fixture
async def told(hub: TestHost, model: ScriptedModel, workspace: Path) -> TestHost:
    """A hub with a session that used a tool."""
    write = ToolUse("Bash", {"command": "printf '\\033[31m```red'", "description": "paint"})
    model.add(
        Rule("paint", [Reply(["I shall **paint**.", write]), "done"]), Rule("long", [Text("word " * 30_000, deltas=3)])
    )
    await hub.client.call(
        "claudecode.create", name="one", working_dir=str(workspace), permission_mode="bypassPermissions"
    )
    await chat(hub, "one", "please paint")
    return hub


async def test_markdown_is_for_people(told: TestHost) -> None:
    text = await exported(told, "one")
    assert text.startswith("# one\n\n- Session: `sess_")
    assert [line.split(" (")[0] for line in text.splitlines() if line.startswith("## ")] == [
        "## 1. User",
        "## 2. Claude",
        "## 3. Claude",
        "## 4. Tool result",
        "## 5. Claude",
    ]
    assert "\nplease paint\n" in text
    assert "**Tool:** `Bash`\n\n````json\n{\n" in text
    # What the tool printed is between longer fences, and paints no terminal.
    assert "\n````\n\N{REPLACEMENT CHARACTER}[31m```red\n````\n" in text


async def test_json_has_the_session_and_its_history(told: TestHost) -> None:
    document = json.loads(await exported(told, "one", format="json"))
    assert (document["format"], document["version"]) == ("clonk.session", 1)
    session = await told.client.call("claudecode.get", name="one")
    assert {key: session[key] for key in document["session"]} == document["session"]
    history = await told.client.call("claudecode.history", name="one")
    assert [dict(one, created_at=None) for one in document["messages"]] == [
        dict(one, created_at=None) for one in history
    ]


async def test_jsonl_is_the_transcript_as_claude_code_wrote_it(told: TestHost, tmp_path: Path) -> None:
    await chat(told, "one", "long")
    text = await exported(told, "one", format="jsonl")
    assert len(text) > 2 * PIECE_CHARS
    (file,) = (tmp_path / "data").glob("**/projects/*/*.jsonl")
    written = [line for line in file.read_text().splitlines() if '"type":"api-request' not in line]
    assert text.splitlines() == written


async def test_a_session_without_messages_exports_too(hub: TestHost) -> None:
    await hub.client.call("claudecode.create", name="one")
    assert (await exported(hub, "one")).startswith("# one\n")
    assert json.loads(await exported(hub, "one", format="json"))["messages"] == []
    assert await exported(hub, "one", format="jsonl") == ""
    assert (await _error(hub.client.events("claudecode.export", name="none"))).kind == "not_found"
    assert (await _error(hub.client.events("claudecode.export", name="one", format="pdf"))).kind == "invalid_params"


# ── import ────────────────────────────────────────────────────────────────────


async def test_an_imported_session_goes_on_with_what_was_said(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    blocks = [{"type": "text", "text": "4711, noted"}]
    transcript = lines(
        {"type": "file-history-snapshot", "messageId": "u1", "snapshot": {"deep": [1.5]}},
        message("u1", None, "remember the number 4711"),
        message("u22", "u1", blocks, "assistant", inner={"id": "msg_1", "type": "message", "model": "sonnet"}),
        {"type": "a-type-of-tomorrow", "sessionId": LOCAL, "more": {"x": [None, True]}},
    )
    made = await hub.client.call(
        "claudecode.import", name="mine", transcript=transcript, working_dir=str(workspace), model="haiku"
    )
    assert (made["message_count"], made["entry_count"], made["model"]) == (2, 4, "haiku")
    history = await hub.client.call("claudecode.history", name="mine")
    assert [(one["role"], one["content"]) for one in history] == [
        ("user", "remember the number 4711"),
        ("assistant", blocks),
    ]
    assert history[0]["created_at"].startswith("2026-01-02T03:04:02.5")
    assert history[-1]["snapshot_id"] == made["snapshot_id"]
    path = await hub.client.call("arbor.node_ancestors", node_id=made["snapshot_id"])
    assert [node["content"]["entry_uuid"] for node in path] == ["u1"]
    assert [hit["session"] for hit in await hub.client.call("claudecode.search", query="4711 noted")] == ["mine"]
    await chat(hub, "mine", "which number?")
    seen = str(model.turns[-1].body["messages"])
    assert "remember the number 4711" in seen
    assert "4711, noted" in seen
    session = await hub.client.call("claudecode.get", name="mine")
    kept = [json.loads(line) for line in (await exported(hub, "mine", format="jsonl")).splitlines()]
    # As they were, but for whose they are.
    given = [json.loads(line) for line in transcript.splitlines()]
    own = {"sessionId": session["claude_session_id"]}
    assert kept[:4] == [{**entry, **(own if "sessionId" in entry else {})} for entry in given]
    assert session["claude_session_id"] != LOCAL


async def test_a_session_goes_out_and_comes_back_with_its_subagents(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path, remove_transcripts: Callable[[], int]
) -> None:
    task = ToolUse("Task", {"description": "look", "prompt": "look around", "subagent_type": "general-purpose"})
    model.add(Rule("delegate", [task, "delegated"]), Rule("look around", ["I looked"]))
    async with open_hub() as hub:
        await hub.client.call(
            "claudecode.create", name="one", working_dir=str(workspace), permission_mode="bypassPermissions"
        )
        await chat(hub, "one", "delegate it, 4711")
        await chat(hub, "one", "and now?")
    async with open_hub() as hub:
        text = await exported(hub, "one", format="jsonl", subagents=True)
        assert '{"type":"clonk-subagent","path":"subagents/agent-' in text
        assert (await exported(hub, "one", format="jsonl")) == text[: text.index('{"type":"clonk-subagent"')]
        made = await hub.client.call("claudecode.import", name="two", transcript=text, working_dir=str(workspace))
        assert made["entry_count"] == len(text.splitlines()) - 1
        again = await exported(hub, "two", format="jsonl", subagents=True)
        ids = [(await hub.client.call("claudecode.get", name=name))["claude_session_id"] for name in ("one", "two")]
        assert [json.loads(line) for line in again.splitlines()] == [
            json.loads(line) for line in text.replace(f'"sessionId":"{ids[0]}"', f'"sessionId":"{ids[1]}"').splitlines()
        ]
        shown = [
            [(one["role"], one["content"]) for one in await hub.client.call("claudecode.history", name=name)]
            for name in ("one", "two")
        ]
        # And what the binary said to itself between turns, which a history made live leaves out.
        assert all(one in shown[1] for one in shown[0])
        await chat(hub, "two", "still there?")
        assert "4711" in str(model.turns[-1].body["messages"])


WRONG = [
    ("{", "line 1"),
    (lines(message("u1", None, "x")) + "\n[]\n", "line 3"),
    (lines(message("u1", None, "x"), {"no": "type"}), "line 2"),
    (lines({"type": ""}), "line 1"),
    (lines({"type": "user", "uuid": "u1"}), "line 1"),
    (lines({**message("u1", None, "x"), "uuid": None}), "line 1"),
    (lines({**message("u1", None, "x"), "uuid": 7}), "line 1"),
    (lines({**message("u1", None, "x"), "uuid": "u" * 201}), "line 1"),
    (lines(message("u1", None, 7)), "line 1"),
    (lines(message("u1", None, ["x"])), "line 1"),
    (lines(message("u1", None, "x", "system")).replace('"type": "system"', '"type": "user"'), "line 1"),
    ('{"type":"user","uuid":"u1","n":NaN}', "line 1"),
    ('{"type":"x","deep":' + "[" * 5000 + "]" * 5000 + "}", "line 1"),
    (lines(message("u1", None, "x"), {"type": "clonk-subagent", "path": "../../etc"}), "line 2"),
    (lines(message("u1", None, "x"), {"type": "clonk-subagent", "path": "subagents/../../x"}), "line 2"),
    (lines(message("u1", None, "x"), *[{"type": "clonk-subagent", "path": "subagents/agent-a"}] * 2), "line 3"),
    (lines({"type": "summary", "summary": "x"}), "no message"),
    (lines(message("u1", None, "x", isSidechain=True)), "no message"),
    ("\n \n", "no message"),
]


@pytest.mark.parametrize(("transcript", "told"), WRONG)
def test_a_transcript_with_a_mistake_is_refused_with_its_line(transcript: str, told: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        read_transcript(transcript, LOCAL)
    assert told in caught.value.message
    assert caught.value.data["path"] == "$.transcript"


async def test_an_import_that_is_refused_leaves_nothing(hub: TestHost, tmp_path: Path, workspace: Path) -> None:
    good = lines(message("u1", None, "x"))
    await hub.client.call("claudecode.create", name="taken")
    folders = set((tmp_path / "data" / "workspaces").glob("*"))
    for params, kind in (
        ({"name": "taken", "transcript": good}, "conflict"),
        ({"name": "new", "transcript": "{"}, "invalid_params"),
        ({"name": "new", "transcript": ""}, "invalid_params"),
        ({"name": "new", "transcript": good, "working_dir": "/etc"}, "invalid_params"),
        ({"name": "new", "transcript": 7}, "invalid_params"),
        ({"name": "no/name", "transcript": good}, "invalid_params"),
    ):
        assert (await _error(hub.client.call("claudecode.import", **params))).kind == kind
    assert [one["name"] for one in await hub.client.call("claudecode.list")] == ["taken"]
    assert set((tmp_path / "data" / "workspaces").glob("*")) == folders


async def test_of_many_imports_under_one_name_one_succeeds(hub: TestHost) -> None:
    kinds: list[str] = []

    async def bring() -> None:
        try:
            await hub.client.call("claudecode.import", name="wanted", transcript=lines(message("u1", None, "x")))
            kinds.append("imported")
        except CallError as error:
            kinds.append(error.kind)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(bring)
    assert sorted(kinds) == ["conflict"] * 4 + ["imported"]
    assert len(await hub.client.call("claudecode.history", name="wanted")) == 1


# ── which messages are the conversation ───────────────────────────────────────


def uuids(*entries: dict[str, Any]) -> list[str]:
    return [entry["uuid"] for entry in conversation(list(entries))]


def test_a_branch_that_was_left_is_no_part_of_the_conversation() -> None:
    assert uuids(
        message("q1", None, "one"),
        message("a1", "q1", "first", "assistant"),
        message("q2", "a1", "left behind"),
        message("a2", "q2", "left behind too", "assistant"),
        message("q3", "a1", "asked anew"),
    ) == ["q1", "a1", "q3"]


def test_what_came_before_a_compaction_is_part_of_it() -> None:
    boundary = {"type": "system", "subtype": "compact_boundary", "uuid": "c", "parentUuid": None}
    assert uuids(
        message("q1", None, "one"),
        {**boundary, "logicalParentUuid": "q1"},
        message("s", "c", "This session continues", isCompactSummary=True),
        message("q2", "s", "two"),
    ) == ["q1", "s", "q2"]


def test_tools_used_at_the_same_time_are_part_of_it_with_their_results() -> None:
    def use(uuid: str, parent: str) -> dict[str, Any]:
        blocks = [{"type": "tool_use", "id": f"t-{uuid}", "name": "Bash", "input": {}}]
        return message(uuid, parent, blocks, "assistant", inner={"id": "msg_1"})

    def result(uuid: str, parent: str) -> dict[str, Any]:
        return message(uuid, parent, [{"type": "tool_result", "tool_use_id": f"t-{parent}", "content": "x"}])

    assert uuids(
        message("q", None, "go"),
        use("a", "q"),
        use("b", "a"),
        result("ra", "a"),
        result("rb", "b"),
        message("z", "rb", "done", "assistant"),
    ) == ["q", "a", "b", "ra", "rb", "z"]


def test_notes_subagents_doubles_and_circles_are_passed_over() -> None:
    assert uuids(
        message("q", "z", "go"),
        message("meta", "q", "a caveat", isMeta=True),
        message("side", "q", "inside", isSidechain=True),
        message("z", "meta", "done", "assistant"),
        message("z", "meta", "done", "assistant"),
    ) == ["q", "z"]


# ── the command line ──────────────────────────────────────────────────────────


async def test_the_command_line_exports_and_imports(told: TestHost, tmp_path: Path, workspace: Path) -> None:
    async with served(told) as addresses:
        environ = {**os.environ, "CLONK_URL": addresses.http.url("http")}

        async def clonk(*arguments: str) -> subprocess.CompletedProcess[bytes]:
            command = [str(Path(sys.executable).with_name("clonk")), *arguments]
            return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, env=environ)

        markdown = await clonk("export", "one")
        assert (markdown.returncode, markdown.stdout.decode()) == (0, await exported(told, "one"))
        jsonl = await clonk("export", "one", "--format", "jsonl")
        file = tmp_path / "one.jsonl"
        file.write_bytes(jsonl.stdout)
        made = await clonk("import", str(file), "--name", "two", "--working-dir", str(workspace))
        assert (made.returncode, made.stdout.split(b":")[0]) == (0, b"two")
        for arguments, code, said in (
            (("import", str(file), "--name", "two"), 1, b"two"),
            (("import", str(tmp_path / "none"), "--name", "x"), 2, b"cannot be read"),
            (("export", "one", "--url", "http://127.0.0.1:1"), 3, b"clonk serve"),
        ):
            refused = await clonk(*arguments)
            assert (refused.returncode, said in refused.stderr) == (code, True), refused
