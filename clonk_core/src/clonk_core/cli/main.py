"""The entry point of `clonk`: runs a command and turns whatever happens into one sentence and an exit code."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from clonk_core.cli import exit_codes
from clonk_core.errors import CallError, ClonkError, ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        arguments: Without the program's name; the process's own when None.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _run(tokens))


def guarded(work: Callable[[], int]) -> int:
    """Do `work` and return its exit code; errors are told on standard error, never as a traceback.

    `CLONK_DEBUG=1` lets errors through as they are.
    """
    try:
        code = work()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return _reader_gone()
    except BaseException as error:
        if os.environ.get("CLONK_DEBUG") == "1":
            raise
        return _tell(error)


def _run(tokens: list[str]) -> int:
    if tokens in (["--version"], ["-V"], ["version"]):
        from importlib.metadata import version

        print(f"clonk {version('clonk-core')}")
        return exit_codes.OK
    if tokens in ([], ["--help"], ["-h"], ["help"]):
        from clonk_core.cli.commands import overview

        print(overview())
        return exit_codes.OK
    from clonk_core.cli.program import run

    return run(tokens)


def _tell(error: BaseException) -> int:
    """Say what happened in one sentence and return the exit code."""
    leaves = list(_leaves(error))
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return exit_codes.INTERRUPTED
    if any(isinstance(leaf, BrokenPipeError) for leaf in leaves):
        return _reader_gone()
    for leaf in leaves:
        if isinstance(leaf, SystemExit):
            return leaf.code if isinstance(leaf.code, int) else exit_codes.FAILED
    told = next((leaf for leaf in leaves if isinstance(leaf, exit_codes.CommandError | ClonkError)), leaves[0])
    if isinstance(told, exit_codes.CommandError):
        complain(str(told))
        return told.exit_code
    if isinstance(told, ConfigError):
        complain("the configuration is wrong:", *str(told).splitlines())
        return exit_codes.USAGE
    if isinstance(told, CallError):
        complain(f"{told.message} ({told.kind})")
        return exit_codes.FAILED
    if isinstance(told, ClonkError):
        complain(str(told))
        return exit_codes.FAILED
    text = str(told).strip() or "no message"
    complain(f"unexpected error, {type(told).__name__}: {text}; CLONK_DEBUG=1 shows where")
    return exit_codes.FAILED


def complain(first: str, *rest: str) -> None:
    """Write to standard error what is wrong, further lines indented."""
    # When standard error is closed nobody can be told.
    with contextlib.suppress(OSError, ValueError):
        print(f"clonk: {first}", *(f"  {line}" for line in rest), sep="\n", file=sys.stderr, flush=True)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _reader_gone() -> int:
    """End quietly as programs do when the reader of a pipe leaves; Python would complain once more at its own end."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
    return exit_codes.READER_GONE
