"""Takes remotes, rewritten URLs and credential helpers out of a workspace's own settings (`gitsync.strip_remotes`)."""

import os
import re
from pathlib import Path
from typing import Final

import trio

from clonk_gitsync.git.process import Git, owner_of
from clonk_gitsync.git.refs import NotPlain, read_plain
from clonk_gitsync.git.repository import Repository

NAMES: Final = (b"remote", b"url", b"credential", b"branch", b"http", b"include")
SECTIONS: Final = re.compile(r"(remote|url|credential|branch|http|include|includeif)(\..*)?", re.IGNORECASE | re.DOTALL)
"""Sections that go, by their whole name. `branch` and `http` tell of remotes and hold headers with tokens, an included
file may hold any of them."""


async def strip(git: Git, repository: Repository) -> None:
    """Remove the sections from the repository's settings, its work tree's own among them.

    Raises:
        GitFailed: The file is none that git can read.
    """
    owner = await trio.to_thread.run_sync(owner_of, repository.top)
    for file in {repository.common_dir / "config", repository.git_dir / "config.worktree"}:
        if not await trio.to_thread.run_sync(os.path.lexists, file):
            continue
        if not await trio.to_thread.run_sync(_may_hold, file):
            continue
        words = ("config", "--file", str(file), "--no-includes")
        listed = await git.run(*words, "--null", "--name-only", "--list", cwd=repository.top, owner=owner)
        names = {name.rpartition(".")[0] for name in listed.output.decode(errors="surrogateescape").split("\0") if name}
        for section in sorted(name for name in names if SECTIONS.fullmatch(name)):
            await git.run(*words, "--remove-section", section, cwd=repository.top, owner=owner)


def _may_hold(file: Path) -> bool:
    """Tell whether a file could hold such a section: each is written with its name. When not, git need not be asked."""
    try:
        text = (read_plain(file) or b"").lower()
    except NotPlain:
        return True
    return any(name in text for name in NAMES)
