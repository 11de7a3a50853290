"""One process: reading it, and the ladder down to its end."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from clonk_claudecode.engine import process
from clonk_claudecode.engine.frames import LineTooLong
from clonk_claudecode.engine.process import STDERR_LINES, BinaryProcess, Command, start_process
from clonk_claudecode.engine.process_table import MARK_VARIABLE, kill_marked, marked
from clonk_claudecode.errors import BinaryBroken

MARK = f"test{os.getpid()}.1."
Make = Callable[..., Command]


@pytest.fixture(autouse=True)
def _no_strays() -> object:
    yield
    assert kill_marked(MARK) == 0


@pytest.fixture
def shell(tmp_path: Path) -> Make:
    def make(script: str) -> Command:
        env = {"PATH": os.environ["PATH"], MARK_VARIABLE: MARK}
        return Command(argv=("/bin/sh", "-c", script), env=env, working_dir=tmp_path, mark=MARK)

    return make


async def read_all(running: BinaryProcess) -> list[bytes]:
    lines = []
    while batch := await running.read_lines():
        lines += batch
    return lines


async def test_lines_come_in_batches_and_the_exit_code_is_told(shell: Make) -> None:
    running = await start_process(shell("echo one; echo two; printf three; exit 3"))
    assert await read_all(running) == [b"one", b"two", b"three"]
    assert await running.close() == 3


async def test_the_process_leads_a_group_and_a_session_of_its_own(shell: Make) -> None:
    running = await start_process(shell("sleep 60"))
    assert os.getpgid(running.pid) == os.getsid(running.pid) == running.pid
    await running.close()


async def test_only_the_last_lines_of_stderr_are_kept(shell: Make) -> None:
    running = await start_process(shell("seq 1 500 >&2; printf end >&2"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.drain_stderr)
        await running.wait(at_most_s=10)
    assert len(running.stderr_tail) == STDERR_LINES
    assert running.stderr_tail[-2:] == ("500", "end")
    await running.close()


async def test_what_is_written_is_read(shell: Make) -> None:
    running = await start_process(shell("cat"))
    await running.write(b'{"a":1}\n')
    assert await running.read_lines() == [b'{"a":1}']
    assert await running.close() == 0


async def test_a_line_over_the_limit_ends_the_reading(shell: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start_process(shell("head -c 100000 /dev/zero; sleep 60"))
    running._splitter._max_line_bytes = 1000
    with pytest.raises(LineTooLong):
        await running.read_lines()
    await running.close()


async def test_a_process_that_ends_with_its_input_is_not_signalled(shell: Make, tmp_path: Path) -> None:
    running = await start_process(shell("trap 'touch signalled' TERM; cat >/dev/null; touch orderly"))
    assert await running.close() == 0
    assert {path.name for path in tmp_path.iterdir()} >= {"orderly"}
    assert not (tmp_path / "signalled").exists()


async def test_a_process_that_ignores_the_end_of_its_input_is_terminated(
    shell: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LEAVE_S", 0.1)
    running = await start_process(shell("exec sleep 60"))
    assert await running.close() == -signal.SIGTERM


async def test_a_process_that_ignores_termination_is_killed(shell: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LEAVE_S", 0.1)
    monkeypatch.setattr(process, "TERMINATE_S", 0.2)
    running = await start_process(shell("trap '' TERM; echo ready; while :; do sleep 0.1; done"))
    assert await running.read_lines() == [b"ready"]
    assert await running.close() == -signal.SIGKILL
    assert marked(MARK) == []


async def test_a_process_that_wants_to_say_much_before_its_end_is_let(shell: Make) -> None:
    running = await start_process(shell("cat >/dev/null; seq 1 300000; seq 1 300000 >&2; exit 5"))
    assert await running.close() == 5


@pytest.mark.alone
async def test_all_that_it_has_started_ends_with_it(shell: Make) -> None:
    script = "sleep 4731 & setsid sleep 4732 & (setsid sh -c 'sleep 4733; true' &) ; echo ready; cat >/dev/null"
    running = await start_process(shell(script))
    assert await running.read_lines() == [b"ready"]
    with trio.fail_after(5):
        while len(marked(MARK)) < 5:
            await trio.sleep(0.01)
    began = trio.current_time()
    await running.close()
    assert marked(MARK) == []
    assert trio.current_time() - began < process.TERMINATE_S


async def test_closing_is_finished_although_it_is_cancelled(shell: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LEAVE_S", 0.1)
    running = await start_process(shell("exec sleep 60"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await running.close()
    assert running.exit_code == -signal.SIGTERM


async def test_closing_twice_is_closing_once(shell: Make) -> None:
    running = await start_process(shell("exit 4"))
    assert [await running.close(), await running.close()] == [4, 4]


@pytest.mark.alone
async def test_impatient_closing_does_not_wait_for_an_orderly_end(shell: Make) -> None:
    running = await start_process(shell("exec sleep 60"))
    began = trio.current_time()
    assert await running.close(patient=False) == -signal.SIGTERM
    assert trio.current_time() - began < process.LEAVE_S


@pytest.mark.parametrize("argv", [("/nowhere/claude",), ("/etc/passwd",)])
async def test_what_cannot_be_started_is_broken(tmp_path: Path, argv: tuple[str, ...]) -> None:
    with pytest.raises(BinaryBroken):
        await start_process(Command(argv=argv, env={}, working_dir=tmp_path, mark=MARK))


async def test_nothing_of_the_hub_is_inherited_but_what_is_named(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    script = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd')), dict(os.environ))"
    command = Command(argv=(sys.executable, "-S", "-c", script), env={"A": "1"}, working_dir=tmp_path, mark=MARK)
    running = await start_process(command)
    (line,) = await read_all(running)
    await running.close()
    os.close(reading)
    os.close(writing)
    assert line.decode().startswith("[0, 1, 2, 3] {'A': '1'")
