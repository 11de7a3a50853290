"""A run: the log of what a streaming method says, and how it is followed."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import attrs

from clonk_core.messages import Caller, Event, StopReason


class Run(Protocol):
    """An ordered, numbered log of events with exactly one last event, `done`."""

    @property
    def id(self) -> str:
        """The subscription, `sub_...`."""

    @property
    def method(self) -> str:
        """Name of the method whose run it is."""

    @property
    def caller(self) -> Caller:
        """Who started it."""

    @property
    def target(self) -> str | None:
        """What it is about (a session's name), None for nothing."""

    @property
    def durable(self) -> bool:
        """Whether it goes on without a reader."""

    @property
    def state(self) -> Literal["running", "done"]:
        """`done` once its last event is stored."""

    @property
    def outcome(self) -> str | None:
        """How it ended, None while it runs."""

    @property
    def last_seq(self) -> int:
        """Number of the last stored event, 0 before the first."""

    def follow(self, after: int = 0) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Event]]]:
        """Read the events after number `after`, in batches of what is ready, waiting for more until `done`.

        A batch is at most 512 events and about 256 KiB. The iteration ends after `done`. Reads at the reader's own
        pace; events that retention has dropped are told by one gap event whose `seq` is the last one dropped.
        Leaving the context ends a run that is not durable.

        Raises:
            InvalidParams: `after` is beyond what the run has.
            StorageFull, Unavailable: The log cannot be written or read now; what was read stays read, come back later.
        """

    async def stop(self, reason: StopReason) -> None:
        """Stop the run and return when its `done` is stored; nothing when it has ended already."""


@attrs.frozen(kw_only=True)
class Following:
    """The answer of a streaming method: follow `run` after event number `after`.

    Attributes:
        run: Which run.
        after: Number of the last event that the caller has already.
        repeated: The run was there before: an earlier request with the same idempotency key has started it.
    """

    run: Run
    after: int = 0
    repeated: bool = False
