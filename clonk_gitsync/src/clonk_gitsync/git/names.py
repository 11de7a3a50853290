"""What git may be given: remotes and branches, checked by their form before git ever sees them. No I/O.

A remote ends up on git's command line and may start a program (`ext::`, `--upload-pack`), and it is shown to every
caller of `gitsync.list`; so only three plain forms pass, without credentials.
"""

import re
from typing import Final
from urllib.parse import urlsplit

MAX_REMOTE: Final = 2048
"""Longest remote, in characters: the longest URL that forges and proxies agree on."""

MAX_BRANCH: Final = 200
"""Longest branch name, in bytes of UTF-8: git keeps it as a file name of at most 255, and adds `.lock`."""

_HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_USER: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_HTTPS_AUTHORITY: Final = re.compile(rf"{_HOST}(?::[0-9]+)?")
_SSH_AUTHORITY: Final = re.compile(rf"(?:{_USER}@)?{_HOST}(?::[0-9]+)?")
_SCP: Final = re.compile(rf"(?:{_USER}@)?{_HOST}:(?P<path>[^-:].*)")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]")
_FORMS: Final = "allowed are https://host/path, ssh://user@host/path and user@host:path"


def problem_with_remote(remote: str, *, wider: bool = False) -> str | None:
    """Tell what is wrong with a remote and what is allowed, or None when it may be given to git.

    Args:
        remote: What to look at.
        wider: Whether local folders, `file://` and plain `http://` are well formed, too.
    """
    if not remote or len(remote) > MAX_REMOTE:
        return f"must have 1 to {MAX_REMOTE} characters"
    if _UNPRINTABLE.search(remote):
        return "must not contain spaces or control characters"
    if "\\" in remote:
        return "must not contain a backslash"
    if wider and remote.startswith(("/", "file:///")):
        return _problem_with_folder(remote.removeprefix("file://"))
    if "://" in remote:
        return _problem_with_url(remote, wider=wider)
    return None if _SCP.fullmatch(remote) else f"is no remote that may be used; {_FORMS}"


def _problem_with_folder(path: str) -> str | None:
    parts = path.split("/")[1:]
    return "must be the plain absolute path of a repository" if any(p in {"", ".", ".."} for p in parts) else None


def _problem_with_url(remote: str, *, wider: bool) -> str | None:
    try:
        url = urlsplit(remote)
        port = url.port
    except ValueError:
        return f"is no URL; {_FORMS}"
    schemes = {"https": _HTTPS_AUTHORITY, "ssh": _SSH_AUTHORITY, **({"http": _HTTPS_AUTHORITY} if wider else {})}
    authority = schemes.get(url.scheme) if remote.startswith(f"{url.scheme}://") else None
    if authority is None:
        return f"its scheme is not allowed; {_FORMS}"
    if url.password is not None or (url.scheme != "ssh" and "@" in url.netloc):
        return "must not contain credentials; git gets them from the server's configuration"
    if not authority.fullmatch(url.netloc) or port == 0:
        return f"its host is none; {_FORMS}"
    if url.query or url.fragment or url.path.strip("/") == "":
        return f"must name a repository, without query or fragment; {_FORMS}"
    # git hands an ssh path to a program on the other side: a leading dash would be an option there.
    return "its path must not begin with a dash" if url.path.startswith("/-") else None


def problem_with_branch(branch: str) -> str | None:
    """Tell what is wrong with a branch name, by the rules of git-check-ref-format(1), or None."""
    if not branch or len(branch.encode(errors="replace")) > MAX_BRANCH:
        return f"must have 1 to {MAX_BRANCH} bytes"
    if re.search(r"[\x00-\x20\x7f~^:?*\[\\]", branch):
        return "must not contain spaces, control characters or any of ~ ^ : ? * [ \\"
    if branch.startswith("-"):
        return "must not begin with a dash"
    if (
        branch in {"@", "HEAD"}
        or branch.startswith("refs/")
        or ".." in branch
        or "@{" in branch
        or branch.endswith(".")
    ):
        return 'must not be "@" or "HEAD", begin with "refs/", contain ".." or "@{", or end with a dot'
    if any(part == "" or part.startswith(".") or part.endswith(".lock") for part in branch.split("/")):
        return 'no part between slashes may be empty, begin with a dot or end with ".lock"'
    return None
