"""The boundary to other packages' code: whatever it does, what comes out is an ordinary exception."""

from clonk_core.errors import ActivationError


class plugin_boundary:  # noqa: N801 - used like the function that it would be, were that not three times slower
    """Run another package's code inside.

    A group with a single error comes out as that error: a nursery that an activation opened is its own secret, and its
    `NotFound` is for the caller. Groups of several stay.

    Raises:
        ActivationError: It called `sys.exit`, which would end the whole server. A `KeyboardInterrupt` goes through:
            that is the operator.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            return
        only = _only(error)
        if isinstance(only, SystemExit):
            raise _exited(only) from only
        if only is not error:
            # Its own cause and traceback stay; the group's frames say nothing of use.
            raise only from only.__cause__


def _only(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _exited(error: SystemExit) -> ActivationError:
    return ActivationError(f"it called sys.exit({error.code!r}), which is not for a plugin to do")
