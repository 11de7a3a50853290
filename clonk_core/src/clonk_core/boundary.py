"""The boundary to other packages' code: whatever it does, what comes out is an ordinary exception."""

from collections.abc import Iterator
from contextlib import contextmanager

from clonk_core.errors import ActivationError


@contextmanager
def plugin_boundary() -> Iterator[None]:
    """Run another package's code inside.

    A group with a single error comes out as that error: a nursery that an activation opened is its own secret, and its
    `NotFound` is for the caller. Groups of several stay.

    Raises:
        ActivationError: It called `sys.exit`, which would end the whole server. A `KeyboardInterrupt` goes through:
            that is the operator.
    """
    try:
        yield
    except SystemExit as error:
        raise _exited(error) from error
    except BaseExceptionGroup as group:
        only = _only(group)
        if only is group:
            raise
        if isinstance(only, SystemExit):
            raise _exited(only) from only
        # Its own cause and traceback stay; the group's frames say nothing of use.
        raise only from only.__cause__


def _only(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _exited(error: SystemExit) -> ActivationError:
    return ActivationError(f"it called sys.exit({error.code!r}), which is not for a plugin to do")
