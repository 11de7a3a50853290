"""Ways to a protected branch or to a remote that is not allowed, each tried through the methods: none gets through.

After every attempt each ref of each remote is compared with before. What may appear is a branch that is not protected.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost
from tests.gitsync.conftest import OpenHost, Place, git

PROTECTED = ("main", "master", "release/1", "trunk", "develop", "qa/one")


class Fort(Place):
    """A remote with branches that are protected each in its own way, and others that are not allowed at all."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name in PROTECTED[1:]:
            git(self.bare, "branch", name, "main")
        git(self.bare, "symbolic-ref", "HEAD", "refs/heads/trunk")
        git(self.bare, "tag", "v1", "main")
        self.mark = folder / "ran"
        self.elsewhere = folder / "elsewhere.git"
        self.inside = self.root / "inside.git"
        for other in (self.elsewhere, self.inside):
            git(folder, "clone", "-q", "--bare", self.remote, str(other))
        self.before = self.all_refs()

    def all_refs(self) -> dict[str, dict[str, str]]:
        """Return the refs of every remote, allowed or not."""
        found = {}
        for bare in (self.bare, self.elsewhere, self.inside):
            lines = git(bare, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
            found[bare.name] = dict(line.split() for line in lines)
            found[bare.name]["HEAD"] = (bare / "HEAD").read_text()
        return found

    def check(self, way: str) -> None:
        """Nothing that is protected has moved, nothing has come that would be taken for it, and no program ran."""
        now = self.all_refs()
        for name in (self.elsewhere.name, self.inside.name):
            assert now[name] == self.before[name], way
        here = now[self.bare.name]
        assert {name: here.get(name) for name in self.before[self.bare.name]} == self.before[self.bare.name], way
        new = {name.removeprefix("refs/heads/") for name in here if name not in self.before[self.bare.name]}
        assert all(not name.startswith("refs/") for name in new), (way, new)
        assert not {name.casefold() for name in new} & {name.casefold() for name in PROTECTED}, (way, new)
        assert not self.mark.exists(), way


@pytest.fixture
def fort(tmp_path: Path) -> Fort:
    return Fort(tmp_path.resolve() / "fort")


async def opened(host: TestHost, fort: Fort, **more: Any) -> str:
    """Register the workspace, with something to push."""
    path = str(fort.work)
    params = {"branch": "main", "base": "develop", "protect": ["qa/*"], **more}
    await host.client.call("gitsync.register", path=path, remote=fort.remote, **params)
    (fort.work / "a.txt").write_text(f"{os.urandom(4).hex()}\n")
    git(fort.work, "commit", "-q", "-am", "to be pushed")
    return path


async def tried(host: TestHost, method: str, **params: Any) -> str | None:
    """Call, and return the kind of the refusal, None for none."""
    try:
        await host.client.call(f"gitsync.{method}", **params)
    except CallError as error:
        return error.kind
    return None


# ── By the name of a branch ───────────────────────────────────────────────────

NAMES = [
    *PROTECTED, "Main", "MAIN", "mAiN", "Master", "RELEASE/1", "Release/2.0", "release/x/y", "Trunk", "TRUNK",
    "Develop", "QA/one", "qa/new", "ｍａｉｎ", "ma\u200bin", "ma\u00adin", "main\u0301", "\ufeffmain", "maſter",
    "refs/heads/main", "refs/heads/claude/x", "refs/tags/v1", "refs/notes/x", "claude/x:refs/heads/main",
    "claude/x:main", ":main", ":refs/heads/main", "main:main", "HEAD", "@", "-d", "--delete", "--mirror", "--all",
    "--force", "main~0", "main^", "main^{}", "main@{0}", "main.", "main/", "/main", "main.lock", "main ", " main",
    "main\n", "main\0", "main\tx", "a\\..\\main", "claude/../main", "claude//../main", "./main", "../heads/main",
    "*", "claude/*", "ma?n", "ma[i]n", "", "main:", "main..x", "x y", "x" * 300,
]  # fmt: skip
HARMLESS = ["+main", "heads/main", "origin/main", "main-2", "claude/main", "remotes/origin/main", "^main", "main#x"]


@pytest.mark.parametrize("method", ["push", "push by force", "commit", "create_branch"])
async def test_no_name_given_to_a_call_leads_to_a_protected_branch(
    open_gitsync: OpenHost, fort: Fort, method: str
) -> None:
    async with open_gitsync(fort.settings()) as host:
        path = await opened(host, fort)
        for name in NAMES:
            (fort.work / "a.txt").write_text(f"{name!r}\n")
            kind = await tried(host, method.partition(" ")[0], path=path, **_named(method, name))
            if name in {"trunk", "Trunk", "TRUNK"} and method in {"commit", "create_branch"}:
                # Which branch is the remote's default one is asked when it is pushed to.
                assert await tried(host, "push", path=path, branch=name) == "gitsync.branch_protected"
            else:
                assert kind in {"gitsync.branch_protected", "invalid_params"}, name
            fort.check(f"{method} {name!r}")
        for name in HARMLESS:
            await tried(host, method.partition(" ")[0], path=path, **_named(method, name))
            fort.check(f"{method} {name!r}")


def _named(method: str, name: str) -> dict[str, Any]:
    params: dict[str, dict[str, Any]] = {
        "push": {"branch": name}, "push by force": {"branch": name, "force": True},
        "commit": {"branch": name, "message": "x"}, "create_branch": {"name": name},
    }  # fmt: skip
    return params[method]


async def test_no_name_that_is_registered_leads_there(open_gitsync: OpenHost, fort: Fort) -> None:
    async with open_gitsync(fort.settings()) as host:
        path = await opened(host, fort)
        more: dict[str, Any] = {"base": "develop", "protect": ["qa/*"]}
        for name in [*NAMES, *HARMLESS]:
            git(fort.work, "checkout", "-q", "-B", "start", fort.main)
            (fort.work / "a.txt").write_text(f"{name!r}\n")
            if await tried(host, "update", path=path, branch=name) is None:
                await tried(host, "sync", path=path)
                fort.check(f"update {name!r}")
            # The same at once, from nothing.
            await host.client.call("gitsync.unregister", path=path)
            if await tried(host, "register", path=path, remote=fort.remote, branch=name, **more) is None:
                await tried(host, "push", path=path, force=True)
                fort.check(f"register {name!r}")
            else:
                await host.client.call("gitsync.register", path=path, remote=fort.remote, branch="main", **more)


@pytest.mark.parametrize("prefix", ["release/", "main/"])
async def test_a_prefix_of_clonks_own_branches_that_is_protected_gives_no_way(
    open_gitsync: OpenHost, fort: Fort, prefix: str
) -> None:
    """Even the configuration cannot make a protected branch one of Clonk's own."""
    settings = fort.settings()
    settings["gitsync"] |= {"branch_prefix": prefix, "protected_branches": ["main", "main/*", "master", "release/*"]}
    async with open_gitsync(settings) as host:
        path = await opened(host, fort)
        calls: Calls = (("sync", {}), ("push", {}), ("push", {"force": True}), ("commit", {"message": "x"}))
        for method, more in calls:
            assert await tried(host, method, path=path, **more) == "gitsync.branch_protected"
        fort.check(prefix)


SESSIONS = ["main", "../main", "../../refs/heads/main", "x:refs/heads/main", "/main", "main.lock", "..", "", "-d",
            "--delete", "release/1", "*", "a\nmain", "ｍａｉｎ", "@{-1}", "HEAD"]  # fmt: skip


async def test_no_name_of_a_session_leads_there(open_gitsync: OpenHost, fort: Fort) -> None:
    async with open_gitsync(fort.settings()) as host:
        path = await opened(host, fort)
        for session in SESSIONS:
            git(fort.work, "checkout", "-q", "-B", "start", fort.main)
            (fort.work / "a.txt").write_text(f"{session!r}\n")
            made = await host.client.call("gitsync.commit", path=path, message="x", session=session)
            assert made["branch"].startswith("claude/"), session
            assert await tried(host, "push", path=path) in {None, "gitsync.push_rejected"}
            fort.check(f"session {session!r}")
            git(fort.work, "checkout", "-q", "-B", "start", fort.main)
            git(fort.work, "branch", "-q", "-D", made["branch"])


# ── By what a workspace holds ─────────────────────────────────────────────────

Prepare = Callable[[Fort], None]


def head(text: str) -> Prepare:
    def write(fort: Fort) -> None:
        (fort.work / ".git" / "HEAD").write_text(text)

    return write


def config(**settings: str) -> Prepare:
    def write(fort: Fort) -> None:
        for name, value in settings.items():
            git(fort.work, "config", name.replace("__", "."), value.format(fort=fort))

    return write


def file(name: str, text: str) -> Prepare:
    def write(fort: Fort) -> None:
        path = fort.work / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(fort=fort))
        path.chmod(0o755)

    return write


def by_git(*words: str) -> Prepare:
    def run(fort: Fort) -> None:
        git(fort.work, *(word.format(fort=fort) for word in words), check=False)

    return run


def at_the_remote(*words: str) -> Prepare:
    def run(fort: Fort) -> None:
        git(fort.bare, *words)
        fort.before = fort.all_refs()

    return run


Calls = tuple[tuple[str, dict[str, Any]], ...]

WORKSPACES: Mapping[str, Prepare] = {
    "HEAD is main": head("ref: refs/heads/main\n"),
    "HEAD is a protected branch": head("ref: refs/heads/release/1\n"),
    "HEAD leaves the own branches": head("ref: refs/heads/claude/../main\n"),
    "HEAD is a refspec": head("ref: refs/heads/claude/x:refs/heads/main\n"),
    "HEAD has two lines": head("ref: refs/heads/claude/x\nref: refs/heads/main\n"),
    "HEAD is no branch": head("ref: refs/tags/v1\n"),
    "HEAD is a remote's": head("ref: refs/remotes/origin/main\n"),
    "HEAD has other capitals": head("ref: refs/heads/Claude/../MAIN\n"),
    "the work branch means main": by_git("symbolic-ref", "refs/heads/claude/work", "refs/heads/main"),
    "the work branch means a remote's": by_git("symbolic-ref", "refs/heads/claude/work", "refs/remotes/origin/main"),
    "a tag has the work branch's name": by_git("tag", "claude/work"),
    "a ref has the whole name in its name": by_git("update-ref", "refs/heads/refs/heads/main", "HEAD"),
    "the commit is replaced": by_git("replace", "HEAD", "HEAD~1"),
    "a graft": file("info/grafts", "{fort.main}\n"),
    "pushes go to main": config(remote__origin__push="refs/heads/*:refs/heads/main"),
    "pushes go to all": config(remote__origin__push="+refs/heads/*:refs/heads/*", push__default="matching"),
    "pushes go upstream": config(push__default="upstream", branch__main__merge="refs/heads/main"),
    "pushes take tags": config(push__followTags="true"),
    "pushes mirror": config(remote__origin__mirror="true"),
    "pushes have options": config(push__pushOption="merge_request.create", push__gpgSign="true"),
    "pushes prune": config(fetch__prune="true", remote__origin__prune="true", push__autoSetupRemote="true"),
    "another URL": config(remote__origin__url="{fort.elsewhere}"),
    "another URL to push to": config(remote__origin__pushurl="{fort.elsewhere}"),
    "another remote to push to": config(remote__pushDefault="{fort.elsewhere}"),
    "the remote is rewritten": by_git("config", "url.{fort.elsewhere}.insteadOf", "{fort.remote}"),
    "pushes are rewritten": by_git("config", "url.{fort.elsewhere}.pushInsteadOf", "file://"),
    "a remote of that name": by_git("config", "remote.{fort.remote}.url", "{fort.elsewhere}"),
    "settings elsewhere": file("config.worktree", '[remote "origin"]\n\turl = {fort.elsewhere}\n'),
    "a program receives": config(remote__origin__receivepack="touch {fort.mark}; git-receive-pack"),
    "a program transports": config(remote__origin__vcs="ext", protocol__ext__allow="always"),
    "a hook pushes": file("hooks/reference-transaction", "#!/bin/sh\ntouch {fort.mark}\n"),
    "a hook before the push": file("hooks/pre-push", "#!/bin/sh\ntouch {fort.mark}\n"),
    "the folder of hooks": config(core__hooksPath="."),
    "a proxy": config(http__proxy="http://127.0.0.1:1", core__gitProxy="touch {fort.mark}"),
    "a remote of old": file("remotes/origin", "URL: {fort.elsewhere}\nPush: refs/heads/*:refs/heads/main\n"),
    "a branch of old": file("branches/origin", "{fort.elsewhere}#main\n"),
    "the branch there means main": at_the_remote("symbolic-ref", "refs/heads/claude/work", "refs/heads/main"),
    "the branch there is the default one": at_the_remote("symbolic-ref", "HEAD", "refs/heads/claude/work"),
    "the default branch is protected there": at_the_remote("symbolic-ref", "HEAD", "refs/heads/Claude/Work"),
}


async def test_nothing_that_a_workspace_holds_leads_there(open_gitsync: OpenHost, fort: Fort) -> None:
    first, pushed = fort.work, 0
    async with open_gitsync(fort.settings()) as host:
        for number, (way, prepare) in enumerate(WORKSPACES.items()):
            # Each on a workspace and a remote as they were.
            fort.work = fort.root / f"w{number}" / "work"
            git(fort.root, "clone", "-q", str(first), str(fort.work))
            path = await opened(host, fort)
            prepare(fort)
            for method, more in (("sync", {}), ("push", {"force": True})):
                pushed += await tried(host, method, path=path, **more) is None
                (fort.work / "a.txt").write_text(f"{way} {method}\n")
                fort.check(f"{way}: {method}")
            git(fort.bare, "symbolic-ref", "HEAD", "refs/heads/trunk")
            for name in set(fort.refs()) - {f"refs/heads/{one}" for one in PROTECTED} - {"refs/tags/v1"}:
                git(fort.bare, "update-ref", "--no-deref", "-d", name)
            fort.before = fort.all_refs()
    assert pushed > len(WORKSPACES), "most of them are pushed to a branch that is not protected"


# ── By the remote ─────────────────────────────────────────────────────────────

REMOTES = [
    "file://{fort.elsewhere}", "{fort.elsewhere}", "file://{fort.bare.parent}/../elsewhere.git",
    "{fort.bare.parent}/../elsewhere.git", "file://{fort.bare.parent}/%2e%2e/elsewhere.git",
    "file://{fort.bare.parent}/repo.git/../../elsewhere.git", "file://localhost{fort.elsewhere}",
    "file://{fort.bare.parent}//../elsewhere.git", "file:{fort.elsewhere}", "FILE://{fort.elsewhere}",
    "file://{fort.inside}", "{fort.inside}", "file://{fort.root}/x/../inside.git", "file://{fort.root}",
    "ext::git-receive-pack {fort.elsewhere}", "ext::touch {fort.mark}", "ext::sh -c touch% {fort.mark}", "fd::17",
    "--receive-pack=touch {fort.mark}", "-u{fort.mark}", "--upload-pack=touch {fort.mark}", "host:-oProxyCommand=x",
    "ssh://-oProxyCommand=touch {fort.mark}/x", "ssh://git@-oProxyCommand=x/y", "git@-oProxyCommand=x:y",
    "git://127.0.0.1/elsewhere.git", "http://127.0.0.1:1/elsewhere.git", "ftp://127.0.0.1/elsewhere.git",
    "https://u:p@127.0.0.1:1/x/y", "https://127.0.0.1:1/file://{fort.bare.parent}/repo.git", "git@127.0.0.1:x/y",
    "ssh://git@127.0.0.1:1/x/y", "https://127.0.0.1:1/x/y", "file://{fort.remote}", "file://file://{fort.bare}",
    "{fort.bare.parent}/repo.git\n{fort.elsewhere}", "file://{fort.bare.parent}/repo.git ", "../elsewhere.git", ".", "",
    "origin", "elsewhere.git", "~/elsewhere.git", "file://~/elsewhere.git", "file:///", "/", "bundle.x",
    "file://{fort.bare.parent}/link.git", "file://{fort.bare.parent}\\..\\elsewhere.git",
]  # fmt: skip


async def test_no_spelling_of_a_remote_leads_to_one_that_is_not_allowed(open_gitsync: OpenHost, fort: Fort) -> None:
    # What lies in the allowed folder leads back to where sessions work.
    (fort.bare.parent / "link.git").symlink_to(fort.inside)
    (fort.work / "a.txt").write_text("changed\n")
    settings = fort.settings()
    async with open_gitsync(settings) as host:
        path = str(fort.work)
        await host.client.call("gitsync.register", path=path, remote=fort.remote, branch="main")
        for number, one in enumerate(REMOTES):
            remote = one.format(fort=fort)
            for method, more in (
                ("update", {"path": path}),
                ("register", {"path": path, "branch": "main"}),
                ("register", {"path": str(fort.root), "branch": "main"}),
            ):
                kind = await tried(host, method, remote=remote, **more)
                assert kind in {"invalid_params", "gitsync.remote_not_allowed", "gitsync.already_registered"}, remote
            with pytest.raises(CallError) as caught:
                await host.client.events("gitsync.clone", remote=remote, path=str(fort.root / f"clone{number}"))
            assert caught.value.kind in {"invalid_params", "gitsync.remote_not_allowed"}, remote
            assert not (fort.root / f"clone{number}").exists()
            assert "u:p" not in caught.value.message
            fort.check(remote)
        (config,) = await host.client.call("gitsync.list")
        assert config["remote"] == fort.remote


async def test_a_remote_that_is_not_allowed_any_more_is_not_pushed_to(open_gitsync: OpenHost, fort: Fort) -> None:
    """What was registered before the configuration became narrower counts for nothing."""
    async with open_gitsync(fort.settings()) as host:
        path = await opened(host, fort)
    for allowed in ([], ["https://*"], ["file:///nowhere/*"], ["*"], [f"{fort.bare.parent}/*"]):
        settings = fort.settings()
        settings["gitsync"]["allowed_remotes"] = allowed
        async with open_gitsync(settings) as host:
            for method in ("sync", "push", "pull"):
                assert await tried(host, method, path=path) == "gitsync.remote_not_allowed", (method, allowed)
            fort.check(str(allowed))
    assert set(fort.refs()) == set(fort.before[fort.bare.name]) - {"HEAD"}


async def test_a_rewritten_remote_is_checked_as_what_it_becomes(open_gitsync: OpenHost, fort: Fort) -> None:
    settings = fort.settings()
    settings["gitsync"]["rewrites"] = {"https://example.com/": f"file://{fort.elsewhere.parent}/"}
    async with open_gitsync(settings) as host:
        for name in ("elsewhere.git", "root/inside.git", "remotes/../elsewhere.git"):
            kind = await tried(
                host, "register", path=str(fort.work), remote=f"https://example.com/{name}", branch="main"
            )
            assert kind in {"gitsync.remote_not_allowed", "invalid_params"}, name
        fort.check("rewrites")


@pytest.mark.parametrize("way", ["outside", "link", "dots", "pointer", "common dir", "objects"])
async def test_no_path_leads_to_the_repository_of_somebody_else(
    open_gitsync: OpenHost, fort: Fort, tmp_path: Path, way: str
) -> None:
    """Somebody's repository outside the roots must not be committed in, nor pushed to a remote of the caller's."""
    theirs = tmp_path / "theirs"
    git(tmp_path, "clone", "-q", fort.remote, str(theirs))
    (theirs / "secret").write_text("secret\n")
    git(theirs, "add", ".")
    git(theirs, "commit", "-q", "-m", "secret")
    commit, path = git(theirs, "rev-parse", "HEAD"), fort.root / "way"
    if way == "outside":
        path = theirs
    elif way == "link":
        path.symlink_to(theirs)
    elif way == "dots":
        path = fort.root / ".." / ".." / "theirs"
    else:
        path.mkdir()
        git(path, "init", "-q", "-b", "work")
        if way == "pointer":
            (path / ".git").rename(tmp_path / "old")
            (path / ".git").write_text(f"gitdir: {theirs}/.git\n")
        elif way == "common dir":
            (path / ".git" / "commondir").write_text(f"{theirs}/.git\n")
        else:
            (path / ".git" / "objects" / "info" / "alternates").write_text(f"{theirs}/.git/objects\n")
            (path / ".git" / "refs" / "heads" / "work").write_text(f"{commit}\n")
    async with open_gitsync(fort.settings()) as host:
        registered = await tried(host, "register", path=str(path), remote=fort.remote, branch="stolen")
        for method, more in (("sync", {}), ("commit", {"message": "x"}), ("push", {}), ("diff", {}), ("log", {})):
            kind = await tried(host, method, path=str(path), **more)
            expected = "gitsync.not_a_repository" if registered is None else "gitsync.not_registered"
            assert kind == expected, method
    assert git(theirs, "rev-parse", "HEAD") == commit
    assert git(theirs, "for-each-ref", "refs/heads/stolen") == ""
    fort.check(way)
    assert "refs/heads/stolen" not in fort.refs()
