"""Moves large files: to a remote's store before a branch is pushed, and from there before files are put in place."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import trio

from clonk_core.plugin import Log
from clonk_gitsync.errors import GitUnusable
from clonk_gitsync.git import lfs
from clonk_gitsync.git.hub import Hub
from clonk_gitsync.git.merging import FIXED, Placed
from clonk_gitsync.git.process import Done, Git, OnLine
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
            "the commits hold large files, and none is uploaded: no git-lfs is here, or gitsync.large_files is off"
        )
    options = lfs.transfer_options(remote.url, remote.protocol)
    for some in _parts(oids, lfs.PER_COMMAND):
        await hub.exchange(remote, "lfs", "push", "--object-id", remote.url, *some, options=options, on_line=on_line)
    await trio.to_thread.run_sync(lfs.forget, hub.folder, oids)


async def download_large(
    git: Git,
    hub: Hub,
    shadow: Shadow,
    remote: Remote,
    files: Iterable[Placed],
    *,
    max_file_bytes: int,
    on_line: OnLine | None,
) -> None:
    """Bring the contents of large files that are about to be put in place to where git-lfs then finds them.

    Args:
        git: Tells whether there is a git-lfs; without one nothing is done.
        hub: Speaks with the remote.
        shadow: The workspace, which may have contents already.
        remote: Where from.
        files: What is about to be put in place.
        max_file_bytes: Larger ones stay pointers.
        on_line: Told of the progress.

    Raises:
        RemoteFailed: It did not work.
        GitFailed: The pointers cannot be read.
    """
    if git.lfs_program is None:
        return
    blobs = "".join(f"{one.blob}\n" for one in files if one.mode.startswith("100"))
    found = await _read_pointers(shadow.run, blobs.encode()) if blobs else []
    wanted = [one for one in found if 0 < one.size <= max_file_bytes]
    if not wanted:
        return
    shadow.put_contents()
    common_dir = shadow.repository.common_dir
    here = set(await trio.to_thread.run_sync(lfs.take, common_dir, shadow.folder, wanted, shadow.owner))
    lacking = [one for one in wanted if one.oid not in here]
    if lacking:
        await hub.exchange(
            *(remote, "lfs", "fetch", remote.url, await _commit_of(hub, lacking)),
            options=lfs.transfer_options(remote.url, remote.protocol),
            on_line=on_line,
        )
        await trio.to_thread.run_sync(lfs.take, hub.folder, shadow.folder, lacking, shadow.owner)
        await trio.to_thread.run_sync(lfs.forget, hub.folder, [one.oid for one in lacking])
        await shadow.keep_large()


async def take_large_back(git: Git, shadow: Shadow, files: Iterable[Placed]) -> None:
    """Bring what is known in the workspace of files' former contents to where git-lfs finds them.

    Raises:
        GitFailed: The pointers cannot be read.
    """
    blobs = "".join(f"{one.old_blob}\n" for one in files if one.old_blob.strip("0"))
    if git.lfs_program is not None and blobs:
        shadow.put_contents()
        found = await _read_pointers(shadow.run, blobs.encode())
        await trio.to_thread.run_sync(lfs.take, shadow.repository.common_dir, shadow.folder, found, shadow.owner)


async def _commit_of(hub: Hub, pointers: Sequence[lfs.Pointer]) -> str:
    """Make a commit of nothing but pointers: git-lfs fetches what a commit holds, and can be told no less."""
    lines: list[str] = []
    for one in pointers:
        blob = await hub.run("hash-object", "-w", "--stdin", stdin=one.text)
        lines.append(f"100644 blob {blob.text}\t{one.oid}\n")
    tree = (await hub.run("mktree", stdin="".join(lines).encode())).text
    return (await hub.run("commit-tree", tree, "-m", "large files", env=FIXED)).text


async def _pointers(hub: Hub, commit: str) -> list[lfs.Pointer]:
    small = f"--filter=blob:limit={lfs.POINTER_BYTES.stop}"
    words = ("rev-list", "--objects", "--no-object-names", small, commit, "--not", "--remotes=origin")
    listed = await hub.run(*words)
    return await _read_pointers(hub.run, listed.output)


async def _read_pointers(run: Callable[..., Awaitable[Done]], objects: bytes) -> list[lfs.Pointer]:
    """Return the pointers among objects, whose ids come one a line."""
    asked = await run("cat-file", "--batch-check", stdin=objects)
    blobs = [
        line.split()[0] + b"\n"
        for line in asked.output.splitlines()
        if line.split()[1] == b"blob" and int(line.split()[2]) in lfs.POINTER_BYTES
    ]
    if not blobs:
        return []
    read = await run("cat-file", "--batch", stdin=b"".join(blobs))
    return list(dict.fromkeys(lfs.pointers(read.output)))


def _parts(words: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(words), size):
        yield words[start : start + size]
