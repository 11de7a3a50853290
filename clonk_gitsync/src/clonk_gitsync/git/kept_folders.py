"""Keeps the folders of shadows for the next operation on the same workspace.

A kept folder saves making and removing some files, which costs as much as a small `git status`, and keeps what git
has learnt of files that look changed and are not. Nothing of it is believed: settings, HEAD and refs are what they
should be only while nobody has touched them since we wrote them, and its index counts only while the workspace's own
has not been written since it was copied, and nothing but looking was done with it. Folders that belong to another user
are never kept: that user could change them meanwhile.
"""

import shutil
import threading
from pathlib import Path
from typing import Final

from clonk_gitsync.git.filling import fill, make
from clonk_gitsync.git.process import owner_of
from clonk_gitsync.git.refs import NotPlain, read_head
from clonk_gitsync.git.repository import Repository
from clonk_gitsync.git.shadow_folder import Seen, ShadowFolder

MAX_KEPT: Final = 64
"""Folders that wait for the next operation on their workspace. Each holds a copy of an index."""


class ShadowFolders:
    """Makes folders, and keeps those that may be used again.

    Args:
        home: Ours alone, for kept folders; what an earlier process left there is removed. None keeps nothing.
    """

    def __init__(self, home: Path | None = None) -> None:
        self._home = home
        self._kept: dict[Path, ShadowFolder] = {}
        self._lock = threading.Lock()
        if home is not None:
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(mode=0o700)

    def take(self, repository: Repository) -> ShadowFolder | None:
        """Return a folder for a workspace. Touches the disk: for a thread.

        Returns:
            None when git must be asked how the repository keeps things; then `make` is for it.

        Raises:
            OSError: It cannot be made.
        """
        owner = owner_of(repository.top)
        try:
            head = read_head(repository)
        except NotPlain:
            return None
        if owner is not None or self._home is None:
            return make(repository, owner, "sha1", head)
        with self._lock:
            kept = self._kept.pop(repository.top, None)
        if kept is not None:
            kept.is_steady = kept.is_still(repository, owner, head)
            try:
                fill(kept, repository, head)
            except OSError:  # something has happened to it
                shutil.rmtree(kept.path, ignore_errors=True)
            else:
                return kept
        return make(repository, owner, "sha1", head, self._home)

    def guess(self, top: Path, kind: type[Seen]) -> ShadowFolder | None:
        """Return the folder that is kept for a workspace as it is, when nothing seems to have happened there.

        Args:
            top: Root of the workspace.
            kind: What is to be known from the last time.
        """
        with self._lock:
            kept = self._kept.get(top)
            if kept is None or not kept.is_steady or kind not in kept.seen or not kept.is_whole():
                return None
            return self._kept.pop(top)

    def give_back(self, folder: ShadowFolder) -> list[Path]:
        """Keep a folder for the next operation, where it may be kept; return the folders that are to be removed."""
        if not folder.can_be_kept:
            return [folder.path]
        with self._lock:
            if folder.repository.top in self._kept:
                return [folder.path]
            self._kept[folder.repository.top] = folder
            if len(self._kept) <= MAX_KEPT:
                return []
            oldest = next(iter(self._kept))
            return [self._kept.pop(oldest).path]
