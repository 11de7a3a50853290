"""Whatever a workspace's own settings and files say, none of its programs runs, and nothing goes elsewhere."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost
from tests.gitsync.conftest import OpenHost, Place, git


def config(name: str, value: str = "{program}") -> Callable[[Path, Path], None]:
    def set_it(work: Path, program: Path) -> None:
        git(work, "config", name, value.format(program=program))

    return set_it


def hook(name: str) -> Callable[[Path, Path], None]:
    def place_it(work: Path, program: Path) -> None:
        target = work / ".git" / "hooks" / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(program.read_text())
        target.chmod(0o755)

    return place_it


def attribute(line: str, *settings: str) -> Callable[[Path, Path], None]:
    def place_it(work: Path, program: Path) -> None:
        (work / ".git" / "info").mkdir(exist_ok=True)
        for place in (work / ".gitattributes", work / ".git" / "info" / "attributes"):
            place.write_text(f"a.txt {line}\n")
        for setting in settings:
            git(work, "config", setting, str(program))

    return place_it


def included(work: Path, program: Path) -> None:
    (work / "more.config").write_text(f"[core]\n\tfsmonitor = {program}\n\tsshCommand = {program}\n")
    git(work, "config", "include.path", "../more.config")


def worktree_config(work: Path, program: Path) -> None:
    git(work, "config", "extensions.worktreeConfig", "true")
    (work / ".git" / "config.worktree").write_text(f"[core]\n\tfsmonitor = {program}\n\thooksPath = {program.parent}\n")


def hostile_submodule(work: Path, program: Path) -> None:
    inner = work / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    git(inner, "commit", "-q", "--allow-empty", "-m", "x")
    git(inner, "config", "core.fsmonitor", str(program))
    (work / ".gitmodules").write_text(
        f'[submodule "inner"]\n\tpath = inner\n\turl = ext::{program}\n\tupdate = !{program}\n'
    )
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{git(inner, 'rev-parse', 'HEAD')},inner")


def promisor(work: Path, program: Path) -> None:
    git(work, "config", "core.repositoryFormatVersion", "1")
    git(work, "config", "extensions.partialClone", "origin")
    git(work, "config", "remote.origin.promisor", "true")
    git(work, "config", "remote.origin.url", f"ext::{program}")


SETTINGS = [
    "core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.askPass", "core.gitProxy",
    "core.alternateRefsCommand", "sequence.editor", "credential.helper", "diff.external", "gpg.program",
    "gpg.ssh.program", "uploadpack.packObjectsHook", "interactive.diffFilter", "pager.diff", "pager.log",
    "pager.status",
    "remote.origin.receivepack", "remote.origin.uploadpack", "protocol.ext.allow", "alias.commit-tree", "ssh.variant",
    "merge.tool", "init.templateDir", "core.hooksPath", "trailer.x.command", "man.viewer", "web.browser",
]  # fmt: skip
HOOKS = [
    "pre-commit", "commit-msg", "prepare-commit-msg", "post-commit", "pre-push", "reference-transaction",
    "post-index-change",
    "post-checkout", "post-merge", "fsmonitor-watchman", "post-rewrite", "pre-auto-gc", "update", "push-to-checkout",
]  # fmt: skip


def together(*ways: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    def do_all(work: Path, program: Path) -> None:
        for way in ways:
            way(work, program)

    return do_all


WAYS = {
    "settings": together(*(config(name) for name in SETTINGS)),
    "hooks": together(*(hook(name) for name in HOOKS)),
    "hooks elsewhere": config("core.hooksPath", "{program.parent}"),
    "signing": config("commit.gpgSign", "true"),
    "a filter that cleans": attribute("filter=x", "filter.x.clean", "filter.x.smudge"),
    "a filter that is a process": attribute("filter=x", "filter.x.process"),
    "a driver of diffs": attribute("diff=x", "diff.x.command", "diff.x.textconv"),
    "a driver of merges": attribute("merge=x", "merge.x.driver"),
    "an included file": included,
    "settings of a work tree": worktree_config,
    "settings of a submodule": hostile_submodule,
    "objects that are to be fetched": promisor,
}


@pytest.fixture
def trap(tmp_path: Path) -> tuple[Path, Path]:
    """A program that leaves a mark when it runs, and the mark."""
    mark, program = tmp_path / "ran", tmp_path / "programs" / "trap"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    program.chmod(0o755)
    for name in HOOKS:
        (program.parent / name).symlink_to(program)
    return program, mark


async def test_the_trap_works_when_git_is_run_by_hand(place: Place, trap: tuple[Path, Path]) -> None:
    program, mark = trap
    config("core.fsmonitor")(place.work, program)
    git(place.work, "status")
    assert mark.exists()


async def test_no_program_of_a_workspace_ever_runs(host: TestHost, place: Place, trap: tuple[Path, Path]) -> None:
    """Each way in turn on one host: every method that works on files, and the push."""
    program, mark = trap
    for number, (name, prepare) in enumerate(WAYS.items()):
        work = place.root / f"w{number}"
        git(place.root, "clone", "-q", place.remote, str(work))
        prepare(work, program)
        mark.unlink(missing_ok=True)
        path = str(work)
        await host.client.call("gitsync.register", path=path, remote=place.remote, branch=f"way/{number}")
        (work / "a.txt").write_text(f"{number}\n")
        (work / "b.txt").write_text("b\n")
        await host.client.call("gitsync.status", path=path)
        await host.client.call("gitsync.diff", path=path)
        answer = await host.client.call("gitsync.sync", path=path)
        await host.client.call("gitsync.log", path=path)
        assert answer["status"] == "pushed", name
        assert not mark.exists(), name
    assert place.refs()["refs/heads/main"] == place.main
    assert set(place.refs()) == {"refs/heads/main", *(f"refs/heads/way/{number}" for number in range(len(WAYS)))}


@pytest.mark.parametrize(
    "setting",
    [
        "url.{elsewhere}.insteadOf={remote}",
        "url.{elsewhere}.pushInsteadOf={remote}",
        "remote.origin.pushurl={elsewhere}",
        "remote.origin.url={elsewhere}",
        "remote.pushDefault={elsewhere}",
        "branch.main.pushRemote={elsewhere}",
    ],
)
async def test_a_workspace_cannot_lead_a_push_elsewhere(registered: TestHost, place: Place, setting: str) -> None:
    elsewhere = place.bare.with_name("elsewhere.git")
    elsewhere.mkdir()
    git(elsewhere, "init", "-q", "--bare")
    name, _, value = setting.format(elsewhere=elsewhere, remote=place.remote).partition("=")
    git(place.work, "config", name, value)
    (place.work / "a.txt").write_text("changed\n")
    assert (await registered.client.call("gitsync.sync", path=str(place.work)))["status"] == "pushed"
    assert git(elsewhere, "for-each-ref") == ""
    assert "refs/heads/claude/work" in place.refs()


@pytest.mark.parametrize("setting", ["push.default=matching", "push.followTags=true", "remote.origin.mirror=true",
                                     "remote.origin.push=+refs/heads/*:refs/heads/*"])  # fmt: skip
async def test_a_workspace_cannot_have_more_pushed_than_its_branch(
    registered: TestHost, place: Place, setting: str
) -> None:
    name, _, value = setting.partition("=")
    git(place.work, "config", name, value)
    (place.work / "a.txt").write_text("changed\n")
    git(place.work, "commit", "-q", "-am", "on main")
    git(place.work, "tag", "-a", "-m", "x", "v1")
    await registered.client.call("gitsync.sync", path=str(place.work))
    assert place.refs()["refs/heads/main"] == place.main
    assert set(place.refs()) == {"refs/heads/main", "refs/heads/claude/work"}


async def test_names_that_a_workspace_gives_to_branches_and_tags_do_not_confuse(
    registered: TestHost, place: Place
) -> None:
    """A tag of the work branch's name, one named as a ref, and a replacement of the commit."""
    git(place.work, "tag", "claude/work")
    git(place.work, "update-ref", "refs/tags/refs/heads/claude/work", place.main)
    git(place.work, "update-ref", "refs/heads/refs/heads/main", place.main)
    (place.work / "a.txt").write_text("changed\n")
    assert (await registered.client.call("gitsync.sync", path=str(place.work)))["status"] == "pushed"
    assert set(place.refs()) == {"refs/heads/main", "refs/heads/claude/work"}


async def test_a_work_branch_that_is_another_name_of_main_here_does_not_move_main_there(
    registered: TestHost, place: Place
) -> None:
    git(place.work, "symbolic-ref", "refs/heads/claude/work", "refs/heads/main")
    (place.work / "a.txt").write_text("changed\n")
    await registered.client.call("gitsync.sync", path=str(place.work))
    assert place.refs()["refs/heads/main"] == place.main


async def test_a_branch_of_the_remote_that_is_another_name_of_main_is_not_pushed_to(
    registered: TestHost, place: Place
) -> None:
    git(place.bare, "symbolic-ref", "refs/heads/claude/work", "refs/heads/main")
    (place.work / "a.txt").write_text("changed\n")
    with pytest.raises(CallError) as caught:
        await registered.client.call("gitsync.sync", path=str(place.work))
    assert caught.value.kind == "gitsync.branch_protected"
    assert place.refs()["refs/heads/main"] == place.main


async def test_objects_of_other_repositories_cannot_be_borrowed(
    registered: TestHost, place: Place, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    git(secret, "init", "-q")
    (place.work / ".git" / "objects" / "info" / "alternates").write_text(f"{secret}/.git/objects\n")
    for target in ("status", "diff", "sync", "log"):
        if target == "status":
            assert (await registered.client.call("gitsync.status", path=str(place.work)))["status"] == "missing"
            continue
        with pytest.raises(CallError) as caught:
            await registered.client.call(f"gitsync.{target}", path=str(place.work))
        assert caught.value.kind == "gitsync.not_a_repository"


@pytest.mark.parametrize("part", ["objects", ".git", "objects/pack"])
async def test_parts_of_a_repository_that_are_links_are_refused(
    registered: TestHost, place: Place, tmp_path: Path, part: str
) -> None:
    target = place.work / ".git" if part == ".git" else place.work / ".git" / part
    target.rename(tmp_path / "moved")
    target.symlink_to(tmp_path / "moved")
    with pytest.raises(CallError) as caught:
        await registered.client.call("gitsync.sync", path=str(place.work))
    assert caught.value.kind == "gitsync.not_a_repository"


async def test_a_link_is_committed_as_a_link_and_nothing_behind_it(
    registered: TestHost, place: Place, tmp_path: Path
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("the secret")
    (place.work / "link").symlink_to(tmp_path / "secret")
    (place.work / "folder").mkdir()
    (place.work / "folder" / "key").write_text("x")
    git(place.work, "add", ".")
    (place.work / "folder" / "key").unlink()
    (place.work / "folder").rmdir()
    (place.work / "folder").symlink_to(tmp_path / "secret")
    await registered.client.call("gitsync.sync", path=str(place.work))
    listed = git(place.bare, "ls-tree", "-r", "claude/work")
    assert "key" not in listed
    assert listed.count("120000 blob") == 2
    diff = await registered.client.call("gitsync.diff", path=str(place.work), against=place.main)
    assert "the secret" not in diff


async def test_stripping_takes_remotes_and_helpers_away_and_the_push_still_works(
    open_gitsync: OpenHost, place: Place
) -> None:
    for name, value in (
        ("remote.origin.url", "https://x:token@example.com/a/b"),
        ("credential.helper", "store"),
        ("credential.https://example.com.helper", "store"),
        ("url.https://token@example.com/.insteadOf", "https://example.com/"),
        ("http.https://example.com/.extraHeader", "Authorization: token"),
        ("branch.main.remote", "origin"),
        ("user.name", "stays"),
    ):
        git(place.work, "config", name, value)
    settings = place.settings()
    settings["gitsync"]["strip_remotes"] = True
    async with open_gitsync(settings) as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        text = (place.work / ".git" / "config").read_text()
        assert "token" not in text
        assert "example.com" not in text
        assert "store" not in text
        assert git(place.work, "config", "user.name") == "stays"
        (place.work / "a.txt").write_text("changed\n")
        assert (await host.client.call("gitsync.sync", path=str(place.work)))["status"] == "pushed"
