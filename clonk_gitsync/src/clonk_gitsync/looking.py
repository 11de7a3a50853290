"""What has changed in a workspace, and its commits. Changes nothing there."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

import attrs
import trio

from clonk_core.plugin import InvalidParams
from clonk_gitsync.git import diffs, new_files
from clonk_gitsync.git.merging import EMPTY_TREES
from clonk_gitsync.git.process import Done, GitFailed, GitMissing, GitTooSlow
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.git.shadow_folder import Seen
from clonk_gitsync.git.side_by_side import both
from clonk_gitsync.messages import Diff, LogEntry, WorkspaceConfig
from clonk_gitsync.workbench import Workbench

MAX_LISTED_BYTES: Final = 64 * 1024**2
"""Of the list of files that comes before their text: some 400 000."""


@attrs.frozen(kw_only=True)
class Wanted:
    """Which difference.

    Attributes:
        start: The commit to compare with; None for none.
        tree: What that means: the commit, or the tree without files.
        staged: Only what is in the index.
        paths: Only these, relative to the top; all when empty.
        context: Lines around each change.
        max_file_bytes: Larger files are left out.
        max_diff_bytes: Where it is cut.
    """

    start: str | None
    tree: str
    staged: bool
    paths: tuple[str, ...]
    context: int
    max_file_bytes: int
    max_diff_bytes: int

    @property
    def kept_bytes(self) -> int:
        """Of what git says; what comes later is not shown."""
        return MAX_LISTED_BYTES + self.max_diff_bytes

    @property
    def chosen(self) -> tuple[str, ...]:
        """The paths as git's last arguments."""
        return ("--", *(f":(top,literal){path}" for path in self.paths)) if self.paths else ()


async def diff(
    bench: Workbench,
    workspace: WorkspaceConfig,
    *,
    staged: bool,
    against: str | None,
    paths: Sequence[str],
    context: int,
    files: bool,
) -> tuple[Diff, str]:
    """Return what has changed, as messages or as text; both are cut at the limit."""

    async def work(shadow: Shadow, _: Seen) -> tuple[Diff, str]:
        start = shadow.head if against is None else await resolved(shadow, against, "$.against")
        wanted = Wanted(
            start=start,
            tree=start or EMPTY_TREES[64 if shadow.object_format == "sha256" else 40],
            staged=staged,
            paths=tuple(paths),
            context=context,
            max_file_bytes=bench.settings.max_file_bytes,
            max_diff_bytes=bench.settings.max_diff_bytes,
        )
        return (await file_list(shadow, wanted), "") if files else await text(shadow, wanted)

    return await bench.look(workspace, Seen, lambda _: Seen(), work)


async def log(bench: Workbench, workspace: WorkspaceConfig, limit: int, revision: str | None) -> tuple[LogEntry, ...]:
    """Return commits, newest first."""
    return await bench.look(workspace, Seen, lambda _: Seen(), lambda shadow, _: log_of(shadow, limit, revision))


async def text(shadow: Shadow, wanted: Wanted) -> tuple[Diff, str]:
    """Return a difference as a unified text."""
    patch = None if wanted.staged else await _quick(shadow, wanted)
    left_out: tuple[str, ...] = ()
    if patch is None:
        left_out = await _take(shadow, wanted)
        patch = (await _from_index(shadow, wanted)).output
    shown, truncated = diffs.cut(patch, wanted.max_diff_bytes)
    if truncated:
        shown += f"\n[cut after {wanted.max_diff_bytes} bytes, gitsync.max_diff_bytes; `paths` asks for a part]\n"
    return Diff(against=wanted.start, files=(), left_out=left_out, truncated=truncated), shown


async def file_list(shadow: Shadow, wanted: Wanted) -> Diff:
    """Return a difference by file."""
    left_out = await _take(shadow, wanted)
    done = await _from_index(shadow, wanted, "--raw", "--numstat", "--no-abbrev", "-z")
    listed, patch = diffs.split(done.output)
    entries = diffs.raw_entries(listed)
    blobs = sorted({blob for one in entries for blob in (one.old_blob, one.new_blob) if blob.strip("0")})
    asked = await shadow.run(
        "cat-file", "--batch-check", stdin="".join(f"{b}\n" for b in blobs).encode(), throwaway=True
    )
    answers = [line.split() for line in asked.output.decode().splitlines()]
    sizes = {words[0]: int(words[2]) for words in answers if len(words) == 3}
    found, truncated = diffs.file_diffs(entries, patch, sizes, wanted.max_diff_bytes)
    return Diff(against=wanted.start, files=tuple(found), left_out=left_out, truncated=truncated)


async def _take(shadow: Shadow, wanted: Wanted) -> tuple[str, ...]:
    """Bring the index to the state of the files, unless only it is wanted; return names of what is left out."""
    if wanted.staged:
        return ()
    left_out = (await shadow.take(wanted.max_file_bytes, throwaway=True)).left_out
    return diffs.named(left_out)


async def _from_index(shadow: Shadow, wanted: Wanted, *form: str) -> Done:
    words = ("diff-index", "--cached", *diffs.WORDS, f"-U{wanted.context}", "-p", *form)
    return await shadow.run(*words, wanted.tree, *wanted.chosen, throwaway=True, cut_after=wanted.kept_bytes)


async def _quick(shadow: Shadow, wanted: Wanted) -> bytes | None:
    """Return the patch as `git diff` makes it of the files themselves, while git looks for new ones beside it.

    Returns:
        None when something differs that is not to be recorded, such as a file that is too large or behind a filter, in
        conflict or not readable: that takes the longer way.
    """
    try:
        output, new = await both(lambda: _of_files(shadow, wanted), lambda: shadow.new(*wanted.chosen))
    except (GitMissing, GitTooSlow):
        raise
    except GitFailed:
        return None
    patch = await _plain(shadow, wanted, output)
    if patch is None or not new:
        return patch
    if shadow.owner is None and shadow.object_format == "sha1":
        top, index = shadow.repository.top, shadow.index
        with_new = partial(new_files.patch_with, top, index, output, new, wanted.max_file_bytes)
        whole = await trio.to_thread.run_sync(with_new)
        if whole is not None:
            return whole
    await shadow.take_in(new, wanted.max_file_bytes, throwaway=True)
    return await _plain(shadow, wanted, await _of_files(shadow, wanted))


async def _plain(shadow: Shadow, wanted: Wanted, output: bytes) -> bytes | None:
    """Return the patch in what `_of_files` says; None when not all in it is to be recorded."""
    raw, patch = diffs.split(output)
    letters = diffs.changed(raw)
    changes = await shadow.sorted(letters, wanted.max_file_bytes)
    return None if changes.left_out or changes.hidden or "U" in letters.values() else patch


async def _of_files(shadow: Shadow, wanted: Wanted) -> bytes:
    words = (
        "diff",
        *diffs.WORDS,
        f"-U{wanted.context}",
        "-p",
        "--raw",
        "--no-abbrev",
        "-z",
        wanted.tree,
        *wanted.chosen,
    )
    # What is larger is not shown in the end; so no lines of it are compared.
    options = (f"core.bigFileThreshold={wanted.max_file_bytes}",)
    throwaway, kept = shadow.made_objects, wanted.kept_bytes
    return (await shadow.run(*words, options=options, throwaway=throwaway, cut_after=kept)).output


async def resolved(shadow: Shadow, revision: str, path: str) -> str:
    """Return the commit that a caller has named.

    Raises:
        InvalidParams: It names none.
    """
    commit = await shadow.resolve(revision)
    if commit is None:
        raise InvalidParams("names no commit of this repository", path=path)
    return commit


async def log_of(shadow: Shadow, limit: int, revision: str | None) -> tuple[LogEntry, ...]:
    """Return commits, newest first."""
    start = shadow.head if revision is None else await resolved(shadow, revision, "$.revision")
    if start is None:
        return ()
    form = "%H%x00%P%x00%an%x00%ae%x00%aI%x00%s%x00%b%x00"
    done = await shadow.run("log", f"--max-count={limit}", f"--format=tformat:{form}", "--no-color", start)
    words = done.output.decode(errors="replace").split("\0")
    entries = [words[at : at + 7] for at in range(0, len(words) - 7, 7)]
    return tuple(
        LogEntry(
            commit=one[0].strip(),
            parents=tuple(one[1].split()),
            author=one[2],
            email=one[3],
            date=datetime.fromisoformat(one[4]),
            subject=one[5],
            body=one[6].strip(),
        )
        for one in entries
    )
