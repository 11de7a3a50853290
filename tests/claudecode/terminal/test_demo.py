"""`clonk demo` as a newcomer runs it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from clonk_claudecode.demo.show import DemoFailed, Show, curl
from clonk_claudecode.engine.binary import BinaryFinder
from clonk_claudecode.errors import BinaryMissing
from clonk_claudecode.testing.demo_script import builtin_demo_script
from clonk_claudecode.testing.scripted_model import scripted_model

DEADLINE_S = 120.0


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A user's environment, with a configuration that must not matter here."""
    dropped = ("CLONK_", "ANTHROPIC_", "CLAUDE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return {**kept, "HOME": str(tmp_path), "TMPDIR": str(temporary), "CLONK_SERVER__HTTP_PORT": "1"}


async def need_binary() -> None:
    try:
        await BinaryFinder().find()
    except BinaryMissing:
        pytest.skip("needs the Claude Code binary")


def run_demo(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clonk_core", "demo", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


def processes_that_name(folder: Path) -> list[str]:
    """Return the processes that have the folder in their arguments or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            told = [*process.cmdline(), *process.environ().values()]
            if process.pid != os.getpid() and any(str(folder) in text for text in told):
                found.append(f"{process.pid} {process.cmdline()}")
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


async def test_the_demo_shows_every_step_and_leaves_nothing_behind(environment: dict[str, str], tmp_path: Path) -> None:
    await need_binary()
    done = run_demo(environment)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    for step in ("over HTTP", "server-sent events", "Over WebSocket", "Cut the connection", "history", "SIGTERM"):
        assert step in shown
    assert "?? notes.txt" in shown
    assert "+hi from Clonk" in shown
    assert "Last-Event-ID: sub_" in shown
    assert "no process is left" in shown
    seconds = re.search(r"(\d+) checks, all true, in ([\d.]+) s", shown)
    assert seconds is not None
    assert int(seconds[1]) >= 12
    assert float(seconds[2]) < 30
    assert "Traceback" not in shown + done.stderr
    assert list((tmp_path / "tmp").glob("clonk-demo-*")) == []
    assert processes_that_name(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_folder_is_kept_on_request_and_can_be_served_again(
    environment: dict[str, str], tmp_path: Path
) -> None:
    await need_binary()
    done = run_demo(environment, "--keep")
    assert done.returncode == 0, done.stdout + done.stderr
    [folder] = (tmp_path / "tmp").glob("clonk-demo-*")
    assert (folder / "workspace" / "notes.txt").read_text() == "hi from Clonk\n"
    assert (folder / "data" / "claudecode.db").exists()
    assert (folder / "server.log").read_text()
    assert (folder / "clonk.yaml").stat().st_mode & 0o077 == 0
    answers = _paste(done.stdout, folder)
    assert answers["claudecode.create"]["error"]["data"]["kind"] == "conflict"  # it is there already
    assert len(answers["claudecode.history"]["result"]) == 10


def _paste(shown: str, folder: Path) -> dict[str, Any]:
    """Start the kept server as the demo shows it, run its curl lines there, and return the answers by method."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    export = re.search(r"export (CLONK_API_KEY)=(\S+)", plain)
    assert export is not None
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), export[1]: export[2]}
    command = [sys.executable, "-m", "clonk_core", "serve", "--config", "clonk.yaml"]
    answers = {}
    with subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        url = next(json.loads(line)["http"] for line in server.stderr if '"listening"' in line)
        for line in re.findall(r"curl -s .*", plain):
            pasted = re.sub(r"http://127\.0\.0\.1:\d+/mcp", url, line)
            done = subprocess.run(["bash", "-c", pasted], env=environ, capture_output=True, text=True, check=True)
            method = re.search(r'"method": "([^"]+)"', line)
            assert method is not None
            answers[method[1]] = json.loads(done.stdout)
        server.terminate()
        server.communicate(timeout=DEADLINE_S)
    return answers


@pytest.mark.slow
async def test_live_hands_on_the_users_credential_and_never_shows_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """The scripted model stands in for the real one, where the user's own gateway would."""
    await need_binary()
    secret = "sk-ant-api03-worthless-and-secret"
    async with scripted_model(builtin_demo_script(), required_token=secret) as model:
        live = {"ANTHROPIC_API_KEY": secret, "ANTHROPIC_BASE_URL": model.base_url}
        done = await trio.to_thread.run_sync(run_demo, {**environment, **live}, "--live", "--keep")
    assert done.returncode == 0, done.stdout + done.stderr
    assert secret not in done.stdout + done.stderr
    [folder] = (tmp_path / "tmp").glob("clonk-demo-*")
    holding = [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert holding == []


def test_without_a_binary_the_demo_says_how_to_get_one(environment: dict[str, str], tmp_path: Path) -> None:
    for place in ("/usr/local/bin/claude", "/opt/homebrew/bin/claude"):
        if Path(place).exists():
            pytest.skip(f"{place} would be found")
    # Python runs this file first: the wheel with the binary seems not to be installed.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['claude_agent_sdk'] = None\n")
    done = run_demo({**environment, "PYTHONPATH": str(tmp_path), "PATH": str(tmp_path)})
    assert done.returncode == 1
    assert "npm install" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_live_without_a_credential_says_what_is_missing(environment: dict[str, str]) -> None:
    done = run_demo(environment, "--live")
    assert done.returncode == 1
    assert "CLAUDE_CODE_OAUTH_TOKEN" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_server_that_does_not_start_is_told_with_its_log(environment: dict[str, str], tmp_path: Path) -> None:
    # Python runs this file first, in every process.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'serve' in sys.orig_argv:\n"
        "    os.write(2, b'the server has no wish to start')\n"
        "    os._exit(7)\n"
    )
    done = run_demo({**environment, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "the server has no wish to start" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert processes_that_name(tmp_path) == []


def test_a_check_that_fails_ends_the_demo_with_what_was_found() -> None:
    with pytest.raises(DemoFailed, match=r"the sky is green.*blue"):
        Show().check("the sky is green", False, "blue")


def test_commands_to_paste_are_quoted_for_the_shell() -> None:
    message = {"jsonrpc": "2.0", "method": "x.y", "params": {"prompt": 'it\'s "quoted" $HOME'}, "id": 1}
    command = curl("http://127.0.0.1:1/mcp", message)
    told = subprocess.run(
        ["sh", "-c", command.replace("curl -s", "printf '%s\\n'")], capture_output=True, text=True, check=True
    )
    assert 'it\'s \\"quoted\\" $HOME' in told.stdout
