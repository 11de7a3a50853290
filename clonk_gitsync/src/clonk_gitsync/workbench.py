"""Opens workspaces, one thing at a time on each. `looking.py`, `standing.py` and `committing.py` work on them."""

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
from clonk_gitsync.errors import GitUnusable, NotARepository
from clonk_gitsync.git.glances import Glances
from clonk_gitsync.git.hub import Hub
from clonk_gitsync.git.kept_folders import ShadowFolders
from clonk_gitsync.git.opening import S, T, look, open_shadow
from clonk_gitsync.git.process import Git, GitFailed, GitMissing
from clonk_gitsync.git.repository import NoRepository, Repository, find_repository
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.messages import WorkspaceConfig
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
        self.signer = signer
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

    def work_branch(self, workspace: WorkspaceConfig, current: str | None, session: str | None = None) -> str:
        """Return the branch that a workspace's work goes to."""
        protected = protected_of(workspace)
        stays = session is None and current is not None and self.policy.is_own(current)
        if current is not None and stays and self.policy.is_protected(workspace.branch, protected):
            return current
        return self.policy.work_branch(workspace.branch, protected, session=session or workspace.path.name)

    def check_branch(self, workspace: WorkspaceConfig, branch: str) -> None:
        """Refuse a branch that is protected for a workspace, or no name of one.

        Raises:
            BranchProtected: It is.
        """
        self.policy.check_branch(branch, protected_of(workspace))


def protected_of(workspace: WorkspaceConfig) -> list[str]:
    """Return a workspace's own patterns of protected branches. Its base is a name, and no pattern."""
    base = [] if workspace.base is None else [workspace.base.replace("[", "[[]")]
    return [*workspace.protect, *base]
