"""The programs that are measured, each a process of its own: the server, the scripted model, the bare peers."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import attrs

PROGRAMS: Final = Path(__file__).resolve().parent / "programs"

SERVE: Final = (sys.executable, "-m", "clonk_core", "serve")

TOKEN: Final = "sk-ant-api03-scripted-and-worthless"
"""What the scripted model is shown; it asks for none."""

_STOP_S: Final = 20.0


def scrubbed_environment(folder: Path) -> dict[str, str]:
    """Return an environment with a home of its own and nothing of this machine's configuration or credentials."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8"}


@contextmanager
def running(
    argv: Sequence[str | Path], folder: Path, *, stderr: IO[bytes] | int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program whose output can be read, and end it afterwards: by SIGTERM, by force when that does not help."""
    process = subprocess.Popen(
        [str(word) for word in argv],
        env=scrubbed_environment(folder),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def program(name: str, folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run one of the small programs beside this file; give it and the first line it prints."""
    with running([sys.executable, str(PROGRAMS / f"{name}.py"), *arguments], folder) as process:
        yield process, _first_line(process)


@contextmanager
def scripted_model(folder: Path, script: Mapping[str, Any]) -> Iterator[str]:
    """Run the scripted model in a process of its own and give its address."""
    path = folder / "script.json"
    path.write_text(json.dumps(script), encoding="utf-8")
    argv = [sys.executable, "-m", "clonk_claudecode.testing.scripted_model", "--script", str(path)]
    with running(argv, folder) as process:
        yield _first_line(process)


def _first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with exit code {process.wait()} before it was ready")
    return line


# ── the server ───────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class Server:
    """A running `clonk serve`.

    Attributes:
        pid: Its process.
        http_port: Where it speaks HTTP.
        websocket_port: Where it speaks WebSocket.
    """

    pid: int
    http_port: int
    websocket_port: int


@contextmanager
def clonk_server(folder: Path, sections: Mapping[str, Any] | None = None) -> Iterator[Server]:
    """Run `clonk serve` on free ports, its data below `folder`, with the plugin `bench`, and wait until it listens.

    Args:
        folder: Everything it writes goes here; `workspace` in it is where sessions may work.
        sections: Further sections of its configuration.
    """
    config = _write_config(folder, sections or {})
    with running([*SERVE, "--config", config], folder, stderr=subprocess.PIPE) as process:
        record = _wait_listening(process)
        assert process.stderr is not None
        drain = threading.Thread(target=_copy, args=(process.stderr, folder / "server.log"), daemon=True)
        drain.start()
        yield Server(
            pid=process.pid,
            http_port=_port(record["http"]),
            websocket_port=_port(record["websocket"]),
        )


def _write_config(folder: Path, sections: Mapping[str, Any]) -> Path:
    """Write the server's configuration; JSON is YAML too."""
    workspace = folder / "workspace"
    workspace.mkdir(parents=True, exist_ok=True)
    settings = {
        "version": "1",
        "server": {"host": "127.0.0.1", "http_port": 0, "websocket_port": 0},
        "storage": {"data_dir": str(folder / "data")},
        "workspaces": {"roots": [str(workspace)]},
        "logging": {"level": "info", "format": "json", "requests": "none"},
        "plugins": {"dir": str(PROGRAMS / "plugins")},
        # What the gateway costs is measured by itself (bench_gateway).
        "auth": {"enabled": False},
        "audit": {"enabled": False},
        **sections,
    }
    path = folder / "clonk.yaml"
    path.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return path


def claudecode_section(model_url: str, **session: Any) -> dict[str, Any]:
    """Return the configuration of sessions that talk to the scripted model."""
    return {
        "api_key": TOKEN,
        "env": {"ANTHROPIC_BASE_URL": model_url, "IS_SANDBOX": "1"},
        "session": {"max_concurrent": 20, **session},
        "turn": {"max_retries": 1},
    }


def scripted_binary_section(binary: Path, **session: Any) -> dict[str, Any]:
    """Return the configuration of sessions that run the scripted binary: of many, and of few where it is too much."""
    return {"api_key": TOKEN, "binary_path": str(binary), "session": {"max_concurrent": 8, **session}}


def _wait_listening(process: subprocess.Popen[bytes]) -> dict[str, str]:
    """Return the log's record that names the addresses."""
    assert process.stderr is not None
    seen = b""
    for line in process.stderr:
        seen += line
        if b'"listening"' in line:
            record = json.loads(line)
            if record.get("event") == "listening":
                return {key: str(value) for key, value in record.items()}
    raise RuntimeError(f"the server ended with exit code {process.wait()}: {seen[-2000:].decode(errors='replace')}")


def _copy(source: IO[bytes], path: Path) -> None:
    try:
        with path.open("wb") as file:
            for line in source:
                file.write(line)
    except (OSError, ValueError):
        return  # closed behind our back at the end


def _port(address: str) -> int:
    return int(address.split("://", 1)[1].split("/", 1)[0].rpartition(":")[2])
