"""Exit codes of `clonk`, the same for every command, and the error that carries one."""

from typing import Final

OK: Final = 0
FAILED: Final = 1
"""The call answered an error, a check failed, or the server could not go on."""
USAGE: Final = 2
"""The command line or the configuration is wrong."""
NO_SERVER: Final = 3
"""No server could be reached."""
INTERRUPTED: Final = 130
"""Ctrl-C (128 + SIGINT)."""
READER_GONE: Final = 141
"""Whoever read the output left (128 + SIGPIPE), as in `clonk methods | head -1`."""


class CommandError(Exception):
    """A command cannot go on; the text is told on standard error."""

    exit_code = FAILED


class UsageError(CommandError):
    """The command line is wrong."""

    exit_code = USAGE


class NoServer(CommandError):
    """No server could be reached.

    Args:
        url: Where it was looked for.
        reason: What happened there.
    """

    exit_code = NO_SERVER

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"no Clonk answers at {url} ({reason}); start one with `clonk serve`, name another with --url, "
            "or use --local to do it in this process"
        )
