"""The specification's `gitsync.sync`, typed by curl, over a WebSocket and by `clonk call`: the answer as printed."""

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import open_websocket_url

from clonk_core.testing.server_process import ServerProcess, server_process
from tests.e2e.printed import needs_curl, on_our_address, run_shell, sse_messages
from tests.gitsync.conftest import Place, git

REQUEST = """{
  "jsonrpc": "2.0",
  "method": "gitsync.sync",
  "params": {
    "path": "/workspace",
    "message": "Add JWT validation middleware"
  },
  "id": 3
}"""
RESPONSE = """{
  "jsonrpc": "2.0",
  "result": {
    "status": "pushed",
    "commit": "abc123f",
    "branch": "claude/feature-auth",
    "remote": "origin",
    "files_changed": 3,
    "insertions": 45,
    "deletions": 2
  },
  "id": 3
}"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path.resolve() / "place")


@pytest.fixture
async def server(place: Place, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    mapping = {"path": str(place.work), "remote": place.remote, "branch": "main"}
    settings = place.settings()
    settings["workspaces"]["mappings"] = [mapping]  # as printed
    settings["plugins"] = {"disabled": ["claudecode", "arbor"]}
    async with server_process(tmp_path / "hub", settings=settings) as running:
        yield running


def change(work: Path, number: int) -> None:
    """Change what the specification's example changes: three files, 45 lines more and 2 less."""
    git(work, "checkout", "-q", "-B", "claude/feature-auth", "main")
    (work / "a.txt").write_text("".join(f"{number} {line}\n" for line in range(3)))
    (work / "b.txt").write_text("b\n" * 20)
    (work / "c.txt").write_text("c\n" * 22)


Send = Callable[[ServerProcess, Path], Any]


async def by_curl(server: ServerProcess, work: Path) -> Any:
    command = f"curl -s -X POST https://clonk.example.com/mcp -H 'Content-Type: application/json' -d '{REQUEST}'"
    return json.loads(await run_shell(on_our_address(command, server, work), {"PATH": os.environ["PATH"]}))


async def by_websocket(server: ServerProcess, work: Path) -> Any:
    async with open_websocket_url(server.websocket_url) as socket:
        await socket.send_message(on_our_address(REQUEST, server, work))
        return json.loads(await socket.get_message())


async def by_command(server: ServerProcess, work: Path) -> Any:
    words = ["call", "gitsync.sync", f"path={work}", "message=Add JWT validation middleware", "--url", server.http_url]
    environ = {"PATH": os.environ["PATH"], "HOME": str(work.parent)}
    done = await trio.run_process([sys.executable, "-m", "clonk_core", *words], capture_stdout=True, env=environ)
    return {"jsonrpc": "2.0", "result": json.loads(done.stdout), "id": 3}


@needs_curl
@pytest.mark.deadline(90)
async def test_the_printed_sync_answers_as_printed_on_every_way_in(server: ServerProcess, place: Place) -> None:
    printed = json.loads(RESPONSE)
    for number, send in enumerate((by_curl, by_websocket, by_command)):
        git(place.bare, "update-ref", "-d", "refs/heads/claude/feature-auth")
        change(place.work, number)
        answer = await send(server, place.work)
        commit = git(place.bare, "rev-parse", "claude/feature-auth")
        assert answer == {**printed, "result": {**printed["result"], "commit": commit[:7]}}, send.__name__
        assert list(answer["result"]) == list(printed["result"]), "in the printed order"
        assert git(place.bare, "log", "-1", "--format=%s", commit) == "Add JWT validation middleware"
        assert place.refs()["refs/heads/main"] == place.main


@needs_curl
@pytest.mark.deadline(90)
async def test_the_other_printed_methods_answer_in_the_printed_forms(server: ServerProcess, place: Place) -> None:
    """`register` gives a WorkspaceConfig, `diff` a text, `sync_all` a result for each workspace."""

    async def call(method: str, **params: Any) -> str:
        request = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
        command = f"curl -s -N {server.http_url}/mcp -H 'Content-Type: application/json' -d '{request}'"
        return await run_shell(command, {"PATH": os.environ["PATH"]})

    path = str(place.work)
    registered = json.loads(await call("gitsync.register", path=path, remote=place.remote, branch="main"))["result"]
    printed = {"path": path, "remote": place.remote, "branch": "main", "auto_commit": False, "auto_push": False}
    assert {name: registered[name] for name in printed} == printed
    change(place.work, 1)
    diff = json.loads(await call("gitsync.diff", path=path))["result"]
    assert isinstance(diff, str)
    assert diff.startswith("diff --git a/a.txt b/a.txt\n")
    messages = sse_messages(await call("gitsync.sync_all"))
    results = [one["params"]["result"] for one in messages if one.get("method") == "subscription"]
    (synced,) = [one for one in results if one["type"] == "workspace"]
    assert list(synced["result"]) == list(json.loads(RESPONSE)["result"])
    assert synced["result"]["status"] == "pushed"
