"""Which folders may be registered, and what is known of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import attrs
import trio

from clonk_core.plugin import Database, InvalidParams, Transaction
from clonk_gitsync import store
from clonk_gitsync.errors import AlreadyRegistered, NotRegistered
from clonk_gitsync.git.names import problem_with_branch
from clonk_gitsync.messages import WorkspaceConfig
from clonk_gitsync.policy import Policy

P = ParamSpec("P")
T = TypeVar("T")


class Workspaces:
    """The registered folders of one realm. Every method is one transaction; nobody else writes these rows.

    Args:
        database: Where they are kept.
        roots: Folders, resolved, below which a workspace may lie; one of them may itself be one.
        policy: Which remotes may be used.
    """

    def __init__(self, database: Database, roots: Sequence[Path], policy: Policy) -> None:
        self._database = database
        self._roots = tuple(roots)
        self._policy = policy
        # What was read since the last change, by path: almost every method asks first.
        self._known: dict[Path, WorkspaceConfig] = {}

    @property
    def roots(self) -> tuple[Path, ...]:
        """Folders below which a workspace may lie."""
        return self._roots

    async def register(self, wanted: WorkspaceConfig) -> WorkspaceConfig:
        """Keep one folder; once more with the same remote and branch keeps the rest as it is given now."""
        self.check(wanted)
        folder = await trio.to_thread.run_sync(self._existing_folder, wanted.path)
        return await self._change(_register, attrs.evolve(wanted, path=folder))

    async def put(self, wanted: WorkspaceConfig) -> WorkspaceConfig:
        """Keep one folder, whatever was known of it; it need not exist."""
        self.check(wanted)
        folder = await self.allowed(wanted.path)
        return await self._change(_put, attrs.evolve(wanted, path=folder))

    async def unregister(self, path: Path) -> bool:
        """Forget one folder; tell whether it was known. The folder itself may be gone."""
        resolved = await trio.to_thread.run_sync(_resolve, path)
        return await self._change(_unregister, str(path), str(resolved))

    async def get(self, path: Path) -> WorkspaceConfig:
        """Return one registered folder. Whether its path still leads there is for whoever works in it to look at.

        Raises:
            NotRegistered: It is none.
        """
        known = self._known
        if path in known:
            return known[path]
        found = await self._database.read(_find, path)
        if found is None:
            raise NotRegistered(str(path))
        if found.path == path:
            known[path] = found
        return found

    async def _change(self, change: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            # Cut off in between, what was known would be kept beside what is new.
            with trio.CancelScope(shield=True):
                done = await self._database.run(change, *args, **kwargs)
        finally:
            # A new one: a read that began before may still put what was into the old one.
            self._known = {}
        return done

    async def find_around(self, folder: Path) -> WorkspaceConfig | None:
        """Return the nearest registered folder that a folder is in, or is."""
        resolved = await trio.to_thread.run_sync(_resolve, folder)
        for path in (resolved, *resolved.parents):
            found = await self._database.read(store.find_workspace, str(path))
            if found is not None:
                return found
        return None

    async def list(self, limit: int, after: Path | None) -> tuple[WorkspaceConfig, ...]:
        """Return the folders in the order of their paths."""
        rows = await self._database.read(store.workspaces_after, "" if after is None else str(after), limit)
        return tuple(rows)

    def check(self, wanted: WorkspaceConfig) -> None:
        """Refuse a remote or a branch that may not be used.

        Raises:
            InvalidParams: A name is none.
            RemoteNotAllowed: The remote may not be used.
        """
        branches = [("branch", wanted.branch), *([("base", wanted.base)] if wanted.base is not None else [])]
        for parameter, branch in branches:
            problem = problem_with_branch(branch)
            if problem is not None:
                raise InvalidParams(problem, path=f"$.{parameter}")
        problem = self._policy.problem(wanted.remote)
        if problem is not None:
            raise InvalidParams(problem, path="$.remote")
        self._policy.remote(wanted.remote)

    async def allowed(self, path: Path) -> Path:
        """Return where `path` leads to, whether there is anything or not.

        Raises:
            InvalidParams: It leads outside the roots. Whether anything exists there is not told.
        """
        return await trio.to_thread.run_sync(self._allowed, path)

    def _allowed(self, path: Path) -> Path:
        resolved = _resolve(path)
        if not any(resolved.is_relative_to(root) for root in self._roots):
            allowed = ", ".join(str(root) for root in self._roots)
            raise InvalidParams(
                f"leads outside the allowed folders; allowed is what lies below {allowed}", path="$.path"
            )
        return resolved

    def _existing_folder(self, path: Path) -> Path:
        resolved = self._allowed(path)
        if not _is_folder(resolved):
            raise InvalidParams("there is no such folder; create it first", path="$.path")
        return resolved


def _resolve(path: Path) -> Path:
    if not path.is_absolute():
        raise InvalidParams("must be absolute: it is a path on the server", path="$.path")
    try:
        resolved = path.resolve()
        # A link may lead to a name that no answer can carry.
        str(resolved).encode()
    except (OSError, ValueError, RuntimeError) as error:
        # Too long, a NUL, a loop of links (RuntimeError until Python 3.12), not UTF-8.
        raise InvalidParams("is no path that can be followed", path="$.path") from error
    return resolved


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        # A part is too long, or may not be looked into.
        return False


def _find(transaction: Transaction, path: Path) -> WorkspaceConfig | None:
    """Resolved here: to change to another thread for it costs more than the whole."""
    return store.find_workspace(transaction, str(_resolve(path)))


def _register(transaction: Transaction, wanted: WorkspaceConfig) -> WorkspaceConfig:
    known = store.find_workspace(transaction, str(wanted.path))
    if known is None:
        store.insert_workspace(transaction, wanted)
        return wanted
    if (known.remote, known.branch) != (wanted.remote, wanted.branch):
        raise AlreadyRegistered(str(wanted.path), known.remote, known.branch)
    kept = attrs.evolve(wanted, source=known.source)
    store.update_workspace(transaction, kept)
    return kept


def _put(transaction: Transaction, wanted: WorkspaceConfig) -> WorkspaceConfig:
    if store.find_workspace(transaction, str(wanted.path)) is None:
        store.insert_workspace(transaction, wanted)
    else:
        store.update_workspace(transaction, wanted)
    return wanted


def _unregister(transaction: Transaction, path: str, resolved: str) -> bool:
    """Remove by the path as given first: after a link was changed, that is the one the caller saw in the list."""
    return store.delete_workspace(transaction, path) or store.delete_workspace(transaction, resolved)
