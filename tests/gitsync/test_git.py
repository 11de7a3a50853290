"""The runner: limits, cancellation, and an environment of its own."""

import os
from pathlib import Path

import pytest
import trio

from clonk_gitsync.git.process import Git, GitFailed, GitMissing, GitTooMuch, GitTooSlow


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path)


def programs(tmp_path: Path, text: str) -> Git:
    """A git that is a script of ours: it starts a child and waits."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").write_text(text)
    (folder / "git").chmod(0o755)
    return Git(tmp_path, {"PATH": f"{folder}:{os.environ['PATH']}"})


async def wait_gone(file: Path) -> None:
    pid = int(file.read_text())
    with trio.fail_after(10):
        while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]:
            await trio.sleep(0.01)


SLOW = "#!/bin/sh\nsleep 1000 &\necho $! > {mark}.part\nmv {mark}.part {mark}\nwait\n"


async def test_what_takes_too_long_ends_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    with pytest.raises(GitTooSlow):
        await programs(tmp_path, SLOW.format(mark=mark)).run("x", cwd=tmp_path, limit_s=1)
    await wait_gone(mark)


async def test_what_is_cancelled_ends_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    slow = programs(tmp_path, SLOW.format(mark=mark))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: slow.run("x", cwd=tmp_path))
        with trio.fail_after(10):
            while not mark.exists():
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    await wait_gone(mark)


async def test_what_says_too_much_is_ended(tmp_path: Path) -> None:
    with pytest.raises(GitTooMuch):
        await programs(tmp_path, "#!/bin/sh\nexec yes\n").run("x", cwd=tmp_path, max_output=10_000)


async def test_the_environment_is_built_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_CONFIG_COUNT", "HTTPS_PROXY", "SECRET_OF_THE_HUB", "SSH_AUTH_SOCK", "GIT_EXEC_PATH"):
        monkeypatch.setenv(name, "planted")
    done = await programs(tmp_path, "#!/bin/sh\nexec env\n").run("x", cwd=tmp_path)
    assert "planted" not in done.text
    assert f"HOME={tmp_path}" in done.text


async def test_failures_tell_gits_own_words_and_what_is_missing_is_told(git: Git, tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match="nonsense"):
        await git.run("nonsense", cwd=tmp_path)
    with pytest.raises(GitMissing):
        await Git(tmp_path, {"PATH": "/nonexistent"}).run("version", cwd=tmp_path)
    with pytest.raises(GitFailed):
        await git.run("version", cwd=tmp_path / "none")


@pytest.mark.parametrize("url", ["ext::touch {mark}", "file:///nowhere", "https://example.com/x", "ssh://h/x"])
async def test_no_transport_is_allowed_unless_it_is_named(git: Git, tmp_path: Path, url: str) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(GitFailed, match="not allowed"):
        await git.run("ls-remote", url.format(mark=mark), cwd=tmp_path, options=["protocol.ext.allow=always"])
    assert not mark.exists()
