"""Remotes and branches are judged by their form; branches as git itself judges them."""

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clonk_gitsync.git.names import problem_with_branch, problem_with_remote


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/org/repo.git",
        "https://git.example.com:8443/group/sub/repo",
        "https://[::1]:8443/repo.git",
        "ssh://git@github.com/org/repo.git",
        "ssh://git@git.example.com:2222/~user/repo",
        "git@github.com:org/repo.git",
        "github.com:org/repo.git",
        "git@host_alias:repo",
        "git@10.0.0.1:/srv/git/repo.git",
    ],
)
def test_the_three_plain_forms_of_a_remote_pass(remote: str) -> None:
    assert problem_with_remote(remote) is None


@pytest.mark.parametrize(
    "remote",
    [
        "",
        "repo",
        "/srv/git/repo.git",
        "./repo",
        "file:///srv/git/repo.git",
        "http://example.com/repo.git",
        "git://example.com/repo.git",
        "ext::sh -c id",
        "ext::id",
        "fd::17",
        "transport::https://example.com/repo.git",
        "--upload-pack=id",
        "-oProxyCommand=id:repo",
        "-git@example.com:repo",
        "git@-oProxyCommand=id:repo",
        "ssh://-oProxyCommand=id/repo",
        "ssh://git@-oProxyCommand=id/repo",
        "ssh://git@example.com/-repo",
        "git@example.com:-repo",
        "git@example.com:",
        "https://example.com",
        "https://example.com/",
        "https:///repo.git",
        "https://example.com:0/repo.git",
        "https://example.com:99999/repo.git",
        "https://example.com:port/repo.git",
        "https://user:secret@example.com/repo.git",
        "https://token@example.com/repo.git",
        "ssh://git:secret@example.com/repo.git",
        "https://example.com/repo.git?token=secret",
        "https://example.com/repo.git#main",
        "https://exam ple.com/repo.git",
        "git@example.com:re po",
        "git@example.com:repo\n",
        "git@example.com:repo\x00",
        "git@example.com:repo\x1b[2J",
        "git@example.com:repo\u2028",
        "https://[::1/repo.git",
        "https://example.com\\@evil.example/repo.git",
        "https://example.com/" + "a" * 2048,
    ],
)
def test_any_other_remote_is_refused(remote: str) -> None:
    assert problem_with_remote(remote) is not None


def test_what_is_wrong_with_a_remote_never_repeats_its_password() -> None:
    problem = problem_with_remote("https://user:hunter2@example.com/repo.git")
    assert problem is not None
    assert "hunter2" not in problem


def git_accepts(branch: str) -> bool:
    command = ["git", "check-ref-format", "refs/heads/" + branch]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "branch",
    [
        "main",
        "feature/auth",
        "claude/feature-auth",
        "v1.2.3",
        "a@b",
        "ünïcode",
        "under_score",
        "a/b/c/d",
        "x.locked",
        "{}",
    ],
)
def test_what_git_accepts_as_a_branch_passes(branch: str) -> None:
    assert git_accepts(branch)
    assert problem_with_branch(branch) is None


@pytest.mark.parametrize(
    "branch",
    [
        "", "a b", "a..b", "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "/a", "a/", "a//b", ".a", "a/.b", "a.lock",
        "a.lock/b", "a.", "a@{b", "a\x7fb", "a\tb", "a\nb",
    ],
)  # fmt: skip
def test_what_git_refuses_as_a_branch_is_refused(branch: str) -> None:
    assert not git_accepts(branch)
    assert problem_with_branch(branch) is not None


@pytest.mark.parametrize("branch", ["-", "--delete", "-d", "@", "HEAD", "refs/heads/main", "a" * 201, "ü" * 101])
def test_names_that_would_be_misread_or_do_not_fit_are_refused_too(branch: str) -> None:
    assert problem_with_branch(branch) is not None


@settings(max_examples=150, deadline=None)
@given(branch=st.text(alphabet="ab./-@{}~^:?*[\\ lock\x01\x7fé", min_size=1, max_size=10))
def test_no_branch_passes_that_git_would_refuse_and_none_is_refused_without_need(branch: str) -> None:
    stricter = branch.startswith(("-", "refs/")) or branch in {"@", "HEAD"}
    assert (problem_with_branch(branch) is None) == (git_accepts(branch) and not stricter)


def test_every_refusal_of_a_branch_says_what_is_wrong_in_words() -> None:
    problem = problem_with_branch("a b")
    assert problem is not None
    assert re.search("space", problem)
