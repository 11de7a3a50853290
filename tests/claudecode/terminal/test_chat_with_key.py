"""`clonk chat` against a server that asks who calls."""

import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from clonk_claudecode.engine.binary import BinaryFinder
from clonk_claudecode.errors import BinaryMissing
from clonk_claudecode.testing.scripted_model import scripted_model
from clonk_core.testing.server_process import ServerProcess, server_process
from tests.claudecode.terminal.test_chat_command import Terminal

WANTED = "the server wants an API key: set CLONK_API_KEY, or CLONK_API_KEY_FILE; `clonk keys create` there makes one"
WRONG = "this API key is not known, or is good no more; look at "


def secret(key_id: str) -> str:
    return f"clonk_{key_id}_of-the-test"


def entry(key_id: str, *scopes: str) -> dict[str, object]:
    digest = hashlib.sha256(secret(key_id).encode()).hexdigest()
    return {"id": key_id, "secret_hash": f"sha256:{digest}", "scopes": scopes}


@attrs.frozen
class Guarded:
    """A server with keys, and a user's folder."""

    server: ServerProcess
    folder: Path

    def command(self, *arguments: str, websocket: bool = False) -> list[str]:
        url = self.server.websocket_url if websocket else self.server.http_url
        return [sys.executable, "-m", "clonk_core", "chat", *arguments, "--url", url]

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "TERM": "xterm", "COLUMNS": "200", **environ}

    async def chat(
        self, *arguments: str, websocket: bool = False, environ: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        run = partial(
            subprocess.run,
            self.command(*arguments, websocket=websocket),
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env=self.environment(environ),
        )
        return await trio.to_thread.run_sync(run)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    try:
        binary = await BinaryFinder().find()
    except BinaryMissing:
        pytest.skip("needs the Claude Code binary")
    async with scripted_model([]) as model:
        settings = {
            "auth": {
                "api_keys": [
                    entry("all", "*"),
                    entry("reader", "claudecode:read"),
                    entry("ci", "claudecode:read", "claudecode:create@ci-*", "claudecode:chat@ci-*"),
                ]
            },
            "claudecode": {
                "binary_path": str(binary.path),
                "api_key": "worthless",
                "env": {"ANTHROPIC_BASE_URL": model.base_url, "IS_SANDBOX": "1"},
            },
        }
        async with server_process(tmp_path / "hub", settings=settings) as server:
            yield Guarded(server, tmp_path)


@pytest.mark.parametrize("websocket", [False, True], ids=["http", "websocket"])
async def test_with_a_key_it_chats(guarded: Guarded, tmp_path: Path, websocket: bool) -> None:
    (tmp_path / "key").write_text(secret("ci") + "\n")
    for environ in ({"CLONK_API_KEY": secret("all")}, {"CLONK_API_KEY_FILE": str(tmp_path / "key")}):
        done = await guarded.chat("ci-1", "--create", "--prompt", "hello", websocket=websocket, environ=environ)
        assert (done.returncode, done.stdout) == (0, "You said: hello\n")


@pytest.mark.parametrize("websocket", [False, True], ids=["http", "websocket"])
async def test_without_a_good_key_one_line_says_which_variable_to_look_at(
    guarded: Guarded, tmp_path: Path, websocket: bool
) -> None:
    (tmp_path / "wrong").write_text("clonk_nobody_wrong\n")
    for environ, says in (
        ({}, WANTED),
        ({"CLONK_API_KEY": "clonk_nobody_wrong"}, WRONG + "CLONK_API_KEY"),
        ({"CLONK_API_KEY_FILE": str(tmp_path / "wrong")}, WRONG + "CLONK_API_KEY_FILE"),
    ):
        done = await guarded.chat("one", "--prompt", "hello", websocket=websocket, environ=environ)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", says + "\n")
    missing = {"CLONK_API_KEY_FILE": "/nonexistent"}
    done = await guarded.chat("one", "--prompt", "hello", websocket=websocket, environ=missing)
    assert (done.returncode, done.stdout) == (2, "")
    assert "CLONK_API_KEY_FILE: /nonexistent cannot be read" in done.stderr


@pytest.mark.parametrize("websocket", [False, True], ids=["http", "websocket"])
async def test_a_key_that_may_not_is_told_which_scope_it_lacks(guarded: Guarded, websocket: bool) -> None:
    chat = partial(guarded.chat, "--create", "--prompt", "hello", websocket=websocket)
    done = await chat("one", environ={"CLONK_API_KEY": secret("reader")})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "claudecode.create needs the scope 'claudecode:create'\n"
    done = await chat("one", environ={"CLONK_API_KEY": secret("ci")})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "claudecode.create needs the scope 'claudecode:create' for this name\n"


def _in_a_terminal(guarded: Guarded, environ: Mapping[str, str], *expected: str) -> int:
    terminal = Terminal(guarded.command("one", "--create"), guarded.environment(environ))
    try:
        for text in expected[:-1]:
            terminal.read_until(text)
        terminal.read_until(expected[-1])
        if len(expected) > 1:
            terminal.type("\x04")
        return terminal.wait()
    finally:
        terminal.close()


async def test_in_a_terminal_it_is_told_too(guarded: Guarded) -> None:
    in_thread = trio.to_thread.run_sync
    assert await in_thread(_in_a_terminal, guarded, {}, "set CLONK_API_KEY") == 1
    assert await in_thread(_in_a_terminal, guarded, {"CLONK_API_KEY": "wrong"}, "look at CLONK_API_KEY") == 1
    key = {"CLONK_API_KEY": secret("all")}
    assert await in_thread(_in_a_terminal, guarded, key, "/help shows", "> ") == 0
