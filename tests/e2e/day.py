"""What a working day takes place in: a repository, a server reached by one transport, and who works there."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from clonk_claudecode.testing.script import Reply, Rule, Text, ToolUse, Usage, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.base import Client
from clonk_core.client.http import HttpClient
from clonk_core.client.stdio import StdioClient
from clonk_core.client.websocket import WebSocketClient
from clonk_core.testing.server_process import server_process, write_config

TRANSPORTS = ("http", "websocket", "stdio")
COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "tool_calls")
SCOPES = {"ann": ["*"], "ben": ["claudecode:chat"], "eve": ["claudecode:read"]}

USED = Usage(input_tokens=100, output_tokens=20, cache_read_input_tokens=7, cache_creation_input_tokens=3)
COLOUR = "Which colour?"
QUESTION = {
    "question": COLOUR,
    "header": "Colour",
    "multiSelect": False,
    "options": [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}],
}
SLEEP = "sleep 4711"
"""Nothing else on the machine runs a command like it."""

Open = Callable[[str], AbstractAsyncContextManager[Client]]


def key_of(who: str) -> str:
    return f"clonk_{who}_of-the-test-and-worth-nothing"


def _auth() -> dict[str, Any]:
    keys = [
        {"id": who, "secret_hash": f"sha256:{hashlib.sha256(key_of(who).encode()).hexdigest()}", "scopes": scopes}
        for who, scopes in SCOPES.items()
    ]
    return {"enabled": True, "api_keys": keys}


@asynccontextmanager
async def open_house(folder: Path, transport: str, settings: Mapping[str, Any]) -> AsyncIterator[Open]:
    """Start Clonk and give what opens a client of it for a key; over stdio everybody shares the one pair of pipes."""
    if transport == "stdio":
        folder.mkdir()
        config = write_config(folder / "clonk.yaml", folder / "data", settings)
        environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        command = [sys.executable, "-m", "clonk_core", "stdio", "--config", str(config)]
        async with StdioClient(command, env=environ, cwd=folder) as only:

            @asynccontextmanager
            async def share(_key: str) -> AsyncIterator[Client]:
                yield only

            yield share
        return
    async with server_process(folder, settings={**settings, "auth": _auth()}) as server:

        @asynccontextmanager
        async def connect(key: str) -> AsyncIterator[Client]:
            if transport == "http":
                async with HttpClient(server.http_url, api_key=key) as over_http:
                    yield over_http
            else:
                async with WebSocketClient(server.websocket_url, api_key=key) as over_websocket:
                    yield over_websocket

        yield connect


def git(folder: Path, *arguments: str) -> str:
    """Run git and return what it says."""
    done = subprocess.run(
        ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def script(repo: Path) -> list[Rule]:
    """What Claude is going to say and do."""

    def write(text: str) -> Reply:
        return Reply([ToolUse("Write", {"file_path": str(repo / "plan.txt"), "content": text})], usage=USED)

    def said(text: str) -> Reply:
        return Reply([Text(text)], usage=USED)

    edit = {"file_path": str(repo / "plan.txt"), "old_string": "first", "new_string": "second"}
    return [
        Rule("^make a plan$", [write("the first plan\n"), said("Planned with aubergines.")]),
        Rule("^change it$", [Reply([ToolUse("Edit", edit)], usage=USED), said("Changed to courgettes.")]),
        Rule("^ask me$", [Reply([ToolUse("AskUserQuestion", {"questions": [QUESTION]})], usage=USED), said("Fine.")]),
        Rule(
            "^take long$",
            [Reply([Text("Waiting. "), ToolUse("Bash", {"command": f"({SLEEP} & {SLEEP})"})], usage=USED), said("Up.")],
        ),
        Rule("^slowly$", [Reply([Text("Slow "), Wait("queue"), Text("answer.")], usage=USED)]),
        Rule("^count$", [Reply([ToolUse("StructuredOutput", {"done": 7})], usage=USED), said("Counted.")]),
    ]


@attrs.define
class Watching:
    """What one watcher of a session has seen.

    Attributes:
        runs: The events of each run, by its subscription.
        others: Everything else that was shown.
    """

    runs: dict[str, list[Any]] = attrs.field(factory=dict)
    others: list[Any] = attrs.field(factory=list)

    def kinds(self) -> Counter[str]:
        """How many there were of each kind, changes told apart."""
        return Counter(f"{event['type']} {event.get('change', '')}".strip() for event in self.others)


async def watch(client: Client, name: str, seen: Watching, *, task_status: trio.TaskStatus[None]) -> None:
    """Watch a session to its end."""
    async with client.stream("claudecode.attach", name=name) as events:
        async for _, event in events:
            if event["type"] == "session_event":
                seen.runs.setdefault(event["subscription"], []).append(event["event"])
            else:
                seen.others.append(event)
            if event["type"] == "attached":
                task_status.started()


@attrs.define
class Day:
    """A working day.

    Attributes:
        transport: How everybody reaches the server.
        open: Opens one more client for a key.
        ann: Who may do everything.
        ben: Who may chat.
        eve: Who may look.
        model: What answers.
        repo: The git repository that is worked on.
        runs: The events of every run that Ann or Ben started, by session and subscription.
        spent: What each turn has spent, by session and caller; no session (`""`) has what leaves no trace.
    """

    transport: str
    open: Open
    ann: Client
    ben: Client
    eve: Client
    model: ScriptedModel
    repo: Path
    runs: dict[str, dict[str, list[Any]]] = attrs.field(factory=dict)
    spent: list[tuple[str, str, Any]] = attrs.field(factory=list)

    def known_as(self, who: str) -> str:
        """As whom the server knows somebody."""
        return "local" if self.transport == "stdio" else who

    async def chat(
        self, prompt: str, *, name: str = "work", who: str = "ann", outcome: str = "complete", **options: Any
    ) -> Any:
        """Chat to the end, and return `done`."""
        async with self.chatting(prompt, name=name, who=who, **options) as events:
            async for _ in events:
                pass
        done = self.last(name)
        assert done["outcome"] == outcome, done
        return done

    def last(self, name: str = "work") -> Any:
        """The last event of the session's last run."""
        return list(self.runs[name].values())[-1][-1]

    @asynccontextmanager
    async def chatting(
        self, prompt: str, *, name: str = "work", who: str = "ann", **options: Any
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """Chat, and give the events; they are noted as they are read, and the rest of them at the end."""
        client: Client = self.ben if who == "ben" else self.ann
        ephemeral = options.get("ephemeral", False)
        async with client.stream("claudecode.chat", name=name, prompt=prompt, **options) as stream:
            run = self.runs.setdefault(name, {}).setdefault(stream.subscription, [])

            async def noted() -> AsyncIterator[Any]:
                async for _, event in stream:
                    run.append(event)
                    yield event

            events = noted()
            yield events
            async for _ in events:
                pass
        assert run[-1]["type"] == "done"
        self.spent.append(("" if ephemeral else name, self.known_as(who), run[-1]["usage"]))
        if ephemeral:
            del self.runs[name][stream.subscription]

    async def history(self, name: str = "work") -> list[Any]:
        found: list[Any] = await self.ann.call("claudecode.history", name=name)
        return found

    def sums(self, of: int) -> dict[str, Counter[str]]:
        """What was spent, added up by session (0) or by caller (1)."""
        found: dict[str, Counter[str]] = {}
        for turn in self.spent:
            counts = Counter({count: turn[2][count] for count in COUNTS})
            counts["turns"] = 1
            found.setdefault(turn[of], Counter()).update(counts)
        return found


@asynccontextmanager
async def working_day(
    folder: Path, transport: str, model: ScriptedModel, settings: Mapping[str, Any]
) -> AsyncIterator[Day]:
    """Begin a day: a repository with one commit, a server, and three who are connected to it."""
    repo = folder / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    (repo / "readme.txt").write_text("a readme\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "first")
    roots = {"workspaces": {"roots": [str(repo)]}}
    async with open_house(folder / "hub", transport, {**settings, **roots}) as opened:
        connect = partial(_connect, opened)
        async with connect("ann") as ann, connect("ben") as ben, connect("eve") as eve:
            yield Day(transport=transport, open=opened, ann=ann, ben=ben, eve=eve, model=model, repo=repo)


def _connect(opened: Open, who: str) -> AbstractAsyncContextManager[Client]:
    return opened(key_of(who))
