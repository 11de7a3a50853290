"""What every transport does with the door behind it: ask, and turn whatever comes back into an answer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs

from clonk_core.errors import CallError, Internal
from clonk_core.ids import new_id
from clonk_core.interfaces.door import Connection, Dispatch
from clonk_core.interfaces.host import Log
from clonk_core.interfaces.runs import Following
from clonk_core.messages import Event, Reply, Request


class PeerGone(Exception):
    """The other side takes nothing more."""


@attrs.frozen
class Doorway:
    """The door, guarded: nothing but `CallError` and `Cancelled` comes out of it.

    Attributes:
        dispatch: What answers requests.
        log: Where faults are told.
    """

    dispatch: Dispatch
    log: Log

    async def call(self, request: Request, connection: Connection) -> Reply | Following:
        """Answer one request.

        Raises:
            CallError: Whatever went wrong.
        """
        try:
            return await self.dispatch(request, connection)
        except CallError:
            raise
        except Exception as error:  # a fault of the door itself: the connection goes on
            raise self.incident(error, request.method) from error

    async def greet(self, connection: Connection) -> None:
        """Look at the credential that a connection begins with.

        Raises:
            CallError: It is not good, or whatever else went wrong.
        """
        try:
            await self.dispatch.greet(connection)
        except CallError:
            raise
        except Exception as error:  # a fault of the door itself
            raise self.incident(error, "greet") from error

    @asynccontextmanager
    async def follow(self, following: Following) -> AsyncIterator[AsyncIterator[Sequence[Event]]]:
        """Follow a run in batches of events.

        Raises:
            CallError: It cannot be read; here before the block begins, later out of the iteration.
        """
        context = following.run.follow(following.after)
        try:
            batches = await context.__aenter__()
        except CallError:
            raise
        except Exception as error:  # a fault of the log: the connection goes on
            raise self.incident(error, following.run.method) from error
        try:
            yield _Batches(self, following.run.method, batches)
        except BaseException as error:
            if not await context.__aexit__(type(error), error, error.__traceback__):
                raise
        else:
            await context.__aexit__(None, None, None)

    async def leave_unread(self, following: Following) -> None:
        """Give up a run that nobody will read: one that is not durable is stopped."""
        if not following.run.durable:
            await following.run.stop("reader_gone")

    def incident(self, error: Exception, method: str) -> Internal:
        """Write down what must not have happened; the caller is told the number under which it stands in the log."""
        incident = new_id("inc")
        self.log.exception(  # noqa: LOG004  (called while it is handled)
            "transport failed", incident=incident, method=method, error=repr(error)
        )
        return Internal(incident)


class _Batches:
    """The batches of a run, whose faults come out as `CallError`."""

    def __init__(self, doorway: Doorway, method: str, batches: AsyncIterator[Sequence[Event]]) -> None:
        self._doorway = doorway
        self._method = method
        self._batches = batches

    def __aiter__(self) -> "_Batches":
        return self

    async def __anext__(self) -> Sequence[Event]:
        try:
            return await anext(self._batches)
        except (StopAsyncIteration, CallError):
            raise
        except Exception as error:  # a fault of the log: the connection goes on
            raise self._doorway.incident(error, self._method) from error
