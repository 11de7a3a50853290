"""The program as a whole: help, versions, wrong usage, commands of plugins, broken pipes."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio

from clonk_core.cli import exit_codes
from clonk_core.cli.main import guarded
from clonk_core.errors import CallError, ConfigError, NotFound, StorageError

Clonk = Callable[..., Any]

COMMANDS = [
    *((name,) for name in ("serve", "stdio", "call", "methods", "schema", "plugins", "config", "doctor", "shake")),
    ("config", "check"),
    ("config", "show"),
    ("docs", "write"),
]

HOOK = "from clonk_core.plugin import hookimpl, Command\n@hookimpl\ndef clonk_commands():\n    "
BROKEN_PLUGINS = {
    "raises": "raise RuntimeError('broken here')",
    "syntax": "def (",
    "hook": HOOK + "raise OSError('broken here')",
    "wrong": HOOK + "return [5]",
    "taken": HOOK + "return [Command(name='serve', function=print)]",
}


def test_the_overview_lists_every_command_with_those_of_plugins(clonk: Clonk) -> None:
    for arguments in ([], ["--help"]):
        done = clonk(*arguments)
        assert (done.code, done.err) == (0, "")
        for word in ("serve", "stdio", "call", "methods", "schema", "plugins", "config show", "doctor", "shake"):
            assert f"  {word} " in done.out
        assert "Shake the cup." in done.out
        assert "docs write" not in done.out


@pytest.mark.parametrize("arguments", COMMANDS)
def test_every_command_explains_itself(clonk: Clonk, arguments: tuple[str, ...]) -> None:
    done = clonk(*arguments, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: clonk {' '.join(arguments)}")


def test_the_version_is_told(clonk: Clonk) -> None:
    assert clonk("--version").out.startswith("clonk 0.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("serv",), "serve"),
        (("serve", "--htp-port", "1"), "--htp-port"),
        (("call",), "METHOD"),
        (("call", "hub.info", "--local", "nonsense"), "name=value"),
        (("schema", "hub", "--openrpc"), "--openrpc"),
        (("methods", "--config", "clonk.yaml"), "--local"),
        (("shake", "--times", "often"), "often"),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(clonk: Clonk, arguments: tuple[str, ...], says: str) -> None:
    done = clonk(*arguments)
    assert done.code == exit_codes.USAGE
    assert done.out == ""
    assert done.err.startswith("clonk: ")
    assert says in done.err
    assert len(done.err.splitlines()) == 1


def test_a_plugins_command_runs_and_its_code_is_the_programs(clonk: Clonk) -> None:
    done = clonk("shake", "--times", "2")
    assert (done.code, done.out.strip()) == (5, "rattle rattle")


@pytest.mark.parametrize(("name", "text"), BROKEN_PLUGINS.items())
def test_a_broken_plugin_is_told_and_breaks_nothing(clonk: Clonk, place: Any, name: str, text: str) -> None:
    (place.folder / "plugins" / f"{name}.py").write_text(text)
    done = clonk("shake")
    assert (done.code, done.out.strip()) == (5, "rattle")
    assert f"plugin {name}:" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_broken_configuration_does_not_hide_the_help(clonk: Clonk, place: Any) -> None:
    (place.folder / "clonk.yaml").write_text("plugins: [\n")
    assert clonk("--help").code == 0


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (NotFound("no such thing"), 1, "clonk: no such thing (not_found)"),
        (StorageError("locked by process 5"), 1, "clonk: locked by process 5"),
        (
            ConfigError("a.yaml:1: x\na.yaml:2: y"),
            2,
            "clonk: the configuration is wrong:\n  a.yaml:1: x\n  a.yaml:2: y",
        ),
        (exit_codes.UsageError("so not"), 2, "clonk: so not"),
        (exit_codes.NoServer("http://h", "refused"), 3, "clonk: no Clonk answers at http://h (refused)"),
        (KeyboardInterrupt(), 130, ""),
        (BaseExceptionGroup("", [ExceptionGroup("", [ValueError("x")]), KeyboardInterrupt()]), 130, ""),
        (ExceptionGroup("", [ValueError("x"), CallError("told")]), 1, "clonk: told (call_error)"),
        (ValueError("odd"), 1, "clonk: unexpected error, ValueError: odd"),
        (SystemExit(7), 7, ""),
    ],
)
def test_whatever_happens_is_a_sentence_and_a_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, says: str
) -> None:
    def work() -> int:
        raise error

    assert guarded(work) == code
    told = capsys.readouterr().err
    assert told.startswith(says)
    assert says or not told


def test_with_clonk_debug_errors_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLONK_DEBUG", "1")

    def work() -> int:
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        guarded(work)


def test_ctrl_c_inside_trio_is_an_interruption_and_no_traceback() -> None:
    async def interrupted() -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise KeyboardInterrupt

    assert guarded(lambda: trio.run(interrupted)) == exit_codes.INTERRUPTED


@pytest.mark.parametrize("arguments", [("--help",), ("config", "show"), ("schema", "--local")])
def test_a_reader_that_leaves_is_no_error(place: Any, arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "clonk_core", *arguments],
            cwd=place.folder,
            env=place.environ,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (exit_codes.READER_GONE, "")


def test_the_overview_needs_neither_server_nor_database_nor_terminal_library(place: Any) -> None:
    code = (
        "import sys\nfrom clonk_core.cli.main import main\nmain(['--help'])\n"
        "heavy = {'trio', 'apsw', 'hypercorn', 'quart', 'httpx', 'rich', 'cyclopts', 'orjson', 'structlog'}\n"
        "sys.exit(f'imported {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
    )
    # A plugin of its own could import anything; this is about ours.
    (place.folder / "plugins" / "dice.py").unlink()
    (place.folder / "clonk.yaml").write_text("plugins: {disabled: []}\n")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place.folder,
        env=place.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
