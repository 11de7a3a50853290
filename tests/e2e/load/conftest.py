"""A server whose sessions run a scripted binary: so cheap that there can be hundreds."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.testing.scripted_binary import write_scripted_binary
from clonk_core.testing.server_process import ServerProcess, server_process

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]


@pytest.fixture
def start_server(tmp_path: Path) -> StartServer:
    """Start `clonk serve` on the test's folder; again after it ended, to restart it."""
    binary = write_scripted_binary(tmp_path / "claude")

    def start(max_concurrent: int) -> AbstractAsyncContextManager[ServerProcess]:
        claudecode: dict[str, Any] = {
            "binary_path": str(binary),
            "api_key": "sk-ant-api03-scripted-and-worthless",
            "session": {"max_concurrent": max_concurrent},
        }
        return server_process(tmp_path / "hub", settings={"claudecode": claudecode, "logging": {"requests": "none"}})

    return start
