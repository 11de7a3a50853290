"""What a checkpoint holds, and what putting it back changes."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.checkpoints.repository import NoRepository
from clonk_claudecode.checkpoints.worktrees import add_worktree, remove_worktree
from clonk_claudecode.errors import NoCheckpoint, NotRestorable
from clonk_claudecode.store.fork_rows import StoredWorktree


def state_of(repo: Any) -> tuple[bytes, str, str]:
    """What a checkpoint must not touch: the index, HEAD and the branches."""
    return ((repo.path / ".git/index").read_bytes(), repo.git("rev-parse", "HEAD"), repo.git("branch", "-a", "-v"))


async def test_it_holds_tracked_and_new_files_and_leaves_index_and_branches_alone(recording: Any, repo: Any) -> None:
    repo.write("a.txt", "changed\n")
    repo.write("staged.txt", "staged\n")
    repo.git("add", "staged.txt")
    repo.write("new dir/ne w\n.txt", "new\n")
    repo.write("x.log", "ignored\n")
    (repo.path / "sub/b.txt").unlink()
    before = state_of(repo)

    made = await recording.record()

    assert state_of(repo) == before
    listed = repo.git("ls-tree", "-r", "-z", "--name-only", made.commit_id).rstrip("\0").split("\0")
    assert listed == [".gitignore", "a.txt", "new dir/ne w\n.txt", "staged.txt"]
    assert repo.git("show", f"{made.commit_id}:a.txt") == "changed"
    assert repo.git("rev-parse", f"{made.commit_id}^") == made.head_id == before[1]
    assert repo.git("rev-parse", "refs/clonk/checkpoints/sess_one/1") == made.commit_id
    assert made.left_out_count == 0


async def test_files_go_back_and_what_is_ignored_stays(recording: Any, repo: Any) -> None:
    repo.write("new.txt", "new\n")
    repo.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    (repo.path / "link").symlink_to("a.txt")
    first = await recording.record()
    at_first = repo.files()
    repo.write("a.txt", "later\n")
    (repo.path / "new.txt").unlink()
    (repo.path / "link").unlink()
    repo.write("link/now/a/folder.txt", "x\n")
    (repo.path / "run.sh").chmod(0o644)
    repo.write("made-later.txt", "x\n")
    repo.write("x.log", "ignored\n")
    repo.commit("in between")
    second = await recording.record()
    at_second = repo.files()
    untouched = state_of(repo)

    before = await recording.restore(first)

    assert repo.files() == at_first | {"x.log": "ignored\n"}
    assert (repo.path / "run.sh").stat().st_mode & stat.S_IXUSR
    assert state_of(repo) == untouched
    await recording.restore(before)
    assert repo.files() == at_second
    assert before.commit_id == second.commit_id


async def test_what_was_not_recorded_is_recorded_before_files_go_back(recording: Any, repo: Any) -> None:
    first = await recording.record()
    repo.write("a.txt", "typed by hand\n")
    repo.write("unsaved.txt", "typed by hand\n")

    before = await recording.restore(first)

    assert repo.files()["a.txt"] == "one\n"
    assert "unsaved.txt" not in repo.files()
    assert repo.git("show", f"{before.commit_id}:unsaved.txt") == "typed by hand"


async def test_an_ignored_file_where_the_checkpoint_has_one_is_recorded_before_it_gives_way(
    recording: Any, repo: Any
) -> None:
    repo.write("out/x", "recorded\n")
    first = await recording.record()
    repo.write(".gitignore", "out/\n")
    repo.write("out/x", "built since\n")
    repo.write("out/y", "built since\n")
    second = await recording.record()
    assert "out/x" not in repo.git("ls-tree", "-r", "--name-only", second.commit_id)

    before = await recording.restore(first)

    assert repo.files()["out/x"] == "recorded\n"
    assert repo.files()["out/y"] == "built since\n"
    assert repo.git("show", f"{before.commit_id}:out/x") == "built since"


async def test_ignored_files_in_a_folder_where_the_checkpoint_has_a_file_are_not_lost(
    recording: Any, repo: Any
) -> None:
    repo.write("out", "a file\n")
    first = await recording.record()
    (repo.path / "out").unlink()
    repo.write("out/x.log", "ignored\n")
    repo.write("out/y.txt", "not ignored\n")
    files = repo.files()

    with pytest.raises(NotRestorable, match=r"x\.log"):
        await recording.restore(first)
    assert repo.files() == files


async def test_nothing_is_written_through_a_link_that_stands_in_the_way(
    recording: Any, repo: Any, tmp_path: Path
) -> None:
    repo.write("out/passwd", "recorded\n")
    first = await recording.record()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "passwd").write_text("not ours\n")
    (repo.path / "out/passwd").unlink()
    (repo.path / "out").rmdir()
    (repo.path / "out").symlink_to(outside)

    before = await recording.restore(first)  # the link is recorded, and gives way
    assert repo.files()["out/passwd"] == "recorded\n"
    await recording.restore(before)
    repo.write(".gitignore", "out\n")
    with pytest.raises(NotRestorable, match="out"):  # an ignored link is not
        await recording.restore(first)
    assert (outside / "passwd").read_text() == "not ours\n"


async def test_a_file_behind_a_link_is_not_read(recording: Any, repo: Any, tmp_path: Path) -> None:
    await recording.record()
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "b.txt").write_text("secret\n")
    (repo.path / "sub/b.txt").unlink()
    (repo.path / "sub").rmdir()
    (repo.path / "sub").symlink_to(secret)

    made = await recording.record()

    assert repo.git("ls-tree", "-r", made.commit_id, "sub").startswith("120000 ")


async def test_contents_are_byte_for_byte_whatever_attributes_say(recording: Any, repo: Any) -> None:
    repo.write(".gitattributes", "* text=auto eol=lf ident\n*.u working-tree-encoding=UTF-16\n")
    given = {"crlf.txt": b"a\r\nb\r\n$Id$\n", "x.u": b"\xff\xfea\x00", "bin": bytes(range(256))}
    for name, content in given.items():
        (repo.path / name).write_bytes(content)
    first = await recording.record()
    for name in given:
        (repo.path / name).write_bytes(b"other")

    await recording.restore(first)

    assert {name: (repo.path / name).read_bytes() for name in given} == given


async def test_nothing_that_the_repository_configures_is_run(
    recording: Any, repo: Any, tmp_path: Path, diary: Any
) -> None:
    trap = tmp_path / "trap"
    script = tmp_path / "trap.sh"
    script.write_text(f'#!/bin/sh\necho "$0 $@" >> {trap}\ncat\n')
    script.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in ("post-checkout", "reference-transaction", "post-index-change", "pre-commit", "fsmonitor-watchman"):
        (hooks / hook).symlink_to(script)
        (repo.path / ".git/hooks" / hook).unlink(missing_ok=True)
        (repo.path / ".git/hooks" / hook).symlink_to(script)
    first = await recording.record()
    for name, value in {
        "core.hooksPath": str(hooks),
        "core.fsmonitor": str(script),
        "core.sshCommand": str(script),
        "core.editor": str(script),
        "core.pager": str(script),
        "diff.external": str(script),
        "gpg.program": str(script),
        "commit.gpgSign": "true",
        "filter.evil.clean": str(script),
        "filter.evil.smudge": str(script),
        "filter.evil.process": str(script),
        "filter.evil.required": "true",
        "diff.evil.textconv": str(script),
        "merge.evil.driver": str(script),
        "core.worktree": "/",
        "extensions.partialClone": "origin",
        "remote.origin.url": f"ext::{script}",
        "remote.origin.promisor": "true",
    }.items():
        repo.git("config", name, value)
    repo.write(".gitattributes", "* filter=evil diff=evil merge=evil\n")
    repo.write("a.txt", "changed\n")
    repo.write("new.txt", "new\n")
    trap.unlink(missing_ok=True)

    second = await recording.record()
    await recording.restore(first)
    await recording.restore(second)
    top = tmp_path / "roots" / "worktree"
    git_dir = repo.path / ".git"
    folder = await add_worktree(recording.checkpoints, "sess_two", git_dir, second, top)
    assert (folder / "new.txt").read_text() == "new\n"
    made = StoredWorktree(repository=str(git_dir), top=str(top), commit_id=second.commit_id)
    assert await remove_worktree(recording.checkpoints, made, "sess_two", force=False, log=diary)
    await recording.checkpoints.refs.forget("sess_one", [str(git_dir)])

    assert repo.files()["a.txt"] == "changed\n"
    assert not top.exists()
    assert not trap.exists()
    repo.git("config", "--unset", "core.worktree")
    repo.git("add", "a.txt", check=False)
    assert trap.exists(), "the trap would not have shown anything"


async def test_large_and_unreadable_files_are_left_out_said_and_left_alone(
    open_recording: Callable[..., Any], repo: Any
) -> None:
    recording = await open_recording(repo.path, max_file_bytes=1000)
    first = await recording.record()
    repo.write("large.bin", "x" * 1001)
    repo.write("a.txt", "y" * 1001)
    os.mkfifo(repo.path / "pipe")

    made = await recording.record()

    assert made.left_out == ("a.txt", "large.bin")
    with pytest.raises(NotRestorable, match=r"a\.txt"):  # it is nowhere else
        await recording.restore(first)
    repo.write("a.txt", "short\n")
    await recording.restore(first)
    assert repo.files()["large.bin"] == "x" * 1001
    assert repo.files()["a.txt"] == "one\n"
    assert (repo.path / "pipe").exists()


async def test_more_changes_than_the_limit_make_no_checkpoint_and_the_turn_is_not_harmed(
    open_recording: Callable[..., Any], repo: Any, diary: Any
) -> None:
    recording = await open_recording(repo.path, max_bytes=100)
    repo.write("a.txt", "x" * 101)
    assert await recording.checkpoints.after_turn(recording.session, "sub_1", "node_1") is None
    assert "max_bytes" in str(diary.lines)


async def test_a_turn_without_changes_adds_no_objects(recording: Any, repo: Any) -> None:
    first = await recording.record()
    count = repo.git("count-objects")
    second = await recording.record()
    assert repo.git("count-objects") == count
    assert (second.commit_id, second.number) == (first.commit_id, 2)


async def test_changes_of_the_same_size_within_one_clock_tick_are_seen(recording: Any, repo: Any) -> None:
    path = repo.write("a.txt", "aaaa\n")
    await recording.record()
    status = path.stat()
    path.write_text("bbbb\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    made = await recording.record()
    assert repo.git("show", f"{made.commit_id}:a.txt") == "bbbb"


async def test_only_the_session_s_own_folder_of_a_repository_is_recorded_and_put_back(
    open_recording: Callable[..., Any], repo: Any
) -> None:
    repo.write("sub/.hidden/x", "x\n")
    recording = await open_recording(repo.path / "sub")
    first = await recording.record()
    assert repo.git("ls-tree", "-r", "--name-only", first.commit_id).split() == ["sub/.hidden/x", "sub/b.txt"]
    repo.write("sub/b.txt", "changed\n")
    repo.write("a.txt", "changed\n")
    repo.write("sub/y.log", "ignored by the rules at the top\n")

    await recording.restore(first)

    assert repo.files()["sub/b.txt"] == "two\n"
    assert repo.files()["a.txt"] == "changed\n"
    assert "sub/y.log" in repo.files()


async def test_a_tracked_file_that_the_rules_ignore_is_recorded(recording: Any, repo: Any) -> None:
    repo.write("forced.log", "one\n")
    repo.git("add", "-f", "forced.log")
    repo.commit()
    first = await recording.record()
    repo.write("forced.log", "two\n")
    await recording.restore(first)
    assert repo.files()["forced.log"] == "one\n"


async def test_an_index_in_two_parts_and_a_sparse_checkout_do_no_harm(recording: Any, repo: Any) -> None:
    repo.git("update-index", "--split-index")
    repo.git("sparse-checkout", "set", "--no-cone", "/a.txt")
    assert "sub/b.txt" not in repo.files()
    first = await recording.record()
    repo.write("a.txt", "changed\n")
    await recording.restore(first)
    assert repo.files() == {"a.txt": "one\n"}


async def test_a_repository_that_was_made_anew_is_recorded_anew(recording: Any, repo: Any) -> None:
    first = await recording.record()
    await recording.record()
    (repo.path / ".git").rename(repo.path.parent / "old.git")
    repo.git("init", "-q", "-b", "main")
    made = await recording.record()
    assert made.head_id is None
    assert repo.git("show", f"{made.commit_id}:a.txt") == "one"
    repo.git("fsck", "--full")
    with pytest.raises(NoCheckpoint):
        await recording.restore(first)


async def test_objects_that_the_repository_has_lost_are_written_again(recording: Any, repo: Any) -> None:
    repo.write("new.txt", "new\n")
    first = await recording.record()
    repo.git("update-ref", "-d", "refs/clonk/checkpoints/sess_one/1")
    repo.git("gc", "-q", "--prune=now")
    with pytest.raises(NoCheckpoint):
        await recording.restore(first)
    made = await recording.record()
    assert repo.git("show", f"{made.commit_id}:new.txt") == "new"
    assert repo.git("fsck", "--full", "--connectivity-only") == ""


async def test_a_lock_that_a_killed_git_has_left_in_our_folder_is_no_hindrance(recording: Any, repo: Any) -> None:
    await recording.record()
    (recording.checkpoints.folder_of("sess_one") / "index.lock").touch()
    repo.write("a.txt", "changed\n")
    await recording.record()


async def test_refs_are_removed_with_the_session(recording: Any, repo: Any) -> None:
    made = await recording.record()
    await recording.checkpoints.refs.forget("sess_one", [made.repository, "/nonexistent/repository"])
    assert repo.git("for-each-ref", "refs/clonk") == ""


async def test_without_git_there_is_no_checkpoint_and_one_line_in_the_log(
    open_recording: Callable[..., Any], repo: Any, diary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    recording = await open_recording(repo.path)
    for _turn in range(2):
        assert await recording.checkpoints.after_turn(recording.session, "sub_1", "node_1") is None
    assert [line[1] for line in diary.lines] == ["no checkpoints: there is no git on PATH"]


async def test_what_takes_too_long_is_given_up_and_goes_on_the_next_time(
    open_recording: Callable[..., Any], repo: Any, diary: Any
) -> None:
    recording = await open_recording(repo.path, timeout_s=0.001)
    assert await recording.checkpoints.after_turn(recording.session, "sub_1", "node_1") is None
    assert "took too long" in str(diary.lines)
    assert (await recording.record()).number == 1


async def test_a_folder_in_no_repository_has_none(open_recording: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "roots" / "plain"
    folder.mkdir(parents=True)
    recording = await open_recording(folder)
    assert await recording.checkpoints.after_turn(recording.session, "sub_1", "node_1") is None


@pytest.mark.parametrize("way", ["above", "pointer", "link", "objects"])
async def test_a_repository_outside_of_the_roots_is_not_used(
    open_recording: Callable[..., Any], tmp_path: Path, repo: Any, way: str
) -> None:
    folder = tmp_path / "roots" / "mine"
    folder.mkdir()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    repo.git("init", "-q", cwd=foreign)
    if way == "above":
        repo.git("init", "-q", cwd=tmp_path)
    elif way == "pointer":
        (folder / ".git").write_text(f"gitdir: {foreign}/.git\n")
    elif way == "link":
        (folder / ".git").symlink_to(foreign / ".git")
    else:
        repo.git("init", "-q", cwd=folder)
        (folder / ".git/objects").rename(folder / ".git/objects.old")
        (folder / ".git/objects").symlink_to(foreign / ".git/objects")
    recording = await open_recording(folder)
    with pytest.raises(NoRepository):
        await recording.record()


async def test_a_worktree_of_a_subfolder_has_what_was_committed_around_it(
    open_recording: Callable[..., Any], repo: Any, tmp_path: Path, diary: Any
) -> None:
    recording = await open_recording(repo.path / "sub")
    repo.write("sub/new.txt", "new\n")
    made = await recording.record()
    repo.write("a.txt", "changed outside, later\n")
    top = tmp_path / "roots" / "worktree"
    folder = await add_worktree(recording.checkpoints, "sess_two", repo.path / ".git", made, top)
    assert folder == top / "sub"
    assert (top / "a.txt").read_text() == "one\n"
    assert {path.name for path in folder.iterdir()} == {"b.txt", "new.txt"}
    assert repo.git("status", "--porcelain", cwd=top) == "?? sub/new.txt"
    again = await open_recording(folder, name="two")
    (folder / "new.txt").write_text("newer\n")
    later = await again.record()
    assert repo.git("ls-tree", "-r", "--name-only", later.commit_id).split() == ["sub/b.txt", "sub/new.txt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="is about a server that runs as root")
async def test_root_works_on_a_repository_as_its_owner(recording: Any, repo: Any, tmp_path: Path, diary: Any) -> None:
    nobody = 65534
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    for path in (repo.path, *repo.path.rglob("*")):
        os.chown(path, nobody, nobody, follow_symlinks=False)
    first = await recording.record()
    (repo.path / "a.txt").write_text("changed\n")
    os.chown(repo.path / "a.txt", nobody, nobody)
    await recording.record()
    await recording.restore(first)
    assert {path.lstat().st_uid for path in repo.path.rglob("*")} == {nobody}
    top = tmp_path / "roots" / "worktree"
    folder = await add_worktree(recording.checkpoints, "sess_two", repo.path / ".git", first, top)
    assert {path.lstat().st_uid for path in (top, *top.rglob("*"))} == {nobody}
    made = StoredWorktree(repository=str(repo.path / ".git"), top=str(top), commit_id=first.commit_id)
    assert await remove_worktree(recording.checkpoints, made, "sess_two", force=False, log=diary)
    assert not folder.exists()
