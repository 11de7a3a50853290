"""What git says when an exchange with a remote fails, and what that means."""

from typing import Final

from clonk_gitsync.errors import RemoteProblem

SAID: Final[tuple[tuple[RemoteProblem, tuple[str, ...]], ...]] = (
    ("host_key", ("host key verification failed", "no matching host key", "remote host identification has changed")),
    ("disk_full", ("no space left", "disk quota", "unable to write file", "insufficient permission for adding")),
    (
        "authentication",
        (
            "authentication failed",
            "authorization error",
            "could not read username",
            "could not read password",
            "permission denied (",
            "invalid username or",
            "returned error: 401",
            "returned error: 403",
            "unable to read askpass",
        ),
    ),
    (
        "not_found",
        (
            "not found",
            "does not exist",
            "does not appear to be a git repository",
            "couldn't find remote ref",
            "returned error: 404",
        ),
    ),
    (
        "unreachable",
        (
            "could not resolve",
            "couldn't connect",
            "failed to connect",
            "connection refused",
            "connection reset",
            "connection timed out",
            "connection closed",
            "network is unreachable",
            "hung up unexpectedly",
            "early eof",
            "empty reply",
            "transfer closed",
            "recv failure",
            "returned error: 5",
            "unexpected disconnect",
        ),
    ),
    ("refused", ("dubious ownership", "not allowed", "protected")),
)
"""What git says when an exchange fails, in small letters; the first that fits."""


def problem_of(said: str) -> RemoteProblem:
    """Return what is wrong with a remote, by git's complaint."""
    words = said.lower()
    return next((one for one, signs in SAID if any(sign in words for sign in signs)), "failed")
