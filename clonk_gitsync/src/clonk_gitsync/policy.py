"""Where work may go: which remotes, which branches."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import attrs

from clonk_gitsync.errors import BranchProtected, RemoteNotAllowed
from clonk_gitsync.git.names import MAX_BRANCH, problem_with_branch, problem_with_remote
from clonk_gitsync.settings import GitSyncSettings

_NOT_IN_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")


@attrs.frozen(kw_only=True)
class Remote:
    """A remote that may be used.

    Attributes:
        url: What git is given, rewritten.
        protocol: The one transport that git may use for it.
        host: Host and port, in small letters; empty for a local one.
    """

    url: str
    protocol: str
    host: str


class Policy:
    """The rules of the configuration.

    Args:
        settings: They.
        roots: Folders that sessions work in, resolved. A remote in them would be one that Claude can make: git runs the
            hooks of a local remote.
    """

    def __init__(self, settings: GitSyncSettings, roots: Sequence[Path]) -> None:
        self._settings = settings
        self._roots = tuple(roots)

    # ── Remotes ───────────────────────────────────────────────────────────────

    def remote(self, given: str) -> Remote:
        """Return what git may be given for a remote.

        Raises:
            RemoteNotAllowed: It may not be used; the reason is told without repeating the remote.
        """
        url = self._rewritten(given)
        problem = problem_with_remote(url, wider=True)
        if problem is not None:
            raise RemoteNotAllowed(problem)
        protocol, host = _protocol_and_host(url)
        patterns = self._settings.allowed_remotes
        is_plain = protocol in {"https", "ssh"}
        if patterns is None and is_plain:
            return Remote(url=url, protocol=protocol, host=host)
        if not any(self._fits(pattern, url, is_plain=is_plain) for pattern in patterns or ()):
            raise RemoteNotAllowed("no pattern of gitsync.allowed_remotes fits it")
        if protocol == "file":
            folder = Path(os.path.realpath(url.removeprefix("file://")))
            if any(folder.is_relative_to(root) or root.is_relative_to(folder) for root in self._roots):
                raise RemoteNotAllowed("it lies below the folders that sessions work in")
        return Remote(url=url, protocol=protocol, host=host)

    def problem(self, given: str) -> str | None:
        """Tell what is wrong with a remote by its form alone, or None."""
        named = any(pattern.startswith(("/", "file://", "http://")) for pattern in self._settings.allowed_remotes or ())
        return problem_with_remote(given, wider=named)

    def _rewritten(self, given: str) -> str:
        fitting = [start for start in self._settings.rewrites if start and given.startswith(start)]
        if not fitting:
            return given
        longest = max(fitting, key=len)
        return self._settings.rewrites[longest] + given.removeprefix(longest)

    @staticmethod
    def _fits(pattern: str, url: str, *, is_plain: bool) -> bool:
        # Written out, so that `*` does not name what it does not say.
        if not is_plain and not pattern.startswith(("/", "file://", "http://")):
            return False
        # "..", also encoded, would leave what the pattern names.
        if any(part in {"..", "."} for part in re.split(r"[/\\:]", unquote(unquote(url)))):
            return False
        return fnmatchcase(_folded_host(url), _folded_host(pattern))

    # ── Branches ──────────────────────────────────────────────────────────────

    def is_own(self, branch: str) -> bool:
        """Tell whether a branch is one of Clonk's own."""
        return branch.startswith(self._settings.branch_prefix) and problem_with_branch(branch) is None

    def is_protected(self, branch: str, more: Iterable[str] = ()) -> bool:
        """Tell whether a branch is never pushed to.

        Args:
            branch: Its name, without `refs/heads/`.
            more: Further patterns: the workspace's own, its base, the remote's default branch.
        """
        name = _plain(branch)
        return any(fnmatchcase(name, _plain(pattern)) for pattern in (*self._settings.protected_branches, *more))

    def check_branch(self, branch: str, more: Iterable[str] = ()) -> None:
        """Refuse a branch that must not be pushed to.

        Raises:
            BranchProtected: It is protected, or no branch at all.
        """
        if problem_with_branch(branch) is not None or self.is_protected(branch, more):
            raise BranchProtected(branch)

    def work_branch(self, registered: str, protected: Sequence[str], *, session: str) -> str:
        """Return the branch that work goes to: the registered one, or one of Clonk's own when that is protected.

        Args:
            registered: What was registered.
            protected: Further patterns of protected branches.
            session: What to call a branch of Clonk's own: the session's name, or the folder's.
        """
        if not self.is_protected(registered, protected):
            return registered
        return self.own_branch(session)

    def own_branch(self, session: str) -> str:
        """Return the name of Clonk's own branch for a session."""
        prefix = self._settings.branch_prefix
        word = _NOT_IN_NAME.sub("-", session).strip(".-")[: MAX_BRANCH - len(prefix) - 5]
        word = re.sub(r"\.{2,}", ".", word).removesuffix(".lock").strip(".-")
        return f"{prefix}{word or 'work'}"


def _plain(branch: str) -> str:
    """Return a branch as a server that takes no account of case and of ways to write a letter would see it."""
    invisible = {"Cf", "Mn", "Zs"}
    folded = unicodedata.normalize("NFKD", branch).casefold()
    return "".join(letter for letter in folded if unicodedata.category(letter) not in invisible)


def _folded_host(url: str) -> str:
    """Return a URL with scheme and host in small letters; a path keeps its capitals."""
    scheme, mark, rest = url.partition("://")
    if mark:
        host, slash, path = rest.partition("/")
        return f"{scheme.lower()}://{host.lower()}{slash}{path}"
    if url.startswith("/"):
        return url
    host, colon, path = url.partition(":")
    return f"{host.lower()}{colon}{path}"


def _protocol_and_host(url: str) -> tuple[str, str]:
    if url.startswith("/"):
        return "file", ""
    if "://" in url:
        parts = urlsplit(url)
        return parts.scheme, parts.netloc.rpartition("@")[2].lower()
    return "ssh", url.partition(":")[0].rpartition("@")[2].lower()
