"""What `clonk demo` stands on: a temporary folder, a repository, a scripted model, and a real server."""

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from clonk_claudecode.demo.server import Server, run_server
from clonk_claudecode.demo.show import DemoFailed, Show
from clonk_claudecode.engine.binary import Binary, BinaryFinder
from clonk_core.plugin import CallError

CREDENTIALS: Final = ("CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY")

_GIT_IDENTITY: Final = ("-c", "user.name=Clonk demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false")


@attrs.frozen(kw_only=True)
class Stage:
    """Everything is ready.

    Attributes:
        server: The running server.
        folder: The temporary folder.
        workspace: The git repository in it.
        binary: The Claude Code binary that the server drives.
        live: Whether the real model answers.
        key: The API key that the server lets in.
    """

    server: Server
    folder: Path
    workspace: Path
    binary: Binary
    live: bool
    key: str = attrs.field(repr=False)


@asynccontextmanager
async def open_stage(show: Show, *, live: bool, keep: bool) -> AsyncIterator[Stage]:
    """Set everything up, and take it down afterwards in any case.

    Raises:
        DemoFailed: Something is missing or does not start.
    """
    binary = await _find_binary()
    credentials = _live_credentials() if live else {}
    folder = _make_folder()
    try:
        async with AsyncExitStack() as stack:
            section: dict[str, Any] = {"binary_path": str(binary.path)}
            section |= _live_section() if live else await stack.enter_async_context(_scripted())
            workspace = await _make_repository(folder / "workspace")
            key = f"clonk_demo_{secrets.token_urlsafe(32)}"
            config = _write_config(folder, workspace, section, key)
            server = await stack.enter_async_context(run_server(folder, config, _environment(credentials)))
            yield Stage(server=server, folder=folder, workspace=workspace, binary=binary, live=live, key=key)
    finally:
        if keep:
            show.say(f"Kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def git(workspace: Path, *arguments: str) -> str:
    """Run git in the workspace, untouched by the user's own configuration, and return what it prints.

    Raises:
        DemoFailed: There is no git, or it fails.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", *_GIT_IDENTITY, *arguments]
    try:
        done = await trio.run_process(
            command,
            cwd=workspace,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise DemoFailed("git is not installed; install it with the system's package manager") from error
    if done.returncode != 0:
        raise DemoFailed(f"git {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")


async def _find_binary() -> Binary:
    try:
        return await BinaryFinder().find()
    except CallError as error:
        raise DemoFailed(error.message) from error


def _live_credentials() -> Mapping[str, str]:
    """Return the user's credentials, for the server's environment alone."""
    found = {name: os.environ[name] for name in CREDENTIALS if os.environ.get(name)}
    if not found:
        raise DemoFailed(
            "--live needs a credential in the environment: CLAUDE_CODE_OAUTH_TOKEN (`claude setup-token` makes one) "
            "or ANTHROPIC_API_KEY"
        )
    return found


def _live_section() -> dict[str, Any]:
    """Return what the section `claudecode` needs for the real model: the user's gateway, when there is one."""
    base_url = os.environ.get("ANTHROPIC_BASE_URL")
    return {"env": {"ANTHROPIC_BASE_URL": base_url}} if base_url else {}


@asynccontextmanager
async def _scripted() -> AsyncIterator[dict[str, Any]]:
    """Run the scripted model, and give what the section `claudecode` needs to reach it.

    The model asks for a token made up on the spot, so an answer proves that the credential finds its way.
    """
    from clonk_claudecode.testing.demo_script import builtin_demo_script
    from clonk_claudecode.testing.scripted_model import scripted_model

    token = "demo-" + secrets.token_hex(8)
    async with scripted_model(builtin_demo_script(), required_token=token) as model:
        yield {"api_key": token, "env": {"ANTHROPIC_BASE_URL": model.base_url}}


def _make_folder() -> Path:
    # Resolved: on macOS the folder for temporary files is a link, and sessions know only real paths.
    return Path(tempfile.mkdtemp(prefix="clonk-demo-")).resolve()


async def _make_repository(workspace: Path) -> Path:
    """Make a git repository with one commit."""
    await trio.Path(workspace).mkdir()
    readme = trio.Path(workspace / "README.md")
    await readme.write_text("# A small repository\n\nClaude works here.\n", encoding="utf-8")
    await git(workspace, "init", "--quiet", "--initial-branch=main")
    await git(workspace, "add", "README.md")
    await git(workspace, "commit", "--quiet", "--message=Begin")
    return workspace


def _write_config(folder: Path, workspace: Path, section: Mapping[str, Any], key: str) -> Path:
    """Write the server's configuration; JSON is YAML too."""
    settings = {
        "version": "1",
        "server": {"host": "127.0.0.1", "http_port": 0, "websocket_port": 0},
        "auth": {"api_keys": [{"id": "demo", "secret_hash": f"sha256:{_sha256(key)}", "scopes": ["*"]}]},
        "storage": {"data_dir": str(folder / "data")},
        "workspaces": {"roots": [str(workspace)]},
        "logging": {"level": "info", "format": "json"},
        "claudecode": section,
    }
    path = folder / "clonk.yaml"
    path.touch(mode=0o600)
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return path


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _environment(credentials: Mapping[str, str]) -> dict[str, str]:
    """Return the server's environment: the user's own, without what would change the demonstration."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("CLONK_") and name not in CREDENTIALS
    }
    return {**kept, **credentials}
