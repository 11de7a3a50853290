"""Asks a remote while something else is done."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from clonk_gitsync.git.hub import RemoteRefs
from clonk_gitsync.git.side_by_side import both

T = TypeVar("T")


class LookAhead:
    """Asks the remote while something else is done. Its answer, or its failure, counts only when it is asked for."""

    def __init__(self, look: Callable[[], Awaitable[RemoteRefs]]) -> None:
        self._look = look
        self._told: RemoteRefs | None = None
        self._failure: Exception | None = None

    async def beside(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work and return what comes of it; when it fails, the remote's answer is not waited for."""
        done, _ = await both(work, self._hold)
        return done

    def answer(self) -> RemoteRefs:
        """Return what the remote has told.

        Raises:
            Exception: What went wrong with asking.
        """
        if self._failure is not None:
            raise self._failure
        assert self._told is not None  # noqa: S101 - for the type checker: `beside` has ended
        return self._told

    async def _hold(self) -> None:
        try:
            self._told = await self._look()
        except Exception as error:  # noqa: BLE001 - raised by `answer`
            self._failure = error
