"""Makes a workspace from a remote."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from clonk_core.plugin import Conflict, InvalidParams
from clonk_gitsync.errors import RemoteFailed
from clonk_gitsync.git.merging import differences
from clonk_gitsync.git.process import OnLine, Owner, owner_of
from clonk_gitsync.git.transfers import download_large
from clonk_gitsync.messages import WorkspaceConfig
from clonk_gitsync.placing import put_in_place
from clonk_gitsync.workbench import Workbench


async def clone(
    bench: Workbench, workspace: WorkspaceConfig, branch: str | None, depth: int | None, on_line: OnLine
) -> tuple[str | None, str]:
    """Make the folder of a workspace, with what the remote has. It is there whole or not at all.

    Args:
        bench: Works on workspaces.
        workspace: Where and from where; its folder must not exist, or be empty.
        branch: What to check out; the remote's default branch when None.
        depth: How many commits back; all when None.
        on_line: Told what git says of its progress.

    Returns:
        The commit that is checked out, None for an empty repository; and the branch.

    Raises:
        Conflict: There is something already.
        RemoteFailed: It did not work.
    """
    remote = bench.policy.remote(workspace.remote)
    path = workspace.path
    async with bench.alone(workspace):
        hub = bench.hub(workspace)
        with bench.failures(path):
            await trio.to_thread.run_sync(lambda: hub.folder.mkdir(parents=True, exist_ok=True, mode=0o700))
            refs = await hub.look(remote, branch)
            known = refs.commit or refs.default_commit
            object_format = "sha1" if known is None or len(known) == 40 else "sha256"
            await hub.prepare(object_format)
            chosen = branch or refs.default_branch or workspace.branch
            if branch is not None and refs.commit is None:
                raise RemoteFailed("not_found")
            tip = None
            if refs.commit is not None or refs.default_commit is not None:
                tip = await hub.fetch(remote, chosen, depth=depth, on_line=on_line)
        async with _made(bench, path):
            with bench.failures(path):
                owner = await trio.to_thread.run_sync(owner_of, path)
                url = None if bench.settings.strip_remotes else remote.url
                await _start(bench, path, chosen, url, object_format, owner)
                if tip is not None and (hub.folder / "shallow").is_file():
                    await trio.to_thread.run_sync(_give_shallow, hub.folder, path, owner)
            if tip is not None:
                async with bench.at(workspace) as shadow:
                    await hub.give(shadow, tip)
                    await download_large(
                        *(bench.git, hub, shadow, remote, await differences(shadow, None, tip)),
                        max_file_bytes=bench.settings.max_file_bytes,
                        on_line=on_line,
                    )
                    await put_in_place(bench, shadow, None, tip)
                    await shadow.run_real(
                        "update-ref", "-m", "clonk: clone", f"refs/heads/{chosen}", tip, "0" * len(tip)
                    )
                    await shadow.keep_index()
    return tip, chosen


async def _start(bench: Workbench, path: Path, branch: str, url: str | None, object_format: str, owner: Owner) -> None:
    words = ("init", "--quiet", f"--initial-branch={branch}", f"--object-format={object_format}")
    await bench.git.run(*words, cwd=path, owner=owner)
    if url is not None:
        file = str(path / ".git" / "config")
        for name, value in (("remote.origin.url", url), ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")):
            await bench.git.run("config", "--file", file, name, value, cwd=path, owner=owner)


@asynccontextmanager
async def _made(bench: Workbench, path: Path) -> AsyncIterator[None]:
    """Make a folder; when what is done in it fails, it goes again."""
    with bench.failures(path):
        existed = await trio.to_thread.run_sync(_make, path)
    try:
        yield
    except BaseException:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_unmake, path, existed)
        raise


def _make(path: Path) -> bool:
    """Make the folder, owned as the one it is in; tell whether it was there."""
    if path.is_dir():
        if any(path.iterdir()):
            raise Conflict("the folder is not empty; clone into another", path=str(path))
        return True
    if path.exists():
        raise Conflict("there is something that is no folder", path=str(path))
    if not path.parent.is_dir():
        raise InvalidParams("the folder that it shall be in does not exist", path="$.path")
    path.mkdir(mode=0o700)
    owner = owner_of(path.parent)
    if owner is not None:
        os.chown(path, *owner)
    return False


def _unmake(path: Path, existed: bool) -> None:
    if not existed:
        shutil.rmtree(path, ignore_errors=True)
        return
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _give_shallow(hub: Path, path: Path, owner: Owner) -> None:
    target = path / ".git" / "shallow"
    shutil.copyfile(hub / "shallow", target)
    if owner is not None:
        os.chown(target, *owner)
