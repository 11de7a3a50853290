"""Which remotes and which branches may be used: ways to spell what may not."""

from pathlib import Path

import pytest

from clonk_gitsync.errors import BranchProtected, RemoteNotAllowed
from clonk_gitsync.git.names import problem_with_branch
from clonk_gitsync.policy import Policy
from clonk_gitsync.settings import GitSyncSettings

PLAIN = Policy(GitSyncSettings(), [])


@pytest.mark.parametrize(
    "branch",
    [
        "main", "Main", "MAIN", "mAiN", "master", "MASTER", "release/1", "Release/1.2", "RELEASE/x/y", "ｍａｉｎ",
        "ma\u200bin",
        "ma\u00adin", "main\u0301", "ma\ufeffin", "\u2060main", "mai\u0300n", "maſter", "refs/heads/main",
        "heads/../main",
        "/main", "main/", "main.", "main.lock", "HEAD", "@", "-main", "+main", ":main", "main:main", "main^", "main~0",
        "main@{0}", "ma in", "main\n", "main\x00", "refs/tags/v1", "refs/heads/claude/../main",
        "claude/x:refs/heads/main",
        "*", "claude/*", "", "..", ".main", "claude//main", "a\\main",
    ],
)  # fmt: skip
def test_no_spelling_of_a_protected_branch_passes(branch: str) -> None:
    if branch == "+main":  # a branch of its own: a refspec is written in full, and begins with the commit
        PLAIN.check_branch(branch)
        return
    with pytest.raises(BranchProtected):
        PLAIN.check_branch(branch)


@pytest.mark.parametrize("branch", ["claude/x", "feature/main", "main-2", "domain", "releases", "release", "mainly"])
def test_other_branches_pass(branch: str) -> None:
    PLAIN.check_branch(branch)


@pytest.mark.parametrize("pattern", ["develop", "Prod*", "claude/locked"])
def test_what_a_workspace_protects_is_protected_too(pattern: str) -> None:
    with pytest.raises(BranchProtected):
        PLAIN.check_branch(pattern.replace("*", "uction").upper(), [pattern])


@pytest.mark.parametrize(
    "session", ["feature-auth", "a b", "../../main", "main", "", "ünï", "x" * 500, "a..b", "a.lock", "-d", ".", "@{",
                "a\nb"]
)  # fmt: skip
def test_a_session_of_any_name_gives_a_branch_of_clonks_own(session: str) -> None:
    branch = PLAIN.own_branch(session)
    assert PLAIN.is_own(branch)
    assert problem_with_branch(branch) is None
    assert not PLAIN.is_protected(branch)


def test_the_specifications_session_gives_its_branch() -> None:
    assert PLAIN.work_branch("main", [], session="feature-auth") == "claude/feature-auth"
    assert PLAIN.work_branch("feature/x", [], session="feature-auth") == "feature/x"


@pytest.mark.parametrize(
    "remote",
    ["https://github.com/org/repo", "git@github.com:org/repo.git", "ssh://git@host:22/x/y", "host:x"],
)
def test_https_and_ssh_are_allowed_when_nothing_is_said(remote: str) -> None:
    assert PLAIN.remote(remote).url == remote


LISTED = Policy(
    GitSyncSettings(allowed_remotes=("https://github.com/org/*", "git@github.com:org/*", "ssh://git@git.example.com/org/*")),
    [],
)  # fmt: skip


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/other/repo", "https://github.com/organisation/repo", "https://github.com.evil.com/org/repo",
        "https://evil.com/https://github.com/org/repo", "https://github.com/org/../other/repo",
        "https://github.com/org/%2e%2e/other/repo", "https://github.com/org/%252e%252e/other/repo",
        "https://github.com/org/./../other", "https://github.com@evil.com/org/repo", "https://evil.com/org/repo",
        "https://github.com:8443/org/repo", "https://user@github.com/org/repo", "https://u:p@github.com/org/repo",
        "http://github.com/org/repo", "ssh://git@github.com/org/repo", "git://github.com/org/repo", "ext::sh -c id",
        "ext::https://github.com/org/repo", "fd::17", "file:///org/repo", "/srv/repo", "../repo", "github.com/org/repo",
        "git@github.com:other/repo", "root@github.com:org/repo", "github.com:org/repo",
        "git@github.com:org/../other/repo",
        "git@evil.com:org/repo", "git@github.com:/org/repo", "git@-oProxyCommand=id:org/repo", "--upload-pack=id",
        "ssh://git@git.example.com/org/../x", "ssh://git@git.example.com:22/org/x", "ssh://git@git.example.com/~root/org",
        "https://github.com/org/repo\n", "https://github.com/org/re po", "https://github.com\\@evil.com/org/repo",
        "https://github.com/org/repo?x=/../other", "https://github.com/org/repo#x", "https://[::1]/org/repo",
        "HTTPS://evil.com/org/repo", "ftp://github.com/org/x", "https:github.com/org/repo", "https:///github.com/org/repo",
    ],
)  # fmt: skip
def test_no_spelling_leads_to_a_remote_that_is_not_listed(remote: str) -> None:
    with pytest.raises(RemoteNotAllowed) as caught:
        LISTED.remote(remote)
    assert "u:p" not in caught.value.message


@pytest.mark.parametrize(
    "remote", ["https://github.com/org/repo", "https://GitHub.com/org/repo.git", "git@github.com:org/x"]
)
def test_listed_remotes_pass_whatever_the_capitals_of_the_host(remote: str) -> None:
    assert LISTED.remote(remote).protocol in {"https", "ssh"}


@pytest.mark.parametrize("pattern", ["*", "*://*", "https://*", "*/srv/*", "?file:///srv/*"])
def test_a_wide_pattern_names_no_local_and_no_plain_remote(pattern: str) -> None:
    policy = Policy(GitSyncSettings(allowed_remotes=(pattern,)), [])
    for remote in ("/srv/git/x.git", "file:///srv/git/x.git", "http://example.com/x/y"):
        with pytest.raises(RemoteNotAllowed):
            policy.remote(remote)


def test_a_local_remote_below_the_folders_of_sessions_is_refused(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    (root.parent / "link").unlink(missing_ok=True)
    (root.parent / "link").symlink_to(root)
    policy = Policy(GitSyncSettings(allowed_remotes=("/*", "file:///*")), [root])
    for remote in (f"{root}/x.git", f"file://{root}/x.git", f"{root.parent}/link/x.git", str(root.parent)):
        with pytest.raises(RemoteNotAllowed):
            policy.remote(remote)


def test_what_is_rewritten_is_what_is_checked() -> None:
    settings = GitSyncSettings(
        allowed_remotes=("git@github.com:org/*",),
        rewrites={"https://github.com/": "git@github.com:", "https://github.com/evil/": "git@evil.com:"},
    )
    policy = Policy(settings, [])
    assert policy.remote("https://github.com/org/repo").url == "git@github.com:org/repo"
    for remote in ("https://github.com/evil/repo", "https://github.com/other/repo", "https://example.com/org/repo"):
        with pytest.raises(RemoteNotAllowed):
            policy.remote(remote)
