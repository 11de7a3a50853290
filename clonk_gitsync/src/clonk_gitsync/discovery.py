"""What the configuration registers at the start: `workspaces.mappings`, and repositories that are found."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import trio

from clonk_core.plugin import CallError, Host, Log
from clonk_gitsync.git.process import Git, GitFailed, owner_of
from clonk_gitsync.git.repository import NoRepository, Repository, find_repository
from clonk_gitsync.messages import WorkspaceConfig
from clonk_gitsync.workspaces import Workspaces

MAX_DEPTH: Final = 4
"""Folders below a root that are looked into."""

MAX_FOLDERS: Final = 20_000
"""Folders that are looked into at all: a root may be somebody's home."""


async def register_configured(host: Host, workspaces: Workspaces, git: Git) -> None:
    """Register what the configuration names, then what is found. What cannot be is logged, and the rest goes on."""
    section = host.workspaces
    for mapping in section.mappings:
        wanted = WorkspaceConfig(
            path=mapping.path,
            remote=mapping.remote,
            branch=mapping.branch,
            auto_commit=mapping.auto_commit,
            auto_push=mapping.auto_push,
            source="mapping",
        )
        try:
            await workspaces.put(wanted)
        except CallError as error:
            host.log.warning("a mapping is not registered", path=str(mapping.path), reason=error.message)
    if section.auto_discover:
        await _discover(workspaces, git, [org.casefold() for org in section.allowed_orgs], host.log)


async def _discover(workspaces: Workspaces, git: Git, orgs: Sequence[str], log: Log) -> None:
    known = {one.path for one in await _all(workspaces)}
    found = await trio.to_thread.run_sync(lambda: list(_repositories(workspaces.roots)))
    for repository in found:
        if repository.top in known:
            continue
        try:
            remote = await _remote_of(git, repository)
            if remote is None or organisation(remote) not in orgs:
                continue
            branch = repository.head_branch() or "main"
            await workspaces.put(
                WorkspaceConfig(path=repository.top, remote=remote, branch=branch, source="discovered")
            )
            log.info("a repository was found and registered", path=str(repository.top))
        except (CallError, GitFailed, OSError) as error:
            log.warning("a repository that was found is not registered", path=str(repository.top), reason=str(error))


async def _all(workspaces: Workspaces) -> list[WorkspaceConfig]:
    found: list[WorkspaceConfig] = []
    after: Path | None = None
    while page := await workspaces.list(1000, after):
        found += page
        after = page[-1].path
    return found


async def _remote_of(git: Git, repository: Repository) -> str | None:
    owner = await trio.to_thread.run_sync(owner_of, repository.top)
    file = str(repository.common_dir / "config")
    words = ("config", "--file", file, "--no-includes", "--get", "remote.origin.url")
    done = await git.run(*words, cwd=repository.top, owner=owner, check=False, max_output=65_536)
    return done.text if done.code == 0 else None


def organisation(remote: str) -> str | None:
    """Return the first part of a remote's path, in small letters; None when there are not two parts."""
    path = urlsplit(remote).path if "://" in remote else remote.partition(":")[2]
    parts = [part for part in re.split("/+", path) if part]
    return parts[0].casefold() if len(parts) >= 2 else None


def _repositories(roots: Sequence[Path]) -> Iterator[Repository]:
    """Yield the repositories below the roots, none inside another, nothing through links."""
    folders = [(root, 0) for root in roots]
    seen = 0
    while folders and seen < MAX_FOLDERS:
        folder, depth = folders.pop()
        seen += 1
        if os.path.lexists(folder / ".git"):
            try:
                yield find_repository(folder, roots)
            except NoRepository:
                continue
        elif depth < MAX_DEPTH:
            try:
                with os.scandir(folder) as entries:
                    below = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
            except OSError:
                continue
            folders += [(folder / name, depth + 1) for name in below if name != "node_modules"]
