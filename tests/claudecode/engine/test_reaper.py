"""The reaper: nothing outlives the hub."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_claudecode.engine import process_table
from clonk_claudecode.engine.binary import Binary
from clonk_claudecode.engine.process_table import MARK_VARIABLE, boot_id, is_running, kill_marked, marked, start_time
from clonk_claudecode.engine.reaper import Reaper, end_leftovers
from clonk_claudecode.testing.script import Rule
from clonk_claudecode.testing.script import ToolUse as CallTool
from clonk_claudecode.testing.scripted_model import ScriptedModel

HUB = """
    import os, subprocess, sys, trio
    from pathlib import Path
    from clonk_claudecode.engine.reaper import Reaper

    class Log:
        def __getattr__(self, name):
            return lambda *args, **more: None

    async def main():
        reaper = Reaper(Path(sys.argv[1]), Log())
        async with trio.open_nursery() as nursery:
            await nursery.start(reaper.run)
            mark = reaper.new_mark()
            listed = subprocess.Popen(["sleep", "4721"], start_new_session=True)
            await reaper.add(listed.pid)
            env = {**os.environ, "CLONK_PROCESS": mark}
            stray = subprocess.Popen(["sleep", "4722"], env=env, start_new_session=True)
            print(listed.pid, stray.pid, reaper.helper_pid, flush=True)
            await trio.sleep_forever()

    trio.run(main)
"""


@asynccontextmanager
async def a_hub(run_dir: Path) -> AsyncIterator[tuple[trio.Process, int, int, int]]:
    """A hub with a listed process and a stray one that bears its mark, and the helper's pid."""
    command = [sys.executable, "-c", textwrap.dedent(HUB), str(run_dir)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    hub = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, env=environ, start_new_session=True)
    try:
        assert hub.stdout is not None
        said = b""
        while not said.endswith(b"\n"):
            chunk = await hub.stdout.receive_some()
            assert chunk, "the hub did not start"
            said += bytes(chunk)
        listed, stray, helper = map(int, said.split())
        yield hub, listed, stray, helper
    finally:
        with trio.CancelScope(shield=True):
            hub.kill()
            await hub.wait()


async def gone(pid: int, started: str | None) -> None:
    """Wait until a process has ended; it is somebody else's child, so nobody is told."""
    with trio.fail_after(10):
        while started is not None and is_running(pid, started):
            await trio.sleep(0.01)


async def test_a_hub_killed_by_force_leaves_neither_its_groups_nor_strays(tmp_path: Path) -> None:
    async with a_hub(tmp_path / "run") as (hub, listed, stray, helper):
        times = {pid: start_time(pid) for pid in (listed, stray, helper)}
        assert None not in times.values()
        os.killpg(hub.pid, signal.SIGKILL)
        for pid, started in times.items():
            await gone(pid, started)


async def test_the_helper_survives_the_signals_of_an_orderly_stop(tmp_path: Path) -> None:
    async with a_hub(tmp_path / "run") as (hub, listed, _, helper):
        started = start_time(listed)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(helper, number)
        hub.kill()
        await gone(listed, started)


async def test_the_next_start_ends_what_a_hub_left_whose_helper_was_killed_too(tmp_path: Path, diary: Any) -> None:
    run_dir = tmp_path / "run"
    async with a_hub(run_dir) as (hub, listed, stray, helper):
        times = {pid: start_time(pid) for pid in (listed, stray)}
        os.kill(helper, signal.SIGKILL)
        hub.kill()
        await hub.wait()
        assert is_running(listed, times[listed] or "")
        async with trio.open_nursery() as nursery:
            await nursery.start(Reaper(run_dir, diary).run)
            nursery.cancel_scope.cancel()
        for pid, started in times.items():
            await gone(pid, started)
    assert any(members == {"processes": 2} for _, _, members in diary.lines)
    assert list(run_dir.iterdir()) == []


async def test_a_hub_that_is_alive_keeps_its_processes(tmp_path: Path) -> None:
    async with a_hub(tmp_path / "run") as (_, listed, stray, _):
        assert await trio.to_thread.run_sync(end_leftovers, tmp_path / "run") == 0
        assert is_running(listed, start_time(listed) or "")
        assert is_running(stray, start_time(stray) or "")


WORKING_HUB = """
    import sys, trio
    from pathlib import Path
    from clonk_claudecode.engine.engine import open_engine
    from clonk_claudecode.events import ToolUse
    from clonk_claudecode.engine.spec import Credential, EngineSettings, SessionSpec

    class Log:
        def __getattr__(self, name):
            return lambda *args, **more: None

    async def main(binary, folder, url):
        settings = EngineSettings(
            config_dir=folder / "claude", run_dir=folder / "run", binary_path=binary,
            credential=Credential(kind="api_key", secret="x"), env={"ANTHROPIC_BASE_URL": url, "IS_SANDBOX": "1"},
        )
        uuid = "0b39a1d2-5b2f-4c3e-9a77-0123456789ab"
        spec = SessionSpec(
            session_id="s", claude_session_id=uuid, working_dir=folder, permission_mode="bypassPermissions"
        )
        async with open_engine(settings, log=Log()) as engine:
            async with engine.turn(spec, "work", turn_id="t", prompt_uuid=uuid) as turn:
                async for item in turn:
                    if isinstance(item, ToolUse):
                        print(engine.pid("s"), flush=True)

    trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
"""


async def test_a_hub_killed_while_claude_runs_a_tool_leaves_neither_claude_nor_the_tool(
    claude: Binary, model: ScriptedModel, tmp_path: Path, own_processes: Callable[[], list[str]]
) -> None:
    left = "nohup setsid sleep 4741 >/dev/null 2>&1 & sleep 4742"
    model.add(Rule("work", [CallTool("Bash", {"command": left}), "never said"]))
    command = [sys.executable, "-c", textwrap.dedent(WORKING_HUB), str(claude.path), str(tmp_path), model.base_url]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    hub = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, env=environ, start_new_session=True)
    try:
        assert hub.stdout is not None
        assert await hub.stdout.receive_some()
        with trio.fail_after(20):
            while sum(line.startswith("sleep 474") for line in own_processes()) < 2:
                await trio.sleep(0.02)
    finally:
        os.killpg(hub.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await hub.wait()
    with trio.fail_after(10):
        while own_processes():
            await trio.sleep(0.02)
    assert len(model.turns) == 1


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "4723"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def record(run_dir: Path, *, group: int, started: str, boot: str) -> None:
    hub_dir = run_dir / "deadbeefdeadbeef"
    hub_dir.mkdir(parents=True)
    (hub_dir / "hub").write_text(f"999999999 1 {boot}")
    (hub_dir / str(group)).write_text(started)


def test_a_recorded_group_is_killed_when_pid_and_start_time_match(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    record(tmp_path, group=sleeper.pid, started=start_time(sleeper.pid) or "", boot=boot_id())
    assert end_leftovers(tmp_path) == 1
    assert sleeper.wait(5) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["start time", "boot"])
def test_a_stranger_with_a_recorded_pid_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], wrong: str
) -> None:
    started = "1" if wrong == "start time" else start_time(sleeper.pid) or ""
    record(tmp_path, group=sleeper.pid, started=started, boot="another" if wrong == "boot" else boot_id())
    assert end_leftovers(tmp_path) == 0
    assert sleeper.poll() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "x", "1", "1 2", "\xff\xfe", "999999999 1 " + "b" * 10_000])
def test_a_damaged_record_stops_nothing(tmp_path: Path, content: str) -> None:
    hub_dir = tmp_path / "deadbeefdeadbeef"
    hub_dir.mkdir()
    (hub_dir / "hub").write_bytes(content.encode("latin-1"))
    (hub_dir / "12x").write_text("?")
    (tmp_path / "a file").touch()
    assert end_leftovers(tmp_path) == 0


async def test_a_helper_that_dies_is_replaced_and_told_everything(tmp_path: Path, diary: Any) -> None:
    reaper = Reaper(tmp_path / "run", diary)
    sleeper = subprocess.Popen(["sleep", "4724"], start_new_session=True)
    started = start_time(sleeper.pid)
    async with trio.open_nursery() as nursery:
        await nursery.start(reaper.run)
        await reaper.add(sleeper.pid)
        first = reaper.helper_pid
        os.kill(first or 0, signal.SIGKILL)
        with trio.fail_after(10):
            while reaper.helper_pid == first:
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    await gone(sleeper.pid, started)
    assert sleeper.wait() == -signal.SIGKILL


async def test_the_helper_is_small(tmp_path: Path, diary: Any) -> None:
    reaper = Reaper(tmp_path / "run", diary)
    async with trio.open_nursery() as nursery:
        await nursery.start(reaper.run)
        status = Path(f"/proc/{reaper.helper_pid}/status").read_text()
        private_kib = int(status.split("RssAnon:")[1].split()[0])
        assert private_kib < 12 * 1024
        nursery.cancel_scope.cancel()


def test_marks_find_a_process_and_what_it_has_started(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], MARK_VARIABLE: "feed.1."}
    process = subprocess.Popen(["sh", "-c", "setsid sleep 4725 & exec sleep 4725"], env=environ)
    other = subprocess.Popen(["sleep", "4725"], env={**environ, MARK_VARIABLE: "feed.12."})
    try:
        while len(marked("feed.1.")) < 2:
            pass
        assert other.pid not in marked("feed.1.")
        assert kill_marked("feed.1.") == 2
        assert process.wait(5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        kill_marked("feed.")
        other.wait()


def test_without_proc_nothing_is_found_by_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not process_table.can_find_marked()
    assert marked("") == []


def test_signals_to_what_has_gone_are_fine() -> None:
    process = subprocess.Popen(["true"], start_new_session=True)
    process.wait()
    process_table.signal_group(process.pid, signal.SIGTERM)
    process_table.signal_each([process.pid], signal.SIGTERM)
    assert start_time(process.pid) is None
