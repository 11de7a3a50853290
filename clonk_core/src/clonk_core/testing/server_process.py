"""A real `clonk serve` in a process of its own: for tests that kill it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
import yaml

from clonk_core.errors import ConfigError

START_WITHIN_S = 20.0
STOP_WITHIN_S = 30.0


@attrs.define(kw_only=True)
class ServerProcess:
    """A running server.

    Attributes:
        process: The process, leader of a group of its own.
        http_url: Where HTTP is, without path.
        websocket_url: Where WebSocket is.
        log_path: What it wrote on standard error, one JSON object a line.
    """

    process: trio.Process
    http_url: str
    websocket_url: str
    log_path: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def log_text(self) -> str:
        """What it logged so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    async def kill(self) -> None:
        """Kill it as a power cut would (SIGKILL), and it alone."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def terminate(self) -> int:
        """Ask it to end (SIGTERM), wait until it has, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        with trio.fail_after(STOP_WITHIN_S):
            return await self.process.wait()


def write_config(path: Path, data_dir: Path, settings: Mapping[str, Any]) -> Path:
    """Write a `clonk.yaml` with free ports and JSON logs; without `auth`, nobody is asked who they are."""
    document = {"version": "1", **settings}
    document["storage"] = {"data_dir": str(data_dir), **document.get("storage", {})}
    document.setdefault("auth", {"enabled": False})
    document["server"] = {"http_port": 0, "websocket_port": 0, **document.get("server", {})}
    document["logging"] = {"format": "json", **document.get("logging", {})}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@asynccontextmanager
async def server_process(
    folder: Path, *, settings: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> AsyncIterator[ServerProcess]:
    """Start `clonk serve` on free ports and give it when it listens; end it, in whatever way is needed, at the end.

    Args:
        folder: Holds its data (`data`), configuration and log; the same folder again is a restart.
        settings: What stands in `clonk.yaml`.
        environ: Its environment beside PATH and HOME, which is `folder`. Nothing of the test's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = write_config(folder / "clonk.yaml", folder / "data", settings or {})
    log_path = folder / f"serve-{len(list(folder.glob('serve-*.log')))}.log"
    with log_path.open("wb") as log:
        process: trio.Process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "clonk_core", "serve", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), **(environ or {})},
            cwd=folder,
            start_new_session=True,
        )
    try:
        http, websocket = await _addresses(process, log_path)
        yield ServerProcess(process=process, http_url=http, websocket_url=websocket, log_path=log_path)
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)


async def _addresses(process: trio.Process, log_path: Path) -> tuple[str, str]:
    with trio.move_on_after(START_WITHIN_S):
        while process.poll() is None:
            for line in log_path.read_text(encoding="utf-8", errors="replace").splitlines():
                if '"listening"' in line and line.endswith("}"):
                    record = json.loads(line)
                    return str(record["http"]).removesuffix("/mcp"), str(record["websocket"])
            await trio.sleep(0.02)
    raise ConfigError(f"the server did not start:\n{log_path.read_text(encoding='utf-8', errors='replace')}")


async def _end(process: trio.Process) -> None:
    if process.poll() is None:
        process.terminate()
        with trio.move_on_after(STOP_WITHIN_S):
            await process.wait()
    if process.poll() is None:
        process.kill()
        await process.wait()
