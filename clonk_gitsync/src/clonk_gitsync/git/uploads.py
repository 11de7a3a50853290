"""Uploads large files to a remote's store, before the branch that needs them is pushed."""

from collections.abc import Iterator, Sequence

import trio

from clonk_core.plugin import Log
from clonk_gitsync.errors import GitUnusable
from clonk_gitsync.git import lfs
from clonk_gitsync.git.hub import Hub
from clonk_gitsync.git.process import Git, OnLine
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.policy import Remote


async def upload_large(
    git: Git, hub: Hub, shadow: Shadow, remote: Remote, commit: str, *, log: Log, on_line: OnLine | None
) -> None:
    """Upload the large files of a commit that the remote's branches lack, as far as they are here.

    Args:
        git: Tells whether there is a git-lfs.
        hub: Has the commit.
        shadow: The workspace, which has the contents.
        remote: Where to.
        commit: Its id.
        log: Told of contents that are not here.
        on_line: Told of the progress.

    Raises:
        RemoteFailed: It did not work.
        GitFailed: They cannot be read.
        GitUnusable: There are some, and no git-lfs.
    """
    repository = shadow.repository
    if not await trio.to_thread.run_sync((repository.common_dir / "lfs" / "objects").is_dir):
        return
    wanted = await _pointers(hub, commit)
    oids = await trio.to_thread.run_sync(lfs.take, repository.common_dir, hub.folder, wanted)
    if len(oids) < len(wanted):
        lacking = len(wanted) - len(oids)
        log.info("large files are not here and not uploaded", workspace=str(repository.top), count=lacking)
    if oids and git.lfs_program is None:
        raise GitUnusable(
            "the commits hold large files, and none is uploaded: there is no git-lfs on the server, or gitsync.large_files "
            "is off"
        )
    options = lfs.push_options(remote.url, remote.protocol)
    for some in _parts(oids, lfs.PER_COMMAND):
        await hub.exchange(remote, "lfs", "push", "--object-id", remote.url, *some, options=options, on_line=on_line)
    await trio.to_thread.run_sync(lfs.forget, hub.folder, oids)


async def _pointers(hub: Hub, commit: str) -> list[lfs.Pointer]:
    small = f"--filter=blob:limit={lfs.POINTER_BYTES.stop}"
    words = ("rev-list", "--objects", "--no-object-names", small, commit, "--not", "--remotes=origin")
    listed = await hub.run(*words)
    asked = await hub.run("cat-file", "--batch-check", stdin=listed.output)
    blobs = [
        line.split()[0] + b"\n"
        for line in asked.output.splitlines()
        if line.split()[1] == b"blob" and int(line.split()[2]) in lfs.POINTER_BYTES
    ]
    read = await hub.run("cat-file", "--batch", stdin=b"".join(blobs))
    return list(dict.fromkeys(lfs.pointers(read.output)))


def _parts(words: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(words), size):
        yield words[start : start + size]
