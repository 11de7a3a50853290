"""One workspace at a time: its state, its differences, its commits. Speaks with no remote."""

import errno
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import trio

from clonk_core.plugin import Log, StorageFull
from clonk_gitsync.credentials import Credentials
from clonk_gitsync.errors import BranchDiverged, GitUnusable, NotARepository, WorkspaceBusy
from clonk_gitsync.git import diffs
from clonk_gitsync.git.changes import Changes
from clonk_gitsync.git.commits import CommitText, ident, message_text
from clonk_gitsync.git.glances import Glances
from clonk_gitsync.git.hub import Hub
from clonk_gitsync.git.index_file import remove_own_lock
from clonk_gitsync.git.kept_folders import ShadowFolders
from clonk_gitsync.git.loose import Recorded, tree_of
from clonk_gitsync.git.merging import EMPTY_TREES
from clonk_gitsync.git.opening import S, T, look, open_shadow
from clonk_gitsync.git.process import Git, GitFailed, GitMissing
from clonk_gitsync.git.repository import NoRepository, Repository, find_repository
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.git.shadow_folder import Seen
from clonk_gitsync.git.side_by_side import both
from clonk_gitsync.looking import DIFF, MAX_NAMED, Wanted, file_list, log_of, resolved, text
from clonk_gitsync.messages import CommitResult, Diff, LogEntry, WorkspaceConfig
from clonk_gitsync.policy import Policy
from clonk_gitsync.settings import GitSyncSettings
from clonk_gitsync.signing import Signer


class Workbench:
    """Works on the workspaces of one realm, on each one thing at a time.

    Args:
        settings: Limits and the author.
        policy: Which branches may be worked on.
        git: Runs git.
        roots: Folders, resolved, below which a repository may lie.
        folder: Ours; the repositories of the hub are in it.
        credentials: Opens remotes.
        log: For git's own words.
        signer: Signs commits; they are not signed when None.
    """

    def __init__(
        self,
        settings: GitSyncSettings,
        policy: Policy,
        git: Git,
        roots: Sequence[Path],
        folder: Path,
        credentials: Credentials,
        log: Log,
        signer: Signer | None = None,
    ) -> None:
        self.settings = settings
        self.policy = policy
        self.git = git
        self.log = log
        self.glances = Glances(git.home, log, wanted=settings.status_process)
        self._roots = tuple(roots)
        self._folder = folder
        self._folders = ShadowFolders(folder / "shadows")
        self._credentials = credentials
        self._signer = signer
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    def hub(self, workspace: WorkspaceConfig) -> Hub:
        """Return the hub's repository for a workspace and its remote."""
        name = hashlib.sha256(f"{workspace.path}\n{workspace.remote}".encode()).hexdigest()[:32]
        folder = self._folder / f"{name}.git"
        return Hub(self.git, folder, self._credentials, timeout_s=self.settings.network_timeout_s, log=self.log)

    @asynccontextmanager
    async def alone(self, workspace: WorkspaceConfig) -> AsyncIterator[None]:
        """Hold a workspace against other operations of ours."""
        lock = self._locks.setdefault(str(workspace.path), trio.Lock())
        async with lock:
            yield

    @asynccontextmanager
    async def at(self, workspace: WorkspaceConfig) -> AsyncIterator[Shadow]:
        """Open our folder for a workspace.

        Raises:
            NotARepository: There is no repository that may be used.
            GitUnusable: Git is missing or failed.
            StorageFull: No room is left.
        """
        with self.failures(workspace.path):
            await self._stripped(workspace)
            find = partial(self._repository, workspace.path)
            async with open_shadow(self.git, find, self._folders) as shadow:
                yield shadow

    async def look(
        self,
        workspace: WorkspaceConfig,
        kind: type[S],
        read: Callable[[Repository], S],
        work: Callable[[Shadow, S], Awaitable[T]],
    ) -> T:
        """Look at a workspace, and change nothing there. See `opening.look`.

        Raises:
            NotARepository: There is no repository that may be used.
            GitUnusable: Git is missing or failed.
            StorageFull: No room is left.
        """
        with self.failures(workspace.path):
            await self._stripped(workspace)
            find = partial(self._repository, workspace.path)
            return await look(self.git, self._folders, workspace.path, find, kind, read, work)

    async def _stripped(self, workspace: WorkspaceConfig) -> None:
        if self.settings.strip_remotes:
            repository = await trio.to_thread.run_sync(self._repository, workspace.path)
            await self.strip(repository)

    def _repository(self, folder: Path) -> Repository:
        if os.path.realpath(folder) != str(folder):
            raise NoRepository("leads elsewhere by now: a link was put where it was")
        found = find_repository(folder, self._roots)
        if found.prefix:
            raise NoRepository("is not the top of its repository; register that")
        return found

    @contextmanager
    def failures(self, path: Path) -> Iterator[None]:
        """Turn what git and the disk say into errors for the caller; their own words go to the log."""
        try:
            yield
        except NoRepository as error:
            raise NotARepository(str(path), error.reason) from error
        except GitMissing as error:
            raise GitUnusable("there is no git on the server's PATH") from error
        except GitFailed as error:
            self.log.warning("git failed", workspace=str(path), reason=str(error))
            if "no space left" in error.said.lower() or "disk quota" in error.said.lower():
                raise StorageFull("no room is left on the disk; nothing was overwritten") from error
            raise GitUnusable from error
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StorageFull("no room is left on the disk; nothing was overwritten") from error
            self.log.warning("a workspace cannot be worked on", workspace=str(path), reason=str(error))
            raise GitUnusable from error

    async def strip(self, repository: Repository) -> None:
        """Remove remotes, rewritten URLs and credential helpers from a workspace's settings."""
        from clonk_gitsync.git.stripping import strip

        await strip(self.git, repository)

    # ── Committing ────────────────────────────────────────────────────────────

    def work_branch(self, workspace: WorkspaceConfig, current: str | None, session: str | None = None) -> str:
        """Return the branch that a workspace's work goes to."""
        protected = protected_of(workspace)
        stays = session is None and current is not None and self.policy.is_own(current)
        if current is not None and stays and self.policy.is_protected(workspace.branch, protected):
            return current
        return self.policy.work_branch(workspace.branch, protected, session=session or workspace.path.name)

    async def commit(self, shadow: Shadow, branch: str, message: str) -> CommitResult:
        """Record what has changed on a branch, and check that branch out. No other branch is moved.

        Raises:
            WorkspaceBusy: The repository is in the middle of something, or another git is at work.
            BranchDiverged: The branch has what HEAD lacks.
            SigningFailed: It is to be signed and cannot be.
        """
        await trio.to_thread.run_sync(check_quiet, shadow.repository)
        changed = await shadow.changed()
        if changed.unmerged:
            raise WorkspaceBusy("conflict", "files are in conflict; resolve and commit them first")
        changes = await shadow.take_in(changed.paths, self.settings.max_file_bytes)
        left_out = tuple(diffs.shown(path) for path in changes.left_out[:MAX_NAMED])
        current = shadow.repository.head_branch()
        tree = await shadow.write_tree()
        before = f"{shadow.head}^{{tree}}" if shadow.head else EMPTY_TREES[len(tree)]
        words = ("diff-tree", "-r", "-z", "--raw", "--numstat", *DIFF, before, tree)
        objects = shadow.repository.common_dir / "objects"
        known = await trio.to_thread.run_sync(tree_of, objects, shadow.head)
        early = None if known is not None else await shadow.run(*words)
        if known == tree or (early is not None and not early.output):
            return await self._unchanged(shadow, changes, current, left_out)
        await shadow.keep_large()
        parents = (shadow.head,) if shadow.head else ()
        if early is None:  # it is known to be another tree: what differs can be listed meanwhile
            commit, stat = await both(lambda: self.record(shadow, tree, parents, message), lambda: shadow.run(*words))
            if not stat.output:  # nothing that is taken note of
                return await self._unchanged(shadow, changes, current, left_out)
        else:
            commit, stat = await self.record(shadow, tree, parents, message), early
        shadow.recorded = Recorded(commit, tree, diffs.new_contents(stat.output))
        if current != branch:
            await self._go_to(shadow, branch)
        await self._move(shadow, branch, commit, shadow.head)
        if not await shadow.keep_index():
            self.log.info("another git is at work; the index stays", workspace=str(shadow.repository.top))
        files, insertions, deletions = diffs.totals(stat.output)
        return CommitResult(
            commit=commit,
            branch=branch,
            made=True,
            files_changed=files,
            insertions=insertions,
            deletions=deletions,
            left_out=left_out,
        )

    async def _unchanged(
        self, shadow: Shadow, changes: Changes, current: str | None, left_out: tuple[str, ...]
    ) -> CommitResult:
        if changes.present or changes.gone:
            # The index that a sync which was cut off has left; other line ends; the content in place of a pointer.
            await shadow.keep_index()
        return CommitResult(commit=shadow.head, branch=current, made=False, left_out=left_out)

    def check_branch(self, workspace: WorkspaceConfig, branch: str) -> None:
        """Refuse a branch that is protected for a workspace, or no name of one.

        Raises:
            BranchProtected: It is.
        """
        self.policy.check_branch(branch, protected_of(workspace))

    async def create_branch(self, shadow: Shadow, name: str) -> None:
        """Make a branch where HEAD is and check it out; files and index stay.

        Raises:
            WorkspaceBusy: The repository is in the middle of something.
            BranchDiverged: There is another of that name.
        """
        await trio.to_thread.run_sync(check_quiet, shadow.repository)
        if shadow.head is not None and await shadow.branch(name) not in {None, shadow.head}:
            raise BranchDiverged(name, f"there is a branch {name!r} already, which is elsewhere")
        if shadow.repository.head_branch() != name:
            await self._go_to(shadow, name)

    async def record(self, shadow: Shadow, tree: str, parents: Sequence[str], message: str) -> str:
        """Make a commit by the configured author, and return its id. No branch is moved.

        Raises:
            SigningFailed: It is to be signed and cannot be.
        """
        who = self.who()
        text = CommitText(tree=tree, parents=parents, author=who, committer=who, message=message_text(message))
        return await self.write(shadow, text)

    async def write(self, shadow: Shadow, text: CommitText) -> str:
        """Write a commit, signed where a key is configured, and return its id.

        Raises:
            SigningFailed: It is to be signed and cannot be.
        """
        written = text.unsigned()
        if self._signer is not None:
            written = text.signed(await self._signer.sign(written))
        return (await shadow.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=written)).text

    def who(self) -> bytes:
        """Return author and committer of a commit that is made now, as git writes them."""
        return ident(self.settings.author_name, self.settings.author_email)

    async def _go_to(self, shadow: Shadow, branch: str) -> None:
        """Bring a branch to where HEAD is, and check it out. Cut off after any step, it can be done once more."""
        elsewhere = await trio.to_thread.run_sync(shadow.repository.is_checked_out_elsewhere, branch)
        if elsewhere:
            raise WorkspaceBusy("checked_out_elsewhere", f"{branch!r} is checked out in another work tree")
        old = await shadow.branch(branch)
        if old != shadow.head:
            if old is not None and (shadow.head is None or not await is_ancestor(shadow, old, shadow.head)):
                raise BranchDiverged(
                    branch, f"{branch!r} has commits that what is checked out lacks; check it out first"
                )
            assert shadow.head is not None  # noqa: S101 - else both are None
            await self._move(shadow, branch, shadow.head, old)
        await shadow.run_real("symbolic-ref", "-m", "clonk: work on it", "HEAD", f"refs/heads/{branch}")

    async def _move(self, shadow: Shadow, branch: str, commit: str, old: str | None) -> None:
        """Move a branch from where it was found, and from nowhere else."""
        zeros = "0" * len(commit)
        done = await shadow.run_real(
            "update-ref", "--no-deref", "-m", "clonk", f"refs/heads/{branch}", commit, old or zeros, check=False
        )
        if done.code != 0:
            self.log.warning("a branch cannot be moved", workspace=str(shadow.repository.top), reason=done.said[-500:])
            if ".lock': File exists" in done.said:
                raise WorkspaceBusy(
                    "branch_locked", "another git is at work on the branch, or has left its lock behind in .git/refs"
                )
            if "no space left" in done.said.lower():
                raise GitFailed("update-ref", done.said[-500:])
            raise BranchDiverged(
                branch, f"{branch!r} cannot be moved: it was moved meanwhile, or its name is in the way"
            )

    # ── Looking ───────────────────────────────────────────────────────────────

    async def diff(
        self,
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
                max_file_bytes=self.settings.max_file_bytes,
                max_diff_bytes=self.settings.max_diff_bytes,
            )
            return (await file_list(shadow, wanted), "") if files else await text(shadow, wanted)

        return await self.look(workspace, Seen, lambda _: Seen(), work)

    async def log_of(self, workspace: WorkspaceConfig, limit: int, revision: str | None) -> tuple[LogEntry, ...]:
        """Return commits, newest first."""
        return await self.look(workspace, Seen, lambda _: Seen(), lambda shadow, _: log_of(shadow, limit, revision))


def protected_of(workspace: WorkspaceConfig) -> list[str]:
    """Return a workspace's own patterns of protected branches. Its base is a name, and no pattern."""
    base = [] if workspace.base is None else [workspace.base.replace("[", "[[]")]
    return [*workspace.protect, *base]


async def is_ancestor(shadow: Shadow, older: str, newer: str) -> bool:
    """Tell whether `newer` has all that `older` has. What is not there is no ancestor."""
    return (await shadow.run("merge-base", "--is-ancestor", older, newer, check=False)).code == 0


def check_quiet(repository: Repository) -> None:
    """Refuse a repository that is in the middle of something, or that another git works on. Touches the disk.

    A lock that a Clonk which was killed has left is taken away.

    Raises:
        WorkspaceBusy: It is.
    """
    operation = repository.operation()
    if operation is not None:
        raise WorkspaceBusy(operation, f"the repository is in the middle of a {operation}; finish or abort it first")
    remove_own_lock(repository)
    if (repository.git_dir / "index.lock").exists():
        raise WorkspaceBusy(
            "index_locked", "another git is at work here, or has left .git/index.lock behind; remove it when none runs"
        )
