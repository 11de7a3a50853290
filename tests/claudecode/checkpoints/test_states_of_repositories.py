"""Repositories in every state that git knows: each is recorded and put back, or refused with nothing changed."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.checkpoints.repository import NoRepository
from clonk_claudecode.errors import NotRestorable


async def test_no_commit_yet(open_recording: Callable[..., Any], tmp_path: Path, repo: Any) -> None:
    repo.path = tmp_path / "roots" / "fresh"
    repo.path.mkdir()
    repo.git("init", "-q", "-b", "main")
    repo.write("a.txt", "one\n")
    recording = await open_recording(repo.path)
    first = await recording.record()
    assert first.head_id is None
    repo.write("a.txt", "two\n")
    await recording.restore(first)
    assert repo.files() == {"a.txt": "one\n"}
    assert repo.git("status", "--porcelain") == "?? a.txt"


async def test_an_empty_repository(open_recording: Callable[..., Any], tmp_path: Path, repo: Any) -> None:
    repo.path = tmp_path / "roots" / "fresh"
    repo.path.mkdir()
    repo.git("init", "-q", "-b", "main")
    recording = await open_recording(repo.path)
    first = await recording.record()
    repo.write("x/a.txt", "two\n")
    await recording.restore(first)
    assert repo.files() == {}


async def test_a_detached_head_stays_where_it_is(recording: Any, repo: Any) -> None:
    repo.git("checkout", "-q", "--detach")
    first = await recording.record()
    repo.write("a.txt", "two\n")
    repo.commit("on no branch")
    head = repo.git("rev-parse", "HEAD")
    await recording.restore(first)
    assert repo.files()["a.txt"] == "one\n"
    assert repo.git("rev-parse", "HEAD") == head
    assert repo.git("symbolic-ref", "-q", "HEAD", check=False) == ""


async def test_a_bare_repository_is_not_recorded(open_recording: Callable[..., Any], tmp_path: Path, repo: Any) -> None:
    bare = tmp_path / "roots" / "bare.git"
    repo.git("clone", "-q", "--bare", str(repo.path), str(bare))
    for folder in (bare, bare / "objects"):
        recording = await open_recording(folder, name=folder.name)
        with pytest.raises(NoRepository, match="bare"):
            await recording.record()


async def test_submodules_and_nested_repositories_are_left_alone_and_said(
    recording: Any, repo: Any, tmp_path: Path
) -> None:
    library = tmp_path / "roots" / "library"
    library.mkdir()
    repo.git("init", "-q", "-b", "main", cwd=library)
    (library / "l.txt").write_text("library\n")
    repo.git("add", "-A", cwd=library)
    repo.git("commit", "-q", "-m", "x", cwd=library)
    repo.git("submodule", "add", "-q", str(library), "lib")
    repo.commit("with a submodule")
    nested = repo.path / "nested"
    nested.mkdir()
    repo.git("init", "-q", cwd=nested)
    (nested / "n.txt").write_text("nested\n")

    first = await recording.record()
    assert set(first.left_out) == {"lib/", "nested/"}
    repo.write("a.txt", "two\n")
    repo.write("lib/l.txt", "changed in the submodule\n")
    repo.write("nested/n.txt", "changed in the nested one\n")
    await recording.restore(first)

    assert repo.files()["a.txt"] == "one\n"
    assert (repo.path / "lib/l.txt").read_text() == "changed in the submodule\n"
    assert (repo.path / "nested/n.txt").read_text() == "changed in the nested one\n"


async def test_a_session_in_a_submodule_records_the_submodule(
    open_recording: Callable[..., Any], repo: Any, tmp_path: Path
) -> None:
    library = tmp_path / "roots" / "library"
    repo.git("clone", "-q", str(repo.path), str(library))
    repo.git("submodule", "add", "-q", str(library), "lib")
    recording = await open_recording(repo.path / "lib")
    first = await recording.record()
    repo.write("lib/a.txt", "two\n")
    await recording.restore(first)
    assert repo.files()["lib/a.txt"] == "one\n"


def conflict(repo: Any, *command: str) -> None:
    """Bring the repository into the middle of something."""
    repo.git("checkout", "-q", "-b", "other")
    repo.write("a.txt", "theirs\n")
    repo.commit("theirs")
    repo.git("checkout", "-q", "main")
    repo.write("a.txt", "ours\n")
    repo.commit("ours")
    repo.git(*command, check=False)


@pytest.mark.parametrize(
    ("operation", "command"),
    [
        ("merge", ("merge", "other")),
        ("rebase", ("rebase", "other")),
        ("cherry-pick", ("cherry-pick", "other")),
        ("revert", ("revert", "--no-edit", "HEAD^")),
        ("bisect", ("bisect", "start")),
    ],
)
async def test_in_the_middle_of_something_files_are_recorded_and_not_put_back(
    recording: Any, repo: Any, operation: str, command: tuple[str, ...]
) -> None:
    first = await recording.record()
    conflict(repo, *command)
    index = (repo.path / ".git/index").read_bytes()
    files = repo.files()

    made = await recording.record()

    assert repo.git("show", f"{made.commit_id}:a.txt") == files["a.txt"].rstrip("\n")
    with pytest.raises(NotRestorable, match=operation):
        await recording.restore(first)
    assert repo.files() == files
    assert (repo.path / ".git/index").read_bytes() == index


async def test_while_another_git_is_at_work_files_are_not_put_back(recording: Any, repo: Any) -> None:
    first = await recording.record()
    (repo.path / ".git/index.lock").touch()
    with pytest.raises(NotRestorable, match="another git"):
        await recording.restore(first)


async def test_a_repository_with_sha256(open_recording: Callable[..., Any], tmp_path: Path, repo: Any) -> None:
    repo.path = tmp_path / "roots" / "sha256"
    repo.path.mkdir()
    made = subprocess.run(["git", "init", "-q", "--object-format=sha256", str(repo.path)], check=False)
    if made.returncode != 0:
        pytest.skip("this git knows no sha256")
    repo.write("a.txt", "one\n")
    recording = await open_recording(repo.path)
    first = await recording.record()
    assert len(first.commit_id) == 64
    repo.write("a.txt", "two\n")
    await recording.restore(first)
    assert repo.files() == {"a.txt": "one\n"}


async def test_a_broken_repository_makes_no_checkpoint(recording: Any, repo: Any, diary: Any) -> None:
    (repo.path / ".git/HEAD").write_text("garbage\n")
    assert await recording.checkpoints.after_turn(recording.session, "sub_1", "node_1") is None
    assert "no checkpoint" in str(diary.lines)
