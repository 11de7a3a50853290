"""Pulls that are more than a step forward: merges, rebases, what is in their way, and what cuts them off."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost
from tests.gitsync.conftest import OpenHost, Place, git, keep_secret

LONG = "".join(f"line {number}\n" for number in range(20))


class Two:
    """The place's workspace on `topic`, and a second clone by which the remote's main moves on."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.work = place.work
        (place.work / "long.txt").write_text(LONG)
        self.commit(place.work, "a long file")
        git(place.work, "push", "-q", place.remote, "main")
        self.other = place.root.parent / "other"
        git(place.root.parent, "clone", "-q", str(place.bare), str(self.other))
        git(place.work, "checkout", "-q", "-b", "topic")

    @staticmethod
    def commit(folder: Path, message: str) -> str:
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", message)
        return git(folder, "rev-parse", "HEAD")

    def theirs(self, files: dict[str, str | bytes], message: str = "theirs") -> str:
        self.write(self.other, files)
        commit = self.commit(self.other, message)
        git(self.other, "push", "-q", "--force", "origin", "HEAD:main")
        return commit

    def ours(self, files: dict[str, str | bytes], message: str = "ours") -> str:
        self.write(self.work, files)
        return self.commit(self.work, message)

    @staticmethod
    def write(folder: Path, files: dict[str, str | bytes]) -> None:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def state(self) -> tuple[str, ...]:
        """Everything of the workspace that a pull could change."""
        files = sorted(
            (str(one.relative_to(self.work)), one.read_bytes().hex())
            for one in self.work.rglob("*")
            if one.is_file() and ".git" not in one.parts
        )
        return (
            git(self.work, "for-each-ref"), git(self.work, "symbolic-ref", "HEAD"), git(self.work, "ls-files", "-s"),
            git(self.work, "status", "--porcelain"), repr(files),
        )  # fmt: skip

    def log(self) -> list[str]:
        return git(self.work, "log", "--first-parent", "--format=%s").splitlines()


@pytest.fixture
def two(place: Place) -> Two:
    return Two(place)


@pytest.fixture
async def host(open_gitsync: OpenHost, two: Two) -> Any:
    async with open_gitsync() as opened:
        await opened.client.call(
            "gitsync.register", path=str(two.work), remote=two.place.remote, branch="topic", base="main"
        )
        yield opened


async def pull(host: TestHost, two: Two, mode: str, branch: str = "main") -> Any:
    return await host.client.call("gitsync.pull", path=str(two.work), branch=branch, mode=mode)


async def refused(host: TestHost, two: Two, mode: str, kind: str) -> Any:
    """Pull, have it refused, and see that nothing has changed."""
    before = two.state()
    with pytest.raises(CallError) as caught:
        await pull(host, two, mode)
    assert caught.value.kind == kind
    assert two.state() == before
    return caught.value.data


@pytest.mark.parametrize("mode", ["ff", "merge", "rebase"])
async def test_what_only_has_to_go_forward_does_so_in_every_mode(host: TestHost, two: Two, mode: str) -> None:
    tip = two.theirs({"b.txt": "b\n"})
    answer = await pull(host, two, mode)
    assert (answer["updated"], answer["commit"]) == (True, tip)
    assert git(two.work, "rev-parse", "topic") == tip
    assert git(two.work, "status", "--porcelain") == ""
    assert (await pull(host, two, mode))["updated"] is False


async def test_a_merge_joins_both_sides_and_keeps_uncommitted_changes(host: TestHost, two: Two) -> None:
    tip = two.theirs({"long.txt": LONG.replace("line 1\n", "their line\n"), "deep/b.txt": "b\n"})
    ours = two.ours({"long.txt": LONG.replace("line 18\n", "our line\n")})
    two.write(two.work, {"a.txt": "not committed\n", "new.txt": "unknown\n"})
    answer = await pull(host, two, "merge")
    assert answer == {
        "updated": True, "before": ours, "commit": git(two.work, "rev-parse", "topic"), "branch": "main"
    }  # fmt: skip
    assert git(two.work, "log", "-1", "--format=%P|%an|%cn|%s") == (
        f"{ours} {tip}|Clonk|Clonk|Merge branch 'main' of the remote into topic"
    )
    text = (two.work / "long.txt").read_text()
    assert "their line\n" in text
    assert "our line\n" in text
    assert git(two.work, "status", "--porcelain").splitlines() == ["M a.txt", "?? new.txt"]
    assert (two.work / "deep" / "b.txt").read_text() == "b\n"
    pushed = await host.client.call("gitsync.push", path=str(two.work))
    assert (pushed["pushed"], pushed["branch"]) == (True, "topic")
    assert two.place.refs()["refs/heads/main"] == tip


async def test_a_rebase_puts_our_commits_on_theirs_by_their_authors(host: TestHost, two: Two) -> None:
    tip = two.theirs({"long.txt": LONG.replace("line 1\n", "their line\n")})
    two.ours({"long.txt": LONG.replace("line 18\n", "our line\n")}, "ours 1\n\nwith a body")
    two.ours({"name\nwith newline": "x\n"}, "ours 2")
    git(two.work, "commit", "-q", "--allow-empty", "-m", "empty on purpose")
    answer = await pull(host, two, "rebase")
    assert answer["updated"] is True
    assert two.log() == ["empty on purpose", "ours 2", "ours 1", "theirs", "a long file", "first"]
    assert git(two.work, "rev-parse", "topic~3") == tip
    assert git(two.work, "log", "-1", "--format=%an|%ae|%cn|%B", "topic~2") == (
        "A Person|person@example.com|Clonk|ours 1\n\nwith a body"
    )
    assert git(two.work, "status", "--porcelain") == ""
    git(two.work, "fsck", "--strict")


async def test_a_rebase_keeps_a_messages_own_encoding_and_drops_what_the_remote_has(host: TestHost, two: Two) -> None:
    two.ours({"same.txt": "same\n"}, "the same change")
    (two.work / "c.txt").write_text("c\n")
    git(two.work, "add", "-A")
    message = two.place.root / "message"
    message.write_bytes("Größe\n".encode("latin-1"))
    git(two.work, "-c", "i18n.commitEncoding=latin-1", "commit", "-q", "-F", str(message))
    two.theirs({"same.txt": "same\n"}, "the same change, there")
    await pull(host, two, "rebase")
    assert two.log() == ["Größe", "the same change, there", "a long file", "first"]
    assert "encoding latin-1" in git(two.work, "cat-file", "commit", "HEAD")


@pytest.mark.parametrize("mode", ["merge", "rebase"])
@pytest.mark.parametrize(
    ("theirs", "ours", "paths"),
    [
        ({"a.txt": "theirs\n", "z.txt": "z\n"}, {"a.txt": "ours\n"}, ["a.txt"]),
        ({"b.bin": b"\0theirs"}, {"b.bin": b"\0ours"}, ["b.bin"]),
        ({"-x": "theirs\n", "name\nx": "theirs\n"}, {"-x": "ours\n", "name\nx": "ours\n"}, ["-x", "name\nx"]),
    ],
    ids=["text", "binary", "odd names"],
)
async def test_a_conflict_changes_nothing_and_tells_the_files(
    host: TestHost, two: Two, mode: str, theirs: Any, ours: Any, paths: list[str]
) -> None:
    two.theirs(theirs)
    first = two.ours(ours)
    two.write(two.work, {"new.txt": "unknown\n"})
    data = await refused(host, two, mode, "gitsync.merge_conflict")
    assert (data["paths"], data["commit"]) == (paths, first if mode == "rebase" else None)


async def test_a_later_commit_that_conflicts_undoes_the_whole_rebase(host: TestHost, two: Two) -> None:
    two.theirs({"a.txt": "theirs\n"})
    two.ours({"fine.txt": "x\n"})
    second = two.ours({"a.txt": "ours\n"})
    data = await refused(host, two, "rebase", "gitsync.merge_conflict")
    assert data["commit"] == second


@pytest.mark.parametrize("mode", ["merge", "rebase"])
@pytest.mark.parametrize("known", [True, False], ids=["changed", "untracked"])
async def test_files_that_would_be_lost_stop_a_pull_and_are_named(
    host: TestHost, two: Two, mode: str, known: bool
) -> None:
    name = "long.txt" if known else "deep/new.txt"
    two.theirs({name: "theirs\n"})
    two.ours({"ours.txt": "ours\n"})
    two.write(two.work, {name: "not committed\n"})
    data = await refused(host, two, mode, "gitsync.workspace_busy")
    assert (data["state"], data["paths"]) == ("dirty", [name])


@pytest.mark.parametrize("is_folder", [True, False], ids=["a folder for a file", "a file for a folder"])
async def test_files_and_folders_of_one_name_stop_a_pull_and_are_named(
    host: TestHost, two: Two, is_folder: bool
) -> None:
    theirs, here = ("name", "name/here.txt") if is_folder else ("name/theirs.txt", "name")
    two.theirs({theirs: "theirs\n"})
    two.write(two.work, {here: "not committed\n"})
    data = await refused(host, two, "ff", "gitsync.workspace_busy")
    assert (data["state"], data["paths"]) == ("dirty", [theirs])


async def test_a_head_that_names_no_branch_is_refused(host: TestHost, two: Two) -> None:
    (two.work / ".git" / "HEAD").write_text("ref: refs/heads/../../../../etc/passwd\n")
    with pytest.raises(CallError) as caught:
        await host.client.call("gitsync.pull", path=str(two.work))
    assert caught.value.kind in {"invalid_params", "gitsync.git_failed"}


async def test_a_branch_that_is_moved_meanwhile_stays_and_the_files_are_put_back(
    open_gitsync: OpenHost, two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.theirs({"b.txt": "b\n", "long.txt": "theirs\n"})
    two.ours({"c.txt": "c\n"})
    moved = git(two.work, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "moved")
    two.write(two.work, {"a.txt": "not committed\n"})
    before = two.state()
    git_that(tmp_path, monkeypatch, "update-ref --no-deref", f'"$real" update-ref refs/heads/topic {moved}')
    async with open_gitsync() as host:
        await host.client.call("gitsync.register", path=str(two.work), remote=two.place.remote, branch="topic")
        with pytest.raises(CallError) as caught:
            await pull(host, two, "merge")
    monkeypatch.undo()
    assert caught.value.kind == "gitsync.branch_diverged"
    assert git(two.work, "rev-parse", "topic") == moved
    assert two.state()[1:] == before[1:]


async def test_a_file_in_the_way_that_is_what_shall_be_there_stops_nothing(host: TestHost, two: Two) -> None:
    two.theirs({"new.txt": "theirs\n", "a.txt": "theirs\n"})
    two.write(two.work, {"new.txt": "theirs\n", "a.txt": "theirs\n"})
    assert (await pull(host, two, "ff"))["updated"] is True
    assert git(two.work, "status", "--porcelain") == ""


async def test_fast_forward_refuses_what_has_diverged_and_names_the_other_modes(host: TestHost, two: Two) -> None:
    two.theirs({"b.txt": "b\n"})
    two.ours({"c.txt": "c\n"})
    await refused(host, two, "ff", "gitsync.branch_diverged")
    with pytest.raises(CallError) as caught:
        await pull(host, two, "octopus")
    assert caught.value.kind == "invalid_params"


async def test_nothing_is_joined_on_a_protected_branch(host: TestHost, two: Two) -> None:
    git(two.work, "checkout", "-q", "main")
    two.theirs({"b.txt": "b\n"})
    two.ours({"c.txt": "c\n"})
    for mode in ("merge", "rebase"):
        await refused(host, two, mode, "gitsync.branch_protected")


@pytest.mark.parametrize("retried", [False, True], ids=["at once", "after a conflict"])
async def test_a_rebase_does_not_bring_back_what_the_remote_has_rewritten(
    host: TestHost, two: Two, retried: bool
) -> None:
    two.theirs({"dropped.txt": "a mistake\n"}, "dropped")
    await pull(host, two, "ff")
    two.ours({"ours.txt": "ours\n"})
    git(two.other, "reset", "-q", "--hard", "HEAD^")
    two.theirs({"b.txt": "b\n", **({"ours.txt": "theirs\n"} if retried else {})}, "instead")
    if retried:
        await refused(host, two, "rebase", "gitsync.merge_conflict")
        git(two.other, "rm", "-q", "ours.txt")
        two.theirs({}, "out of the way")
    await pull(host, two, "rebase")
    assert "dropped" not in two.log()
    assert two.log()[:2] == (["ours", "out of the way"] if retried else ["ours", "instead"])
    assert not (two.work / "dropped.txt").exists()


async def test_a_rewritten_branch_without_work_of_ours_is_followed_by_a_rebase_alone(host: TestHost, two: Two) -> None:
    two.theirs({"dropped.txt": "a mistake\n"}, "dropped")
    await pull(host, two, "ff")
    git(two.other, "reset", "-q", "--hard", "HEAD^")
    tip = two.theirs({"b.txt": "b\n"}, "instead")
    await refused(host, two, "ff", "gitsync.branch_diverged")
    assert (await pull(host, two, "rebase"))["commit"] == tip
    assert "dropped" in git(two.work, "log", "-g", "--format=%s", "topic")


async def test_a_rebase_takes_no_merges_apart_and_nothing_joins_strangers(host: TestHost, two: Two) -> None:
    two.theirs({"b.txt": "b\n"})
    two.ours({"c.txt": "c\n"})
    await pull(host, two, "merge")
    two.theirs({"d.txt": "d\n"})
    await refused(host, two, "rebase", "gitsync.branch_diverged")
    git(two.other, "checkout", "-q", "--orphan", "fresh")
    two.theirs({"e.txt": "e\n"})
    for mode in ("merge", "rebase"):
        await refused(host, two, mode, "gitsync.branch_diverged")


@pytest.mark.parametrize("mode", ["merge", "rebase"])
async def test_drivers_hooks_and_filters_of_the_workspace_do_not_run(
    host: TestHost, two: Two, tmp_path: Path, mode: str
) -> None:
    mark = tmp_path / "mark"
    program = f"sh -c 'touch {mark}; exit 1'"
    attributes = "*.txt merge=mine filter=mine diff=mine\n"
    two.ours({".gitattributes": attributes, "long.txt": LONG.replace("line 18\n", "our line\n")})
    (two.work / ".git" / "info").mkdir(exist_ok=True)
    (two.work / ".git" / "info" / "attributes").write_text(attributes)
    for name in (
        "merge.mine.driver", "merge.mine.recursive", "merge.default", "filter.mine.smudge", "filter.mine.clean",
        "filter.mine.process", "diff.mine.command", "diff.mine.textconv", "core.fsmonitor", "core.sshCommand",
    ):  # fmt: skip
        git(two.work, "config", name, "mine" if name == "merge.default" else program)
    for hook in ("post-merge", "post-checkout", "pre-rebase", "post-rewrite", "reference-transaction"):
        script = two.work / ".git" / "hooks" / hook
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\ntouch {mark}\n")
        script.chmod(0o755)
    two.theirs({"long.txt": LONG.replace("line 1\n", "their line\n"), "b.txt": "b\n"})
    assert (await pull(host, two, mode))["updated"] is True
    assert not mark.exists()
    assert "their line" in (two.work / "long.txt").read_text()


async def test_what_is_joined_is_signed_too(open_gitsync: OpenHost, two: Two, tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen (openssh-client)")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    await keep_secret(tmp_path, key.read_text(), "signing")
    two.ours({"ours.txt": "ours\n"})
    two.theirs({"b.txt": "b\n"})
    async with open_gitsync(signing_key="signing") as host:
        await host.client.call("gitsync.register", path=str(two.work), remote=two.place.remote, branch="topic")
        await pull(host, two, "rebase")
        assert "gpgsig" in git(two.work, "cat-file", "commit", "HEAD")
        two.theirs({"c.txt": "c\n"})
        await pull(host, two, "merge")
    assert "gpgsig" in git(two.work, "cat-file", "commit", "HEAD")


def git_that(folder: Path, monkeypatch: pytest.MonkeyPatch | None, command: str, does: str) -> str:
    """Put the real git behind a script that does something at one subcommand; return the PATH that finds it."""
    script = folder / "bin" / "git"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\nreal={shutil.which("git")}\ncase " $* " in\n*" {command} "*) {does} ;;\nesac\nexec "$real" "$@"\n'
    )
    script.chmod(0o755)
    path = f"{script.parent}:{os.environ['PATH']}"
    if monkeypatch is not None:
        monkeypatch.setenv("PATH", path)
    return path


@pytest.mark.parametrize("command", ["merge-tree --write-tree", "read-tree -m"])
async def test_a_pull_that_is_cancelled_is_whole_or_not_at_all(
    open_gitsync: OpenHost, two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    two.theirs({"b.txt": "b\n", "long.txt": "theirs\n"})
    two.ours({"c.txt": "c\n"})
    before = two.state()
    reached, go_on = tmp_path / "reached", tmp_path / "go_on"
    git_that(tmp_path, monkeypatch, command, f"touch {reached}; while ! test -e {go_on}; do sleep 0.02; done")
    async with open_gitsync() as host:
        await host.client.call("gitsync.register", path=str(two.work), remote=two.place.remote, branch="topic")
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pull, host, two, "merge")
                while not reached.exists():
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
                if command.startswith("read-tree"):
                    go_on.touch()
    monkeypatch.undo()
    if command.startswith("read-tree"):
        assert two.log()[0].startswith("Merge branch")
        assert git(two.work, "status", "--porcelain") == ""
    else:
        assert two.state() == before


KILLED = """
import sys, trio
from pathlib import Path
from clonk_core.testing.host import open_host
async def main(folder, path, remote, root, allowed):
    settings = {"workspaces": {"roots": [root]}, "gitsync": {"allowed_remotes": [allowed]}}
    async with open_host(Path(folder), packages=["gitsync"], settings=settings) as host:
        await host.client.call("gitsync.register", path=path, remote=remote, branch="topic")
        await host.client.call("gitsync.pull", path=path, branch="main", mode="merge")
trio.run(main, *sys.argv[1:])
"""


async def test_a_pull_whose_server_is_killed_half_way_is_finished_by_the_next_one(
    open_gitsync: OpenHost, two: Two, tmp_path: Path
) -> None:
    two.theirs({"b.txt": "b\n", "long.txt": "theirs\n", "deep/c.txt": "c\n"})
    git(two.other, "rm", "-q", "a.txt")
    two.theirs({"d.txt": "d\n"})
    two.ours({"e.txt": "e\n"})
    path = git_that(tmp_path, None, "update-ref --no-deref", "kill -9 $PPID; exit 1")
    words = (tmp_path / "host", two.work, two.place.remote, two.place.root, f"file://{two.place.bare.parent}/*")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, words)], env={**os.environ, "PATH": path}, capture_output=True,
        check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == -9, done.stderr.decode()
    assert two.log()[0] == "ours"
    assert (two.work / "b.txt").exists()
    async with open_gitsync() as host:
        answer = await pull(host, two, "merge")
        status = await host.client.call("gitsync.status", path=str(two.work))
    assert answer["updated"] is True
    assert status["status"] == "no_remote"
    assert git(two.work, "status", "--porcelain") == ""
    assert two.log()[0].startswith("Merge branch")
    assert not (two.work / "a.txt").exists()
