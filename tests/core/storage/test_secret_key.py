"""Where the key of the secrets comes from: files and their permissions, commands and their bounds."""

import base64
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from clonk_core.errors import ConfigError
from clonk_core.storage.key_command import MAX_OUTPUT_BYTES, run_key_command
from clonk_core.storage.secret_key import SecretKey, choose_key_source, decode_key, read_key_file

MakeKeyFile = Callable[..., SecretKey]
TEXT = base64.b64encode(bytes(range(32)))


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.mark.parametrize("text", [TEXT, TEXT + b"\n", b"  " + TEXT + b"\r\n"])
def test_a_key_is_32_bytes_in_base64(text: bytes) -> None:
    assert decode_key(text, "here").material == bytes(range(32))


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", TEXT[:-8], base64.b64encode(bytes(33)), bytes(range(32)), b"*" * 44, TEXT + b" " * 5000, TEXT * 2],
)
def test_anything_else_is_refused_and_not_told(text: bytes) -> None:
    with pytest.raises(ConfigError, match="here: holds no key") as caught:
        decode_key(text, "here")
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert text.strip()[:8].decode("latin-1") not in str(caught.value) or not text.strip()


def test_a_key_does_not_show_itself() -> None:
    key = decode_key(TEXT, "here")
    assert TEXT.decode() not in repr(key)
    assert key.id in repr(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, make_key_file: MakeKeyFile, mode: int) -> None:
    make_key_file(tmp_path / "key", mode=mode)
    with pytest.raises(ConfigError, match=f"{mode:04o}.*chmod 600"):
        read_key_file(tmp_path / "key", "here")


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_its_owner_alone_is_read(tmp_path: Path, make_key_file: MakeKeyFile, mode: int) -> None:
    assert make_key_file(tmp_path / "key", mode=mode) == read_key_file(tmp_path / "key", "here")


def test_no_file_a_folder_and_a_pipe_are_no_key(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigError, match=r"^here: "):
            read_key_file(path, "here")


async def test_a_command_prints_the_key() -> None:
    assert await run_key_command(("echo", TEXT.decode())) == TEXT + b"\n"
    keys = choose_key_source(key_file=None, key_command=("echo", TEXT.decode()), data_dir=Path("/nonexistent"))
    assert [key.material for key in await keys.load()] == [bytes(range(32))]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("/nonexistent/program",), "cannot be started"),
        (python("print('s3cret'); raise SystemExit(3)"), "exit code 3"),
        (python("import os; print('s3cret', flush=True); os.abort()"), "exit code -6"),
        (python(f"print('s3cret' * {MAX_OUTPUT_BYTES})"), "more than"),
        (python("while True: print('s3cret' * 1000)"), "more than"),
    ],
)
async def test_a_command_that_does_not_work_is_told_without_what_it_printed(
    command: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        await run_key_command(command)
    assert "s3cret" not in str(caught.value)


async def test_a_command_gets_no_input_and_its_complaints_go_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import sys; sys.stderr.write('s3cret'); print(len(sys.stdin.read()))"
    assert await run_key_command(python(code)) == b"0\n"
    assert "s3cret" not in "".join(capfd.readouterr())


async def test_a_slow_command_is_ended_with_what_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open({str(pids)!r}, "w") as file: file.write(f"{{os.getpid()}} {{child.pid}}")
print("s3cret", flush=True)
time.sleep(60)
"""
    with pytest.raises(ConfigError, match="within 3 s"):
        await run_key_command(python(code), limit_s=3)
    with trio.fail_after(5):
        for pid in pids.read_text().split():
            while _runs(int(pid)):
                await trio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
