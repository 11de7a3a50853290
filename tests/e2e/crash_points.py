"""One scripted turn with a tool and a permission, stopped at any of its events; and whether all agree on it."""

import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import psutil
import trio

from clonk_claudecode.testing.conversation import RecordedRequest
from clonk_claudecode.testing.script import Reply, Rule, Text, ToolUse, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.base import Client, RemoteError
from tests.e2e.day import git

EVENTS = (
    "started",
    "text_delta",
    "assistant_message",
    "tool_use",
    "usage",
    "permission_request",
    "permission_resolved",
    "tool_result",
    "text_delta",
    "assistant_message",
    "usage",
    "done",
)
"""What a client sees of the turn, in this order."""

HELD = {1: "asked", 2: "looked", 8: "used", 9: "told"}
"""The gate of the model that is shut when the turn is stopped at an event of this number."""

TOOL_RUNS = 7
"""At this event the tool has begun, and goes on as long as a file is there."""

HOLD = "hold"
COMMAND = f"echo done > done.txt; while test -e {HOLD}; do sleep 0.01; done"


def script() -> Rule:
    """What Claude says and does."""

    def gate(request: RecordedRequest, name: str) -> Wait:
        return Wait(f"{Path(request.working_dir or '').name} {name}")

    def look(request: RecordedRequest) -> Reply:
        text = Text("I look. ", deltas=1)
        return Reply([gate(request, "asked"), text, gate(request, "looked"), ToolUse("Bash", {"command": COMMAND})])

    def tell(request: RecordedRequest) -> Reply:
        return Reply([gate(request, "used"), Text("It is done.", deltas=1), gate(request, "told")])

    return Rule("^go$", [look, tell])


@attrs.define
class Stopped:
    """A session whose second turn is stopped at an event.

    Attributes:
        name: Its name, and that of its folder.
        number: Of the event, from 1.
        repo: Where it works.
        subscription: The turn.
        shown: What a client has seen of it.
        before: What the turn before it has spent.
    """

    name: str
    number: int
    repo: Path
    subscription: str = ""
    shown: list[Any] = attrs.field(factory=list)
    before: Any = None

    @asynccontextmanager
    async def turn(self, client: Client, model: ScriptedModel) -> AsyncIterator[AsyncIterator[Any]]:
        """Talk to it up to the event; gives what comes behind it."""
        self.repo.mkdir()
        git(self.repo, "init", "-q", "-b", "main")
        if self.number == TOOL_RUNS:
            (self.repo / HOLD).touch()
        for number, name in HELD.items():
            if number != self.number:
                model.release(f"{self.name} {name}")
        await client.call("claudecode.create", name=self.name, working_dir=str(self.repo))
        self.before = (await client.events("claudecode.chat", name=self.name, prompt="before"))[-1]["usage"]
        async with client.stream("claudecode.chat", name=self.name, prompt="go") as stream:
            self.subscription = stream.subscription
            while len(self.shown) < self.number:
                _, event = await stream.next()
                self.shown.append(event)
                assert event["type"] == EVENTS[len(self.shown) - 1], self.shown
                if event["type"] == "permission_request" and self.number != len(self.shown):
                    await client.call("claudecode.permit", request_id=event["request_id"], decision="allow")
            if self.number == TOOL_RUNS:
                await _wait_for((self.repo / "done.txt").exists)

            async def rest() -> AsyncIterator[Any]:
                async for _, event in stream:
                    yield event

            yield rest()

    def kill_binary(self) -> None:
        """Kill the session's process."""
        (process,) = [one for one in _processes_in(self.repo) if "--input-format" in one.cmdline()]
        process.send_signal(signal.SIGKILL)

    # ── Afterwards ────────────────────────────────────────────────────────────

    async def check_run(self, client: Client, kind: str) -> None:
        """The run shows what was shown, and has ended as it must."""
        async with client.resume(self.subscription, after=0) as stream:
            events = [(seq, event) async for seq, event in stream]
        assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
        told = [event for _, event in events]
        assert told[: len(self.shown)] == self.shown
        assert [event["type"] for event in told].count("done") == 1
        if self.shown[-1]["type"] != "done" and told[-1]["outcome"] != "complete":
            assert (told[-1]["outcome"], told[-1]["error"]["data"]["kind"]) == ("failed", kind)
        self.shown = told

    async def check_all_agree(self, client: Client, turns: int) -> None:
        """History, tree, transcript, checkpoint and metering agree, and nothing waits or runs."""
        session = await client.call("claudecode.get", name=self.name)
        assert (session["waiting"], session["subscription"]) == ([], None)
        assert session["state"] != "busy"
        history = await client.call("claudecode.history", name=self.name)
        self._check_history(session, history)
        await self._check_tree(client, session, history)
        await self._check_checkpoints(client, history, turns)
        await self._check_usage(client, turns)
        await self._check_permissions(client)

    def _check_history(self, session: Any, history: list[Any]) -> None:
        assert [one["seq"] for one in history] == list(range(1, len(history) + 1))
        assert (session["message_count"], session["snapshot_id"]) == (len(history), history[-1]["snapshot_id"])
        mine = [one for one in history if one["subscription"] == self.subscription]
        told: dict[str, list[Any]] = {"text": [], "tool_use": [], "tool_result": []}
        for block in (block for one in mine[1:] for block in one["content"]):
            told[block["type"]].append(block)
        assert (mine[0]["role"], mine[0]["content"]) == ("user", "go")
        shown = "".join(event["text"] for event in self.shown if event["type"] == "text_delta")
        said = "".join(block["text"] for block in told["text"])
        assert said.startswith(shown)
        assert [event["tool_use_id"] for event in self.shown if event["type"] == "tool_use"] in (
            [block["id"] for block in told["tool_use"]],
            [],
        )
        for event in self.shown:
            if event["type"] == "tool_result":
                assert [block["tool_use_id"] for block in told["tool_result"]] == [event["tool_use_id"]]

    async def _check_tree(self, client: Client, session: Any, history: list[Any]) -> None:
        path = await client.call("arbor.node_path", node_id=session["snapshot_id"])
        assert [node["id"] for node in path] == [one["snapshot_id"] for one in history]
        assert [(node["content"]["role"], node["content"]["content"]) for node in path] == [
            (one["role"], one["content"]) for one in history
        ]
        leaves = await client.call("arbor.context_leaves", tree_id=session["tree_id"])
        assert [leaf["node_id"] for leaf in leaves] == [session["snapshot_id"]]
        said = [node["content"] for node in path if not node["content"].get("partial")]
        entries = [entry for entry in await self._transcript(client) if not _closes(entry)]
        assert [(entry["uuid"], entry["type"]) for entry in entries] == [
            (one["entry_uuid"], one["role"]) for one in said
        ]
        for entry, one in zip(entries, said, strict=True):
            assert entry["message"]["content"] == one["content"]

    async def _transcript(self, client: Client) -> list[Any]:
        """The conversation as Claude Code has it, from the first message to the last."""
        events = await client.events("claudecode.export", name=self.name, format="jsonl")
        entries = [json.loads(line) for line in "".join(event["text"] for event in events[:-1]).splitlines()]
        by_id = {entry["uuid"]: entry for entry in entries if "uuid" in entry}
        said = [entry for entry in by_id.values() if entry["type"] in ("user", "assistant")]
        found, at = [], said[-1]["uuid"] if said else None
        while at is not None:
            if by_id[at]["type"] in ("user", "assistant"):
                found.append(by_id[at])
            at = by_id[at]["parentUuid"]
        return found[::-1]

    async def _check_checkpoints(self, client: Client, history: list[Any], turns: int) -> None:
        checkpoints = await client.call("claudecode.checkpoints", name=self.name)
        assert [one["kind"] for one in checkpoints] == ["turn"] * turns
        assert checkpoints[1]["subscription"] == self.subscription
        last = {one["subscription"]: one["snapshot_id"] for one in history}
        assert {one["subscription"]: one["snapshot_id"] for one in checkpoints} == last
        for one in checkpoints:
            assert git(self.repo, "rev-parse", one["ref"]) == one["commit"]
        recorded = git(self.repo, "ls-tree", "-r", "--name-only", checkpoints[-1]["commit"]).split()
        assert recorded == sorted(path.name for path in self.repo.iterdir() if path.is_file())
        for name in recorded:
            assert (
                git(self.repo, "show", f"{checkpoints[-1]['commit']}:{name}") == (self.repo / name).read_text().strip()
            )

    async def _check_usage(self, client: Client, turns: int) -> None:
        (spent,) = await client.call("claudecode.usage", session=self.name)
        assert spent["turns"] == turns
        if turns == 2:
            whole = self.shown[-1].get("usage")
            pieces = [event for event in self.shown if event["type"] == "usage"] if whole is None else [whole]
            for count in ("input_tokens", "output_tokens"):
                assert spent[count] == self.before[count] + sum(piece[count] for piece in pieces)

    async def _check_permissions(self, client: Client) -> None:
        assert await client.call("claudecode.permissions", name=self.name) == []
        asked = [event["request_id"] for event in self.shown if event["type"] == "permission_request"]
        kept = await client.call("claudecode.permissions", name=self.name, state="any")
        assert {one["request_id"] for one in kept} >= set(asked)
        for one in kept:
            try:
                await client.call("claudecode.permit", request_id=one["request_id"], decision="deny")
            except RemoteError as error:
                assert error.kind == "claudecode.permission_resolved"  # noqa: PT017 - of several
            else:
                raise AssertionError("it could be answered")

    async def check_next_chat(self, client: Client, model: ScriptedModel) -> None:
        """The session goes on, and the model is told what the history says."""
        history = await client.call("claudecode.history", name=self.name)
        (self.repo / HOLD).unlink(missing_ok=True)
        events = await client.events("claudecode.chat", name=self.name, prompt="and now")
        assert events[-1]["outcome"] == "complete", events[-1]
        messages = [turn for turn in model.turns if Path(turn.working_dir or "").name == self.name][-1].messages
        blocks = [block for message in messages if isinstance(message["content"], list) for block in message["content"]]
        used = [block["id"] for block in blocks if block["type"] == "tool_use"]
        assert used == [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        told = [block for block in blocks if block["type"] == "tool_use"] + _texts(messages)
        for one in (one for one in history if not one["partial"]):
            for block in [one["content"]] if isinstance(one["content"], str) else one["content"]:
                if isinstance(block, str):
                    assert block in told
                elif block["type"] == "tool_result":
                    assert any(known.get("content") == block["content"] for known in blocks)
                else:
                    assert block.get("text", block) in told


def _closes(entry: Any) -> bool:
    """Whether the binary has written an entry by itself when it took up a turn that was cut off."""
    content = entry["message"]["content"]
    is_result = isinstance(content, list) and content[0]["type"] == "tool_result"
    return entry["message"].get("model") == "<synthetic>" or (
        is_result and "[Tool call interrupted" in str(content[0]["content"])
    )


def _texts(messages: list[Any]) -> list[Any]:
    return [
        block if isinstance(block, str) else block.get("text")
        for message in messages
        for block in ([message["content"]] if isinstance(message["content"], str) else message["content"])
    ]


def _processes_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


async def wait_no_process_in(folder: Path) -> None:
    """Wait until nothing works in a folder any more."""
    await _wait_for(lambda: not _processes_in(folder))


async def _wait_for(condition: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not condition():
            await trio.sleep(0.02)
