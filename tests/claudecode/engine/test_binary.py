"""Finding the binary and reading its version."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from clonk_claudecode.engine import binary
from clonk_claudecode.engine.binary import Binary, BinaryFinder, read_version
from clonk_claudecode.errors import BinaryBroken, BinaryMissing, BinaryTooOld

Script = Callable[..., Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Write a shell script that stands for a binary."""

    def write(body: str, name: str = "claude", mode: int = 0o755) -> Path:
        path = tmp_path / "scripts" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(mode)
        return path

    return write


async def test_the_real_binary_is_found_and_new_enough(claude: Binary) -> None:
    assert claude.version >= binary.MINIMUM_VERSION
    assert claude.path.is_file()


async def test_the_configured_path_comes_first(script: Script) -> None:
    path = script("echo '2.1.0 (Claude Code)'")
    found = await BinaryFinder(path, {"PATH": "/nowhere"}).find()
    assert (found.path, found.version_text) == (path, "2.1.0")


async def test_path_comes_before_the_usual_places(script: Script, tmp_path: Path) -> None:
    path = script("echo '2.2.0 (Claude Code)'")
    (tmp_path / "home" / ".local" / "bin").mkdir(parents=True)
    (tmp_path / "home" / ".local" / "bin" / "claude").write_text("never run")
    environ = {"PATH": str(path.parent), "HOME": str(tmp_path / "home")}
    assert (await BinaryFinder(None, environ).find()).path == path


@pytest.mark.parametrize("place", [".claude/local/claude", ".local/bin/claude", ".npm-global/bin/claude"])
async def test_the_usual_places_are_searched(script: Script, tmp_path: Path, place: str) -> None:
    path = tmp_path / "home" / place
    path.parent.mkdir(parents=True)
    path.symlink_to(script("echo '3.0.0 (Claude Code)'"))
    assert (await BinaryFinder(None, {"PATH": "/nowhere", "HOME": str(tmp_path / "home")}).find()).path == path


async def test_a_configured_path_that_holds_nothing_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BinaryMissing) as caught:
        await BinaryFinder(tmp_path / "no").find()
    assert "npm install" in caught.value.message


@pytest.mark.parametrize("said", ["2.0.99 (Claude Code)", "1.9.9", "0.2.0 (Claude Code)"])
async def test_an_old_binary_is_refused_with_both_versions(script: Script, said: str) -> None:
    with pytest.raises(BinaryTooOld) as caught:
        await read_version(script(f"echo '{said}'"))
    assert caught.value.data["found"] == said.split(maxsplit=1)[0]
    assert caught.value.data["minimum"] == "2.1.0"


@pytest.mark.parametrize(
    "body",
    [
        "echo 'GNU bash'",
        "exit 3",
        "echo '2.1.9'; echo oops >&2; exit 1",
        "kill -9 $$",
        "true",
        "head -c 99999 /dev/urandom",
    ],
)
async def test_a_binary_that_tells_no_version_is_broken(script: Script, body: str) -> None:
    with pytest.raises(BinaryBroken):
        await read_version(script(body))


async def test_a_file_that_is_no_program_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "claude"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    with pytest.raises(BinaryBroken):
        await read_version(path)


async def test_a_file_that_is_not_executable_is_broken(script: Script) -> None:
    with pytest.raises(BinaryBroken) as caught:
        await read_version(script("echo '2.1.0'", mode=0o644))
    assert "chmod" in caught.value.message


async def test_a_binary_that_hangs_is_given_up(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "VERSION_TIMEOUT_S", 0.2)
    with trio.fail_after(10), pytest.raises(BinaryBroken):
        await read_version(script("exec sleep 600"))


async def test_the_version_is_read_once_and_again_when_the_file_changes(script: Script, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    finder = BinaryFinder(script(f"echo x >> {counter}; echo '2.1.5 (Claude Code)'"))
    assert await finder.find() == await finder.find()
    assert counter.read_text().count("x") == 1
    script(f"echo x >> {counter}; echo '2.1.66 (Claude Code)'")
    assert (await finder.find()).version == (2, 1, 66)
    assert counter.read_text().count("x") == 2
