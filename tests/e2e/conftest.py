"""The whole of Clonk in a process of its own, the real binary, and a scripted model in the test's process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from clonk_claudecode.engine.binary import BinaryFinder
from clonk_claudecode.errors import BinaryMissing
from clonk_claudecode.testing.scripted_model import ScriptedModel, scripted_model
from clonk_core.testing.server_process import ServerProcess, server_process

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model([]) as running:
        yield running


@pytest.fixture
async def claude_settings(model: ScriptedModel) -> dict[str, Any]:
    """The part of `clonk.yaml` that has sessions run the real binary against the scripted model."""
    try:
        binary = await BinaryFinder().find()
    except BinaryMissing:
        pytest.skip("needs the Claude Code binary")
    return {
        "binary_path": str(binary.path),
        "api_key": "sk-ant-api03-scripted-and-worthless",
        "env": {"ANTHROPIC_BASE_URL": model.base_url, "IS_SANDBOX": "1"},
        "session": {"working_dir": "/nonexistent/clonk"},
        "turn": {"max_retries": 1},
    }


@pytest.fixture
async def start_server(tmp_path: Path, claude_settings: dict[str, Any]) -> StartServer:
    """Start `clonk serve` on the test's folder; again after it ended, to restart it."""

    def start(**changes: Any) -> AbstractAsyncContextManager[ServerProcess]:
        return server_process(tmp_path / "hub", settings={"claudecode": claude_settings, **changes})

    return start


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    path.mkdir()
    return path


def _processes_below(folder: Path) -> list[psutil.Process]:
    """The running processes whose working directory or command line lies below a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            places = [process.cwd(), *process.cmdline()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if any(str(folder) in place for place in places):
            found.append(process)
    return found


@pytest.fixture
def processes_below() -> Callable[[Path], list[psutil.Process]]:
    return _processes_below


@pytest.fixture
def wait_no_process() -> Callable[[Path], Awaitable[None]]:
    """Wait until no process works below a folder any more."""

    async def wait(folder: Path) -> None:
        with trio.move_on_after(10):
            while _processes_below(folder):
                await trio.sleep(0.05)
            return
        left = [" ".join(process.cmdline())[:200] for process in _processes_below(folder)]
        raise AssertionError(f"processes are left: {left}")

    return wait
