"""What the audit log tells, seen from outside: who did what, from where, and what came of it."""

import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import open_websocket_url

from clonk_claudecode.testing.script import Reply, Rule, ToolUse, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.base import RemoteError
from clonk_core.client.http import HttpClient
from clonk_core.testing.server_process import ServerProcess

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]
Rows = list[dict[str, Any]]

PLUGIN = '''
"""Takes secrets."""
from typing import Annotated
import attrs
from clonk_core.plugin import Activation, Secret, hookimpl, method

@attrs.frozen(kw_only=True)
class Login:
    """A login."""
    user: str
    password: Annotated[str, Secret()]

class Safe(Activation):
    """Safe."""
    namespace = "safe"

    @method()
    async def put(self, pin: Annotated[str, Secret()], login: Login, note: str = "") -> str:
        """Put in."""
        return "put"

@hookimpl
def clonk_activations():
    return [Safe()]
'''


def secret(key_id: str) -> str:
    return f"clonk_{key_id}_of-the-test-and-worth-nothing"


def keys(**scopes: list[str]) -> dict[str, Any]:
    """The section `auth` with keys and their scopes."""
    return {
        "max_failure_delay_s": 0,
        "api_keys": [
            {
                "id": key_id,
                "secret_hash": f"sha256:{hashlib.sha256(secret(key_id).encode()).hexdigest()}",
                "scopes": held,
            }
            for key_id, held in scopes.items()
        ],
    }


AUTH = keys(ann=["*"], bob=["claudecode:read"])


async def clonk(hub: Path, *arguments: str) -> tuple[int, str]:
    """Run a command on a server's folder; return its exit code and what it printed."""
    done = await trio.run_process(
        [sys.executable, "-m", "clonk_core", *arguments, "--data-dir", str(hub / "data")],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(hub)},
        cwd=hub,
    )
    return done.returncode, done.stdout.decode()


async def tail(hub: Path, *filters: str) -> Rows:
    code, out = await clonk(hub, "audit", "tail", "--json", "--limit", "1000", *filters)
    assert code == 0
    return [json.loads(line) for line in out.splitlines()]


async def refused(client: HttpClient, method: str, **params: Any) -> str:
    with pytest.raises(RemoteError) as caught:
        await client.call(method, **params)
    return caught.value.kind


@pytest.mark.deadline(120)
async def test_the_log_tells_who_did_what_from_where_and_what_came_of_it(
    start_server: StartServer, model: ScriptedModel, tmp_path: Path, workspace: Path
) -> None:
    write = {"file_path": str(workspace / "a.txt"), "content": "hello"}
    model.add(Rule("write", [Reply([ToolUse("Write", write)]), "Written."]))
    hub = tmp_path / "hub"
    async with start_server(auth=AUTH, workspaces={"roots": [str(workspace)]}) as server:
        async with HttpClient(server.http_url, api_key=secret("ann")) as ann:
            params = {"name": "one", "working_dir": str(workspace), "permission_mode": "acceptEdits"}
            await ann.call("claudecode.create", **params)
            async with ann.stream("claudecode.chat", name="one", prompt="write") as events:
                outcome = [event.event async for event in events][-1]["outcome"]
                run = events.subscription
        assert outcome == "complete"
        async with HttpClient(server.http_url, api_key=secret("bob")) as bob:
            assert await refused(bob, "claudecode.delete", name="one") == "forbidden"
            assert await refused(bob, "audit.query") == "forbidden"
        async with HttpClient(server.http_url, api_key="clonk_ann_guessed") as nobody:
            assert await refused(nobody, "claudecode.list") == "unauthenticated"

        rows = await tail(hub)
        async with HttpClient(server.http_url, api_key=secret("ann")) as ann:
            asked: Rows = await ann.call("audit.query", after=0)
            of_run: Rows = await ann.call("audit.query", run_id=run, after=0)
            assert (await ann.call("audit.verify"))["intact"]
    assert asked == rows
    create, chat, tool, delete, query, wrong = [row for row in rows if row["kind"] in ("call", "tool", "auth")]
    assert [row["action"] for row in (create, chat, tool)] == ["claudecode.create", "claudecode.chat", "Write"]
    for row in (create, chat, tool):
        assert (row["caller"], row["caller_kind"], row["tenant"], row["target"]) == ("ann", "key", "default", "one")
        assert row["outcome"] == "ok"
    for row in (create, chat, delete, query):
        assert row["transport"] == "http"
        assert row["peer"].startswith("127.0.0.1:")
        assert row["duration_ms"] > 0
        assert row["request_bytes"] > 50
        assert row["request_id"].startswith("req_")
    assert create["detail"]["params"] == params
    assert create["answer_bytes"] > 50
    assert (chat["run_id"], tool["run_id"]) == (run, run)
    assert of_run == [chat, tool]
    assert tool["detail"]["input"] == write
    assert tool["detail"]["decision"] == "allowed"
    assert [(row["caller"], row["action"], row["outcome"]) for row in (delete, query)] == [
        ("bob", "claudecode.delete", "forbidden"),
        ("bob", "audit.query", "forbidden"),
    ]
    assert (wrong["kind"], wrong["outcome"], wrong["detail"]) == ("auth", "unauthenticated", {"reason": "unknown_key"})
    assert "guessed" not in json.dumps(rows)
    times = [row["at"] for row in rows]
    assert times == sorted(times)

    code, out = await clonk(hub, "audit", "verify")
    assert (code, "the log is intact" in out) == (0, True)
    database = sqlite3.connect(hub / "data" / "clonk.db")
    database.execute("update audit set target = 'onf' where seq = ?", (delete["seq"],))
    database.commit()
    database.close()
    code, out = await clonk(hub, "audit", "verify")
    assert code == 1
    assert f"changed at row {delete['seq']}" in out


@pytest.mark.deadline(120)
async def test_a_server_that_is_killed_in_mid_chat_leaves_the_chain_whole(
    start_server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    model.add(Rule("go", Reply(["it begins ", Wait("gate"), "never"])))
    hub = tmp_path / "hub"
    async with start_server(auth=AUTH) as server, HttpClient(server.http_url, api_key=secret("ann"), retries=0) as ann:
        await ann.call("claudecode.create", name="one")
        async with ann.stream("claudecode.chat", name="one", prompt="go") as events:
            await events.next()
            await model.wait_reached("gate")
            await server.kill()
    before = await tail(hub)
    assert [row["action"] for row in before if row["kind"] == "call"] == ["claudecode.create", "claudecode.chat"]
    assert (await clonk(hub, "audit", "verify"))[0] == 0
    async with start_server(auth=AUTH) as server, HttpClient(server.http_url, api_key=secret("ann")) as ann:
        await ann.call("claudecode.delete", name="one")
        report = await ann.call("audit.verify")
    assert (report["intact"], report["problems"]) == (True, [])
    rows = await tail(hub)
    assert rows[: len(before)] == before
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert (await clonk(hub, "audit", "verify"))[0] == 0


@pytest.mark.deadline(120)
async def test_secrets_among_the_parameters_are_masked(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "safe.py").write_text(PLUGIN)
    hub = tmp_path / "hub"
    async with start_server(auth=AUTH, plugins={"dir": str(tmp_path / "plugins")}) as server:
        async with open_websocket_url(server.websocket_url) as socket:

            async def ask(method: str, params: Any) -> Any:
                await socket.send_message(json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}))
                return json.loads(await socket.get_message())

            await ask("auth.authenticate", {"api_key": "clonk_nobody_hunter1"})
            assert (await ask("auth.authenticate", {"api_key": secret("ann")}))["result"]["caller"] == "ann"
            login = {"user": "u", "password": "hunter2"}
            assert (await ask("safe.put", {"pin": "hunter3", "login": login, "note": "n"}))["result"] == "put"
            assert (await ask("safe.put", ["hunter3", login, "n"]))["result"] == "put"
            assert "error" in await ask("safe.put", {"pin": "hunter3", "login": login, "not": "hunter4"})
            assert "error" in await ask("safe.put", {"pin": ["hunter3"], "login": "hunter2"})
            made = (await ask("keys.create", {"id": "new", "scopes": ["*"]}))["result"]["key"]
    rows = await tail(hub)
    authenticated, named, positional, *wrong, _ = [row for row in rows if row["kind"] == "call"]
    assert (authenticated["action"], authenticated["caller"], authenticated["outcome"]) == (
        "auth.authenticate",
        "ann",
        "ok",
    )
    assert [row["outcome"] for row in (named, positional, *wrong)] == ["ok", "ok", "invalid_params", "invalid_params"]
    assert named["detail"]["params"]["note"] == "n"
    assert named["detail"]["params"]["login"]["user"] == "u"
    kept = b"".join(path.read_bytes() for path in (hub / "data").glob("clonk.db*")) + server.log_text.encode()
    for text in ("hunter1", "hunter2", "hunter3", secret("ann"), made):
        assert text.encode() not in kept, text


@pytest.mark.deadline(120)
async def test_on_a_full_disk_reading_goes_on_and_changing_is_refused(
    start_server: StartServer, small_disk: Path, fill_the_disk: Callable[[Path], None]
) -> None:
    async with (
        start_server(auth=AUTH, storage={"data_dir": str(small_disk)}) as server,
        HttpClient(server.http_url, api_key=secret("ann")) as ann,
    ):
        tree = await ann.call("arbor.tree_create", name="t")
        fill_the_disk(small_disk / "ballast")
        # What the databases have free within their files is used up first.
        with pytest.raises(RemoteError) as caught:
            for number in range(1000):
                await ann.call("arbor.tree_create", name=f"t{number}")
        assert caught.value.kind == "storage_full"
        with pytest.raises(RemoteError) as caught:
            for number in range(1000):
                await ann.call("keys.create", id=f"k{number}", scopes=["arbor:read"], description="x" * 200)
        assert caught.value.kind == "storage_full"
        for _ in range(3):
            assert (await ann.call("auth.whoami"))["caller"] == "ann"
            assert (await ann.call("arbor.tree_get", id=tree))["name"] == "t"
            assert (await ann.call("audit.verify"))["intact"]
        (small_disk / "ballast").unlink()
        await ann.call("arbor.tree_create", name="after")
        assert (await ann.call("audit.verify"))["intact"]
        [row] = await ann.call("audit.query", action="arbor.tree_create", limit=1)
        assert (row["outcome"], row["detail"]["params"]["name"]) == ("ok", "after")
